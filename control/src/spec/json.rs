//! JSON text to a tree. Its own reader, because errors must name places and every value must know its own.

use super::node::{Budget, Key, Kind, Node};
use super::problem::Place;
use super::{MAX_DEPTH, MAX_KEY_BYTES};

/// Why a text is no JSON, and where.
pub(super) type SyntaxError = (Place, String);

/// Reads one JSON value and nothing behind it.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut reader = Reader { rest: text, place: Place { line: 1, column: 1 }, budget: Budget::default() };
    reader.skip_space();
    let node = reader.value(0)?;
    reader.skip_space();
    if reader.rest.is_empty() { Ok(node) } else { reader.fail("something follows the closing bracket; remove it") }
}

struct Reader<'t> {
    rest: &'t str,
    place: Place,
    budget: Budget,
}

impl Reader<'_> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err((self.place, message.into()))
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.place = Place { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
        Some(c)
    }

    fn skip_space(&mut self) {
        while self.rest.starts_with([' ', '\t', '\r', '\n']) {
            self.next();
        }
    }

    fn skips(&mut self, c: char) -> bool {
        self.skip_space();
        let there = self.rest.starts_with(c);
        if there {
            self.next();
        }
        there
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return self.fail(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let place = self.place;
        let kind = match self.rest.chars().next() {
            Some('{') => self.map(depth)?,
            Some('[') => self.list(depth)?,
            Some('"') => Kind::Text(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some(c) if c.is_ascii_alphabetic() => self.word()?,
            Some(c) => return self.fail(format!("a value must begin here, not '{}'", c.escape_debug())),
            None => return self.fail("the text ends where a value must begin"),
        };
        let bytes = if let Kind::Text(text) | Kind::Number(_, text) = &kind { text.len() } else { 0 };
        self.budget.take(bytes).map_err(|message| (place, message))?;
        Ok(Node { place, kind })
    }

    fn map(&mut self, depth: usize) -> Result<Kind, SyntaxError> {
        let begin = self.place;
        self.next();
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while !self.skips('}') {
            if !entries.is_empty() && !self.skips(',') {
                return self.fail(format!("',' or '}}' is missing in the map that begins at line {}", begin.line));
            }
            self.skip_space();
            let place = self.place;
            if !self.rest.starts_with('"') {
                return self.fail("a key in double quotes must stand here");
            }
            let name = self.string()?;
            check_key(&name).map_err(|message| (place, message))?;
            if !seen.insert(name.clone()) {
                return Err((place, format!("the key {} stands twice in this map", crate::text::quoted(&name))));
            }
            self.budget.take(name.len()).map_err(|message| (place, message))?;
            if !self.skips(':') {
                return self.fail("':' is missing behind the key");
            }
            self.skip_space();
            entries.push((Key { name, place }, self.value(depth + 1)?));
        }
        Ok(Kind::Map(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Kind, SyntaxError> {
        let begin = self.place;
        self.next();
        let mut elements = Vec::new();
        while !self.skips(']') {
            if !elements.is_empty() && !self.skips(',') {
                return self.fail(format!("',' or ']' is missing in the list that begins at line {}", begin.line));
            }
            self.skip_space();
            elements.push(self.value(depth + 1)?);
        }
        Ok(Kind::List(elements))
    }

    /// A string's text by `serde_json`, which knows all escapes.
    fn string(&mut self) -> Result<String, SyntaxError> {
        let (place, begin) = (self.place, self.rest);
        self.next();
        loop {
            match self.next() {
                Some('"') => break,
                Some('\\') => {
                    self.next();
                }
                Some('\n') | None => return Err((place, "the string that begins here has no closing quote".into())),
                Some(_) => {}
            }
        }
        let text = &begin[..begin.len() - self.rest.len()];
        serde_json::from_str(text).map_err(|error| (place, format!("this string is not valid JSON: {}", without_place(&error))))
    }

    fn number(&mut self) -> Result<Kind, SyntaxError> {
        let (place, begin) = (self.place, self.rest);
        while self.rest.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) {
            self.next();
        }
        let text = &begin[..begin.len() - self.rest.len()];
        // serde_json knows the syntax, the standard library the nearest double.
        match (serde_json::from_str::<f64>(text), text.parse::<f64>()) {
            (Ok(_), Ok(value)) => Ok(Kind::Number(value, text.to_owned())),
            (Ok(_), Err(_)) => Err((place, format!("{} is not a number", crate::text::quoted(text)))),
            (Err(error), _) => {
                Err((place, format!("{} is not a JSON number: {}", crate::text::quoted(text), without_place(&error))))
            }
        }
    }

    fn word(&mut self) -> Result<Kind, SyntaxError> {
        let (place, begin) = (self.place, self.rest);
        while self.rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            self.next();
        }
        match &begin[..begin.len() - self.rest.len()] {
            "null" => Ok(Kind::Null),
            "true" => Ok(Kind::Bool(true)),
            "false" => Ok(Kind::Bool(false)),
            word => Err((place, format!("{} is no JSON value; text stands in double quotes", crate::text::quoted(word)))),
        }
    }
}

pub(super) fn check_key(name: &str) -> Result<(), String> {
    if name.len() > MAX_KEY_BYTES {
        return Err(format!(
            "the key {} has {} bytes; at most {MAX_KEY_BYTES} are allowed",
            crate::text::quoted(name),
            name.len()
        ));
    }
    Ok(())
}

/// The message without serde's own "at line 1 column 5", which counts from the value's begin.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head).to_owned()
}
