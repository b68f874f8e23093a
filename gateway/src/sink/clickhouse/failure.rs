//! What ClickHouse says when it refuses, and whether trying again helps.

use std::time::Duration;

use clickhouse::error::Error;

use crate::sink::DeliveryError;

/// What to do about a certificate that is not trusted.
const CERTIFICATE: &str = "; check clickhouse.url and clickhouse.tls_ca_file, which is read again at each try";
/// How the server says that it was not the table itself but a view on it that took no rows.
const PUSHING: &str = "while pushing to view";
/// How much of the server's text is shown.
const SHOWN: usize = 400;

/// Codes that say that something at the server is missing or forbidden: rights, passwords, tables, columns, settings. The schema
/// and the password are looked at again before the next try.
const NOT_READY: &[u32] = &[
    16,  // NO_SUCH_COLUMN_IN_TABLE
    36,  // BAD_ARGUMENTS: a setting or engine that this server does not have
    47,  // UNKNOWN_IDENTIFIER
    48,  // NOT_IMPLEMENTED
    53,  // TYPE_MISMATCH
    60,  // UNKNOWN_TABLE
    81,  // UNKNOWN_DATABASE
    115, // UNKNOWN_SETTING
    164, // READONLY
    170, // BAD_GET: no such cluster
    192, // UNKNOWN_USER
    193, // WRONG_PASSWORD
    194, // REQUIRED_PASSWORD
    291, // DATABASE_ACCESS_DENIED
    492, // ACCESS_ENTITY_NOT_FOUND
    497, // ACCESS_DENIED
    511, // UNKNOWN_ROLE
    516, // AUTHENTICATION_FAILED
    701, // CLUSTER_DOESNT_EXIST
];

/// Codes that speak of the rows themselves: the same rows will be refused again.
const PERMANENT: &[u32] = &[
    6,   // CANNOT_PARSE_TEXT
    27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
    69,  // ARGUMENT_OUT_OF_BOUND
    72,  // CANNOT_PARSE_NUMBER
    117, // INCORRECT_DATA
    128, // TOO_LARGE_ARRAY_SIZE
    131, // TOO_LARGE_STRING_SIZE
    349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    469, // VIOLATED_CONSTRAINT
];

/// What to do with a batch after `error` of the server at `url`. Whatever is not known to be for good is tried again: no line is
/// given up because of a code that a later server has.
#[must_use]
pub fn classify(url: &str, error: &Error) -> DeliveryError {
    let why = describe(url, error);
    match error {
        // The rows may be in the table: in parts, under other tokens, they would be there twice.
        Error::BadResponse(text) if text.contains(PUSHING) => DeliveryError::not_ready(why),
        Error::BadResponse(text) => match code(text) {
            Some(code) if NOT_READY.contains(&code) => DeliveryError::not_ready(why),
            Some(code) if PERMANENT.contains(&code) => DeliveryError::permanent(why),
            _ => DeliveryError::transient(why),
        },
        _ if why.ends_with(CERTIFICATE) => DeliveryError::not_ready(why),
        _ => DeliveryError::transient(why),
    }
}

/// What happened, to what, and what to do, in one line. The same cause gives the same text.
#[must_use]
pub fn describe(url: &str, error: &Error) -> String {
    match error {
        Error::BadResponse(text) => {
            let shown = one_line(text);
            // Its name stands at the end of a text that may be too long to be shown whole.
            let view = text.split_once(PUSHING).and_then(|(_, rest)| rest.split_whitespace().next());
            match (view, code(text).and_then(hint)) {
                (Some(view), _) => {
                    let view = view.trim_end_matches([':', '.', ',']);
                    format!("ClickHouse at {url} refuses: {shown}; mend or drop the view {view}: nothing is delivered until then")
                }
                (None, Some(hint)) => format!("ClickHouse at {url} refuses: {shown}; {hint}"),
                (None, None) => format!("ClickHouse at {url} refuses: {shown}"),
            }
        }
        Error::TimedOut => format!("ClickHouse at {url} does not answer in time (clickhouse.timeout)"),
        other => {
            let causes = one_line(&with_causes(other));
            let hint = if causes.contains("invalid peer certificate") { CERTIFICATE } else { "" };
            format!("ClickHouse at {url} cannot be reached: {causes}{hint}")
        }
    }
}

/// What is said of a server that was silent for `limit`.
#[must_use]
pub fn silent(url: &str, limit: Duration) -> String {
    format!("ClickHouse at {url} does not answer within {} s (clickhouse.timeout)", limit.as_secs())
}

