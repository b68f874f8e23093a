//! What names, versions and plugins look like.

use prost_types::value::Kind;

/// The longest name: ids are made of three of them.
pub(super) const MAX_CHARS: usize = 128;

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// Letters, digits, `_` and `-`.
pub(super) fn is_name(text: &str) -> bool {
    is_word(text) && text.len() <= MAX_CHARS
}

/// `1.2.3` or `1.2.3-rc1`.
pub(super) fn is_version(text: &str) -> bool {
    let (numbers, suffix) = text.split_once('-').map_or((text, None), |(numbers, suffix)| (numbers, Some(suffix)));
    let mut count = 0;
    let digits =
        numbers.split('.').inspect(|_| count += 1).all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()));
    digits && count == 3 && suffix.is_none_or(|suffix| !suffix.is_empty() && suffix.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// A name, or `name@1.2.3`.
pub(super) fn is_plugin(text: &str) -> bool {
    let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
    is_name(name) && version.is_none_or(is_version)
}

/// Whether a value can be written as JSON.
pub(super) fn is_json(value: &prost_types::Value) -> bool {
    match &value.kind {
        None => false,
        Some(Kind::NumberValue(number)) => number.is_finite(),
        Some(Kind::ListValue(list)) => list.values.iter().all(is_json),
        Some(Kind::StructValue(object)) => object.fields.values().all(is_json),
        Some(Kind::NullValue(_) | Kind::BoolValue(_) | Kind::StringValue(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_plugins_are_as_documented() {
        for text in ["1.2.3", "0.0.10-rc1"] {
            assert!(is_version(text), "{text}");
        }
        for text in ["1", "1.2", "1.2.3.4", "v1.2.3", "1.2.3-", "1.2.3-a.b", "1.2.x", "1..3", ""] {
            assert!(!is_version(text), "{text}");
        }
        for text in ["shell", "my_plugin-2@1.2.3-rc1"] {
            assert!(is_plugin(text), "{text}");
        }
        for text in ["actions/x@v1", "builtin:shell", "shell@", "shell@1", "@1.2.3", "a@1.2.3@1.2.3"] {
            assert!(!is_plugin(text), "{text}");
        }
    }
}
