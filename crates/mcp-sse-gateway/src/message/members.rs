//! The members of a JSON object, to change some and to keep the others as they came, and messages that are changed so.

use std::{collections::HashSet, fmt};

use mcp_sse::{Message, RequestId};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
    ser::SerializeMap as _,
};
use serde_json::value::RawValue;

/// The members of an object, in order. No name is there twice: readers of JSON understand that differently.
#[derive(Debug, Default)]
pub(crate) struct Members<'a>(Vec<(String, Text<'a>)>);

#[derive(Debug)]
enum Text<'a> {
    AsItCame(&'a RawValue),
    New(Box<RawValue>),
}

impl Text<'_> {
    fn as_raw(&self) -> &RawValue {
        match self {
            Self::AsItCame(text) => text,
            Self::New(text) => text,
        }
    }
}

impl<'a> Members<'a> {
    /// Of this text; `None` if it is no object, or has a name twice.
    pub(crate) fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names and their values, as JSON.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, value.as_raw().get()))
    }

    /// A value, as JSON.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_raw().get())
    }

    /// A value that is a string.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// Sets a value, which is serialized.
    pub(crate) fn set(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        // What is serialized here is no map whose keys are no strings.
        let Ok(value) = serde_json::value::to_raw_value(value) else { return };
        let value = Text::New(value);
        match self.0.iter_mut().find(|(of, _)| of == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Sets a value that is JSON already; if it is not, nothing is set.
    pub(crate) fn set_json(&mut self, name: &str, json: &str) {
        if let Ok(raw) = serde_json::from_str::<&RawValue>(json) {
            self.set(name, raw);
        }
    }

    /// Removes a value; whether it was there.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(of, _)| of != name);
        self.0.len() < before
    }

    /// The object as JSON.
    pub(crate) fn write(&self) -> String {
        // It is made of names and of JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The same as a message, if it is one.
    pub(crate) fn message(&self) -> Option<Message> {
        Message::parse(self.write()).ok()
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value.as_raw())?;
        }
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((name, Text::AsItCame(value)));
                }
                let names: HashSet<&str> = members.iter().map(|(name, _)| &**name).collect();
                if names.len() < members.len() {
                    return Err(A::Error::custom("a name is given twice"));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

/// The message with this id, and nothing else changed; a notification stays as it is.
pub(crate) fn with_id(message: &Message, id: &RequestId) -> Option<Message> {
    if message.id().is_none_or(|of| of == id) {
        return Some(message.clone());
    }
    let mut members = Members::read(message.as_str())?;
    members.set_json("id", &id.to_string());
    members.message()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_came() {
        let json = r#"{"b": 1.0e2 ,"a":{ "x":[1, 2]},"c":"\u00e9"}"#;
        let mut members = Members::read(json).unwrap();
        members.set("d", "new");
        members.set_json("a", "[ 3 ]");
        assert!(members.remove("c"));
        assert!(!members.remove("c"));
        assert_eq!(members.write(), r#"{"b":1.0e2,"a":[ 3 ],"d":"new"}"#);
        assert_eq!(members.get("b"), Some("1.0e2"));
        assert_eq!(members.text("d").as_deref(), Some("new"));
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused() {
        assert!(Members::read(r#"{"a":1,"\u0061":2}"#).is_none());
        assert!(Members::read("[]").is_none());
    }

    #[test]
    fn an_id_is_replaced_by_another() {
        let message = Message::parse(r#"{"jsonrpc":"2.0","id":1,"result":{"big": 1.00}}"#).unwrap();
        let other = with_id(&message, &RequestId::from("x")).unwrap();
        assert_eq!(other.as_str(), r#"{"jsonrpc":"2.0","id":"x","result":{"big": 1.00}}"#);
    }
}
