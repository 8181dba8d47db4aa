//! JSON that can be what readers of JSON do not agree on: names twice, escapes, numbers that are too large.

use std::fmt;

use super::super::Random;

/// A value; scalars and names are kept as they are written.
#[derive(Clone, Debug)]
pub(super) enum Json {
    Scalar(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

const SCALARS: [&str; 24] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "1.0",
    "-1",
    "1e2",
    "1e999",
    "-1e-999",
    "9007199254740993",
    "18446744073709551616",
    "1.7976931348623157e308",
    r#""""#,
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\ud83d\ude00""#,
    r#""a\r\n""#,
    r#""=?base64?YQ==?=""#,
    r#""input_required""#,
    r#""complete""#,
    r#""own-1""#,
    "\"\u{2028}\u{e9}\"",
];

impl Json {
    pub(super) fn read(text: &str) -> Self {
        Self::of(&serde_json::from_str(text).expect("JSON"))
    }

    fn of(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Array(values) => Self::Array(values.iter().map(Self::of).collect()),
            serde_json::Value::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (name.clone(), Self::of(value))).collect())
            }
            scalar => Self::Scalar(scalar.to_string()),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        matches!(self, Self::Object(members) if members.iter().any(|(of, _)| of == name))
    }

    /// Sets each member with this name.
    pub(super) fn set(&mut self, name: &str, scalar: &str) {
        if let Self::Object(members) = self {
            for (_, value) in members.iter_mut().filter(|(of, _)| of == name) {
                *value = Self::Scalar(scalar.to_owned());
            }
        }
    }

    fn count(&self) -> usize {
        1 + match self {
            Self::Scalar(_) => 0,
            Self::Array(values) => values.iter().map(Self::count).sum(),
            Self::Object(members) => members.iter().map(|(_, value)| value.count()).sum(),
        }
    }

    /// The value with this number, counted from the outside in.
    fn at(&mut self, mut number: usize) -> &mut Self {
        let mut at = self;
        loop {
            if number == 0 {
                return at;
            }
            number -= 1;
            let values: Vec<&mut Self> = match at {
                Self::Scalar(_) => unreachable!("it has nothing in it"),
                Self::Array(values) => values.iter_mut().collect(),
                Self::Object(members) => members.iter_mut().map(|(_, value)| value).collect(),
            };
            let mut next = None;
            for value in values {
                let count = value.count();
                if number < count {
                    next = Some(value);
                    break;
                }
                number -= count;
            }
            at = next.expect("there are so many");
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(text) => f.write_str(text),
            Self::Array(values) => {
                f.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (index, (name, value)) in members.iter().enumerate() {
                    let name = serde_json::Value::from(&**name);
                    write!(f, "{}{name}:{value}", if index == 0 { "" } else { "," })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Changes messages, the same way each time.
pub(super) struct Mutator<'a> {
    pub(super) random: Random,
    corpus: &'a [Json],
}

impl<'a> Mutator<'a> {
    pub(super) fn new(seed: u64, corpus: &'a [Json]) -> Self {
        Self { random: Random::new(seed), corpus }
    }

    /// A message with a few changes; sometimes none.
    pub(super) fn json(&mut self) -> Json {
        let mut json = self.random.of(self.corpus).clone();
        for _ in 0..self.random.below(5) {
            self.changes(&mut json);
        }
        json
    }

    /// Some part of some message.
    fn part(&mut self) -> Json {
        let mut json = self.random.of(self.corpus).clone();
        let number = self.random.below(json.count());
        json.at(number).clone()
    }

    fn changes(&mut self, json: &mut Json) {
        let number = self.random.below(json.count());
        let kind = self.random.below(8);
        let (part, scalar) = (self.part(), self.random.of(&SCALARS).to_string());
        // Large and deep ones are rare, as they take long.
        let most = if self.random.once_in(50) { 64 } else { 4 };
        let which = self.random.below(most);
        match (kind, json.at(number)) {
            (0, at) => *at = part,
            (1, at) => *at = Json::Scalar(scalar),
            (2, at) => {
                for _ in 0..which * 4 {
                    let inner = std::mem::replace(at, Json::Array(Vec::new()));
                    *at = if which.is_multiple_of(2) {
                        Json::Array(vec![inner])
                    } else {
                        Json::Object(vec![("properties".to_owned(), inner)])
                    };
                }
            }
            (3, Json::Object(members)) if !members.is_empty() => {
                members.remove(which % members.len());
            }
            // A name twice, at different places.
            (4, Json::Object(members)) if !members.is_empty() => {
                let (name, value) = members[which % members.len()].clone();
                members.push((name, if which.is_multiple_of(2) { value } else { part }));
            }
            (5, Json::Object(members)) => match part {
                Json::Object(others) => members.extend(others),
                other => members.push(("x-mcp-header".to_owned(), other)),
            },
            (6, Json::Object(members)) if members.len() > 1 => {
                let (one, other) = (which % members.len(), (which / 7) % members.len());
                let name = members[one].0.clone();
                members[one].0 = std::mem::replace(&mut members[other].0, name);
            }
            (_, Json::Array(values)) if !values.is_empty() => {
                let value = values[which % values.len()].clone();
                values.extend(std::iter::repeat_n(value, which));
            }
            (_, Json::Scalar(text)) if text.starts_with('"') => {
                *text = format!("\"{}\"", "\u{fc}x".repeat(which * which));
            }
            (_, at) => *at = Json::Scalar(scalar),
        }
    }

    /// The message as it may be written: with spaces and escapes that mean nothing, and once in a while with a byte that is
    /// wrong.
    pub(super) fn written(&mut self, json: &Json) -> String {
        let text = json.to_string();
        match self.random.below(6) {
            0 => self.escaped(&text),
            1 => {
                let mut spaced = String::new();
                let mut in_text = false;
                let mut is_escape = false;
                for char in text.chars() {
                    spaced.push(char);
                    in_text ^= char == '"' && !is_escape;
                    is_escape = char == '\\' && !is_escape;
                    if !in_text && matches!(char, '{' | '}' | '[' | ']' | ',' | ':') && self.random.once_in(4)
                    {
                        let space: &str = self.random.of::<&str>(&[" ", "\t", "\n", "\r\n"]);
                        spaced.push_str(space);
                    }
                }
                spaced
            }
            2 if self.random.once_in(2) => {
                let mut chars: Vec<char> = text.chars().collect();
                let at = self.random.below(chars.len());
                let wrong = *self.random.of(&['"', '\\', '{', '}', ',', ':', '0', '\u{0}', '\u{2028}', 'e']);
                match self.random.below(3) {
                    0 => chars[at] = wrong,
                    1 => chars.insert(at, wrong),
                    _ => chars.truncate(at),
                }
                chars.into_iter().collect()
            }
            _ => text,
        }
    }

    /// Letters in names and texts as escapes.
    fn escaped(&mut self, text: &str) -> String {
        let mut escaped = String::new();
        let (mut in_text, mut is_escape) = (false, false);
        for char in text.chars() {
            let is_quote = char == '"' && !is_escape;
            let may = in_text && !is_quote && !is_escape && char.is_ascii_alphabetic();
            if may && self.random.once_in(3) {
                escaped.push_str(&format!("\\u{:04x}", u32::from(char)));
            } else {
                escaped.push(char);
            }
            in_text ^= is_quote;
            is_escape = char == '\\' && !is_escape;
        }
        escaped
    }
}
