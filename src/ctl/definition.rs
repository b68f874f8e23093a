//! The text of a pipeline's definition, read here so that mistakes are told with their lines.

use std::io::Read;
use std::path::Path;

use arcgate_control::spec::{self, Document, Format, MAX_BYTES, Place, Segment, Spec};

use super::error::CtlError;

/// A definition that was read.
#[derive(Debug)]
pub(super) struct Definition {
    /// How the file is called.
    pub(super) file: String,
    pub(super) format: Format,
    document: Document,
}

impl Definition {
    /// Reads a file; `-` is stdin.
    pub(super) fn read(path: &Path) -> Result<Self, CtlError> {
        let failed = |source| CtlError::Read { path: path.to_owned(), source };
        // One byte more than is allowed, so that what is too long is told as such.
        let bound = MAX_BYTES as u64 + 1;
        let mut text = String::new();
        if path == Path::new("-") {
            std::io::stdin().lock().take(bound).read_to_string(&mut text).map_err(failed)?;
            return Self::of("stdin", &text);
        }
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(bound).read_to_string(&mut text).map_err(failed)?;
        Self::of(&path.display().to_string(), &text)
    }

    pub(super) fn of(file: &str, text: &str) -> Result<Self, CtlError> {
        let format = Format::of(file, text);
        let document = spec::read(text, format).map_err(|problems| CtlError::Definition { file: file.to_owned(), problems })?;
        Ok(Self { file: file.to_owned(), format, document })
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.document.spec
    }

    /// Where the value at a path, as the gateway writes it, stands; nothing if it is no path.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        segments(path).map(|segments| self.document.place(&spec::Path(segments)))
    }
}

/// Reads `jobs[1].env['A B']`.
fn segments(text: &str) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix("['") {
            let (key, after) = inner.split_once("']")?;
            segments.push(Segment::Key(key.to_owned()));
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']')?;
            segments.push(Segment::Index(index.parse().ok()?));
            rest = after;
        } else {
            let key = if segments.is_empty() { rest } else { rest.strip_prefix('.')? };
            let end = key.find(['.', '[']).unwrap_or(key.len());
            let word = &key[..end];
            if word.is_empty() || word.contains(' ') {
                return None;
            }
            segments.push(Segment::Key(word.to_owned()));
            rest = &key[end..];
        }
    }
    (!segments.is_empty()).then_some(segments)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        for path in ["namespace", "jobs[1].steps[0].agent_selector", "jobs[0].env['A B'].x", "['a b'][3]"] {
            assert_eq!(spec::Path(segments(path).unwrap()).to_string(), path);
        }
        for text in ["", "the definition", "a..b", "a[x]", "a[1", "['a"] {
            assert_eq!(segments(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_file_and_line() {
        let told = Definition::of("a.yaml", "namespace: a\njbos: []\n").unwrap_err().to_string();
        assert!(told.starts_with("a.yaml: line 2, column 1: ") && told.contains("did you mean jobs?"), "{told}");
        let definition = Definition::of("a.yaml", "namespace: a\njobs:\n- name: j\n").unwrap();
        assert_eq!(definition.place("jobs[0].name").map(|place| place.line), Some(3));
        assert_eq!(definition.place("the definition"), None);
    }
}
