//! A JSON file as nodes, each with the bytes it was written in, so that whatever is wrong has its place.

use std::ops::Range;

use super::Wrong;

/// A value and where it stands.
#[derive(Debug)]
pub struct Node {
    pub span: Range<usize>,
    pub value: Value,
}

/// What it is. Numbers keep their text.
#[derive(Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Member>),
}

/// A key with its value.
#[derive(Debug)]
pub struct Member {
    pub key: String,
    pub key_span: Range<usize>,
    pub node: Node,
}

impl Node {
    /// The value of a key; of equal keys the last.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.members().iter().rev().find(|member| member.key == key).map(|member| &member.node)
    }

    /// The members of a map, in order.
    pub fn members(&self) -> &[Member] {
        match &self.value {
            Value::Map(members) => members,
            _ => &[],
        }
    }

    /// The elements of a list.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of the string at `key`.
    pub fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// The whole number at `key`.
    pub fn number_of(&self, key: &str) -> Option<u8> {
        match &self.get(key)?.value {
            Value::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Whether `key` says `true`.
    pub fn says(&self, key: &str) -> bool {
        self.get(key).is_some_and(|node| matches!(node.value, Value::Bool(true)))
    }

    /// A place for messages: of lists and maps the bracket that opens them.
    pub fn head(&self) -> Range<usize> {
        match self.value {
            Value::List(_) | Value::Map(_) => self.span.start..self.span.start + 1,
            _ => self.span.clone(),
        }
    }
}

/// The tree of a text, or where it is no JSON. Depth is that of serde_json, 128.
pub fn parse(text: &str) -> Result<Node, Wrong> {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        let start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = text.floor_char_boundary((start + error.column().saturating_sub(1)).min(text.len()));
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or(&words);
        let end = text.ceil_char_boundary((at + 1).min(text.len()));
        return Err(Wrong::new(at..end, format!("malformed JSON: {words}")));
    }
    Ok(Parser { text, at: 0 }.node())
}

/// Reads text that is known to be JSON.
struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    fn node(&mut self) -> Node {
        let first = self.peek();
        let start = self.at;
        let value = match first {
            b'{' => Value::Map(self.members()),
            b'[' => Value::List(self.items()),
            b'"' => Value::Text(self.string()),
            b't' | b'f' | b'n' => match self.word() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => Value::Null,
            },
            _ => Value::Number(self.word().to_owned()),
        };
        Node { span: start..self.at, value }
    }

    fn members(&mut self) -> Vec<Member> {
        let mut members = Vec::new();
        self.at += 1;
        while !matches!(self.peek(), b'}' | 0) {
            let start = self.at;
            let key = self.string();
            let key_span = start..self.at;
            self.take(b':');
            members.push(Member { key, key_span, node: self.node() });
            self.take(b',');
        }
        self.take(b'}');
        members
    }

    fn items(&mut self) -> Vec<Node> {
        let mut items = Vec::new();
        self.at += 1;
        while !matches!(self.peek(), b']' | 0) {
            items.push(self.node());
            self.take(b',');
        }
        self.take(b']');
        items
    }

    fn string(&mut self) -> String {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at).filter(|byte| **byte != b'"') {
            self.at += if *byte == b'\\' { 2 } else { 1 };
        }
        self.at = (self.at + 1).min(bytes.len());
        serde_json::from_str(&self.text[start..self.at]).unwrap_or_default()
    }

    fn word(&mut self) -> &str {
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find([',', ']', '}', ' ', '\n', '\r', '\t']).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn take(&mut self, byte: u8) {
        self.at += usize::from(self.peek() == byte);
    }

    /// The byte behind white space, or 0 at the end.
    fn peek(&mut self) -> u8 {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_knows_its_bytes() {
        let text = " { \"a\\\"\" : [ 1.50 , true,null ,{} ] , \"b\" : \"x\\u00e9\" } ";
        let root = parse(text).unwrap();
        let of = |node: &Node| &text[node.span.clone()];
        assert_eq!(of(&root), text.trim());
        let list = root.get("a\"").unwrap();
        assert_eq!(list.items().unwrap().iter().map(of).collect::<Vec<_>>(), ["1.50", "true", "null", "{}"]);
        assert_eq!(root.text_of("b"), Some("xé"));
        assert_eq!(&text[root.members()[1].key_span.clone()], "\"b\"");
    }
}