/// The number in `Code: 241. DB::Exception: …`.
fn code(text: &str) -> Option<u32> {
    let rest = text.split_once("Code: ")?.1;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..digits)?.parse().ok()
}

fn hint(code: u32) -> Option<&'static str> {
    Some(match code {
        60 | 81 | 16 | 47 => "apply the schema (`arcgate clickhouse schema`), or let the gateway do it (clickhouse.apply_schema)",
        192 | 193 | 194 | 516 => "check clickhouse.user and clickhouse.password_file, which is read again at each try",
        164 | 291 | 497 => "grant clickhouse.user SELECT and INSERT, and to apply the schema CREATE and ALTER, on the database",
        241 => "give the server more memory, or lower clickhouse.batch_rows",
        243 => "free disk space at the server",
        252 => "the server merges too slowly; raise clickhouse.batch_age",
        170 | 701 => "check clickhouse.cluster",
        _ => return None,
    })
}

/// In one line, without what changes from one answer to the next: the server's version, and numbers that count bytes.
fn one_line(text: &str) -> String {
    let text = text.split(" (version ").next().unwrap_or(text);
    let mut words: Vec<_> = text.split_whitespace().collect();
    for at in 1..words.len() {
        let is_unit = ["B", "KiB", "MiB", "GiB", "TiB"].contains(&words[at].trim_end_matches([',', '.', ')', ';']));
        if is_unit && words[at - 1].parse::<f64>().is_ok() {
            words[at - 1] = "…";
        }
    }
    let mut line = words.join(" ");
    if line.len() > SHOWN {
        line.truncate(line.floor_char_boundary(SHOWN));
        line.push('…');
    }
    line
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> DeliveryError {
        classify("http://ch:8123", &Error::BadResponse(text.into()))
    }

    #[test]
    fn memory_disk_and_unknown_codes_are_tried_again() {
        for code in [241, 243, 252, 319, 1001, 9999] {
            let error = refusal(&format!("Code: {code}. DB::Exception: no. (NO) (version 26.9)"));
            assert!(matches!(error, DeliveryError::Transient { .. }), "{code}");
        }
        assert!(matches!(refusal("502 Bad Gateway"), DeliveryError::Transient { .. }));
        assert!(matches!(classify("u", &Error::TimedOut), DeliveryError::Transient { .. }));
    }

    #[test]
    fn rights_passwords_and_tables_are_looked_at_again_first() {
        for code in [16, 60, 81, 497, 516] {
            assert!(matches!(refusal(&format!("Code: {code}. DB::Exception: no")), DeliveryError::NotReady { .. }), "{code}");
        }
    }

    #[test]
    fn rows_that_are_refused_for_themselves_are_refused_for_good() {
        assert!(matches!(refusal("Code: 469. DB::Exception: Constraint is violated"), DeliveryError::Permanent { .. }));
    }

    #[test]
    fn a_view_that_fails_has_the_same_rows_sent_again_since_they_may_be_there() {
        let text = "of a line that is long ".repeat(SHOWN / 20);
        let error = refusal(&format!("Code: 6. Cannot parse '{text}': while pushing to view own.view. (CANNOT_PARSE_TEXT)"));
        let hint = "mend or drop the view own.view: nothing is delivered until then";
        assert!(matches!(error, DeliveryError::NotReady { ref why } if why.ends_with(hint)), "{error}");
    }

    #[test]
    fn the_same_cause_has_the_same_text_however_much_memory_it_was_about() {
        let of = |used: &str| {
            refusal(&format!("Code: 241. DB::Exception: memory limit exceeded: would use {used} GiB, maximum: 9.00 GiB."))
                .to_string()
        };
        assert_eq!(of("9.31"), of("9.4"));
        assert!(of("9.31").contains("would use … GiB, maximum: … GiB.; give the server more memory"), "{}", of("9.31"));
    }

    #[test]
    fn the_text_names_the_server_the_cause_and_what_to_do() {
        let text = refusal("Code: 516. DB::Exception: default: Authentication failed.\n (version 26.9.2.1 (official build))")
            .to_string();
        assert_eq!(
            text,
            "ClickHouse at http://ch:8123 refuses: Code: 516. DB::Exception: default: Authentication failed.; check clickhouse.user and \
             clickhouse.password_file, which is read again at each try"
        );
    }
}
