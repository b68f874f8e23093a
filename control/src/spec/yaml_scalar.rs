//! What a YAML scalar without quotes is (YAML 1.2, core schema), and which text may be written without quotes.

use super::node::Kind;

/// The value of a plain scalar.
///
/// # Errors
/// `.inf` and `.nan`, and numbers beyond a double: JSON has none of them.
pub(super) fn resolve(text: &str) -> Result<Kind, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Kind::Null),
        "true" | "True" | "TRUE" => return Ok(Kind::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Kind::Bool(false)),
        _ => {}
    }
    let value = if let Some(digits) = text.strip_prefix("0x") {
        radix(digits, 16)
    } else if let Some(digits) = text.strip_prefix("0o") {
        radix(digits, 8)
    } else if is_decimal(text) {
        text.parse::<f64>().ok()
    } else if is_no_number(text) {
        Some(f64::NAN)
    } else {
        None
    };
    match value {
        None => Ok(Kind::Text(text.to_owned())),
        Some(value) if value.is_finite() => Ok(Kind::Number(value, text.to_owned())),
        Some(_) => Err(format!("{} can not be kept as a number; write it in quotes", crate::text::quoted(text))),
    }
}

fn radix(digits: &str, radix: u32) -> Option<f64> {
    // A sign would be accepted by the parser, but not by YAML.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(u64::from_str_radix(digits, radix).map_or(f64::NAN, |value| value as f64))
}

fn is_no_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_decimal(text: &str) -> bool {
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (text, None),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    (!whole.is_empty() || !fraction.is_empty())
        && digits(whole)
        && digits(fraction)
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

/// Whether every reader of YAML, old ones too, takes `text` without quotes as this text.
pub(super) fn is_plain(text: &str) -> bool {
    // YAML 1.1 has more words for true, false and null.
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/' | '$'));
    let inside = text.chars().all(|c| c.is_ascii_alphanumeric() || " _/$.-+@:=(){}<>\"'".contains(c));
    begins
        && inside
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains("<<")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_what_yaml_1_2_says() {
        let texts = ["1.0.0", "yes", "1_000", "0x", "0xg", "+", ".", "e5", "1e", "12:30", "0o9", "-0x1"];
        for text in texts {
            assert_eq!(resolve(text), Ok(Kind::Text(text.into())));
        }
        let numbers = [
            ("1", 1.0),
            ("-1.5", -1.5),
            (".5", 0.5),
            ("1.", 1.0),
            ("1e3", 1000.0),
            ("0x1F", 31.0),
            ("0o17", 15.0),
            ("010", 10.0),
        ];
        for (text, value) in numbers {
            assert_eq!(resolve(text), Ok(Kind::Number(value, text.into())));
        }
        for text in [".inf", "-.Inf", ".nan", "1e999", "0xfffffffffffffffff"] {
            assert!(resolve(text).is_err(), "{text}");
        }
    }

    #[test]
    fn text_that_may_mean_something_else_is_not_plain() {
        for text in ["", "1.0.0", "on", "No", "a: b", "a:", "a ", "- a", "# a", "{a}", "a #b", "*a", "a\nb", "<<", "[a]", "ü"] {
            assert!(!is_plain(text), "{text}");
        }
        for text in ["shell", "${{ A }}", "rust:1.95", "cargo test --all", "a == 'b'"] {
            assert!(is_plain(text), "{text}");
        }
    }
}
