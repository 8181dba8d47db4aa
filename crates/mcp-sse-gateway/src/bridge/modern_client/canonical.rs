//! JSON that is the same text whenever it means the same: without spaces, and with the members of objects in order.

use serde_json::Value;

pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// Its depth is bounded by the reader of JSON.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(value, text);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_members_and_spaces_do_not_matter() {
        let read = |json: &str| canonical(&serde_json::from_str(json).unwrap());
        assert_eq!(
            read(r#"{ "b": [1, {"d":null,"c":"\u00e9"}], "a": true }"#),
            r#"{"a":true,"b":[1,{"c":"é","d":null}]}"#
        );
        assert_ne!(read("[1,2]"), read("[2,1]"));
    }
}
