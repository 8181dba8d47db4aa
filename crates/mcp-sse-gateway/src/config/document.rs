//! JSON that knows the position of every value.

use jsonc_parser::{
    CollectOptions, ParseOptions,
    ast::{ObjectProp, Value},
    common::Ranged as _,
    parse_to_ast,
};

/// A JSON file; comments and trailing commas are allowed.
#[derive(Debug)]
pub(super) struct Document<'a> {
    file: &'a str,
    text: &'a str,
    root: Option<Value<'a>>,
}

impl<'a> Document<'a> {
    pub(super) fn parse(file: &'a str, text: &'a str) -> Result<Self, String> {
        // Windows editors write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let options = ParseOptions::default();
        match parse_to_ast(text, &CollectOptions::default(), &options) {
            Ok(parsed) => Ok(Self { file, text, root: parsed.value }),
            Err(error) => {
                let line = line(text, error.range().start);
                Err(format!("{file}:{line}: not JSON: {}", error.kind()))
            }
        }
    }

    pub(super) fn root(&self) -> Result<Node<'_>, String> {
        match &self.root {
            Some(value) => Ok(Node { document: self, value, path: String::new(), at: value.start() }),
            None => Err(format!("{}:1: the file is empty; expected an object \"mcpServers\"", self.file)),
        }
    }
}

fn line(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count() + 1
}

/// A value in a document.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    document: &'a Document<'a>,
    value: &'a Value<'a>,
    path: String,
    /// Where it begins; for a member of an object, where its key begins.
    at: usize,
}

impl<'a> Node<'a> {
    /// An error about this value, with its position.
    pub(super) fn wrong(&self, why: &str) -> String {
        let Document { file, text, .. } = self.document;
        let line = line(text, self.at);
        if self.path.is_empty() {
            format!("{file}:{line}: {why}")
        } else {
            format!("{file}:{line}: {}: {why}", self.path)
        }
    }

    fn expected(&self, what: &str) -> String {
        let found = match self.value {
            Value::StringLit(_) => "a string",
            Value::NumberLit(_) => "a number",
            Value::BooleanLit(_) => "true or false",
            Value::Object(_) => "an object",
            Value::Array(_) => "a list",
            Value::NullKeyword(_) => "null",
        };
        self.wrong(&format!("expected {what}, found {found}"))
    }

    pub(super) fn string(&self) -> Result<&'a str, String> {
        match self.value {
            Value::StringLit(string) => Ok(&string.value),
            _ => Err(self.expected("a string")),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, String> {
        match self.value {
            Value::BooleanLit(boolean) => Ok(boolean.value),
            _ => Err(self.expected("true or false")),
        }
    }

    pub(super) fn is_string(&self) -> bool {
        matches!(self.value, Value::StringLit(_))
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self.value, Value::NumberLit(_))
    }

    /// The value as a whole number, 1 or more.
    pub(super) fn number(&self, what: &str) -> Result<u64, String> {
        match self.value {
            Value::NumberLit(number) => number.value.parse().ok().filter(|&number| number > 0),
            _ => return Err(self.expected(what)),
        }
        .ok_or_else(|| self.wrong(&format!("expected {what}, whole and 1 or more")))
    }

    pub(super) fn array(&self) -> Result<Vec<Node<'a>>, String> {
        let Value::Array(array) = self.value else { return Err(self.expected("a list")) };
        let elements = array.elements.iter().enumerate();
        Ok(elements
            .map(|(index, value)| Node {
                document: self.document,
                value,
                path: format!("{}[{index}]", self.path),
                at: value.start(),
            })
            .collect())
    }

    /// The value as an object; a repeated key is an error.
    pub(super) fn object(&self) -> Result<Object<'a>, String> {
        let Value::Object(object) = self.value else { return Err(self.expected("an object")) };
        let entries: Vec<_> = object.properties.iter().map(|property| self.member(property)).collect();
        for (index, (key, node)) in entries.iter().enumerate() {
            if entries[..index].iter().any(|(other, _)| other == key) {
                return Err(node.wrong("this key appears twice"));
            }
        }
        Ok(Object { node: self.clone(), entries })
    }

    fn member(&self, property: &'a ObjectProp<'a>) -> (&'a str, Node<'a>) {
        let key = property.name.as_str();
        let dot = if self.path.is_empty() { "" } else { "." };
        let path = format!("{}{dot}{key}", self.path);
        (key, Node { document: self.document, value: &property.value, path, at: property.start() })
    }
}

/// An object with its members.
#[derive(Debug)]
pub(super) struct Object<'a> {
    node: Node<'a>,
    entries: Vec<(&'a str, Node<'a>)>,
}

impl<'a> Object<'a> {
    pub(super) fn node(&self) -> &Node<'a> {
        &self.node
    }

    pub(super) fn get(&self, key: &str) -> Option<Node<'a>> {
        self.entries.iter().find(|(other, _)| *other == key).map(|(_, node)| node.clone())
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &Node<'a>)> {
        self.entries.iter().map(|(key, node)| (*key, node))
    }
}
