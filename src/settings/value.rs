//! Values as people write them: `512MiB`, `1h30m`, `80%`, `127.0.0.1:9090`. The errors end a sentence: "logs.max_line = "x" …".

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::schema::{Listen, Room};

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a size: a whole number of bytes, or with a unit (`64KiB`, `1GB`).
///
/// # Errors
/// Any other text.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = unit.trim_start();
    let factor = SIZES.iter().find(|(name, _)| unit.is_empty() || name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor);
    number
        .parse()
        .ok()
        .zip(factor)
        .and_then(|(number, factor): (u64, u64)| number.checked_mul(factor))
        .ok_or_else(|| "is not a size; write one as \"512MiB\"".to_owned())
}

/// Reads a time: numbers with units, the largest first (`10s`, `1h30m`, `200ms`, `7d`).
///
/// # Errors
/// Any other text, also a number without a unit.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a time; write one with its unit, as \"10s\", \"200ms\" or \"7d\"".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut millis, mut below) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let factor = TIMES.iter().find(|(name, factor)| *name == unit && *factor < below).ok_or_else(wrong)?.1;
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)?;
        millis = millis.checked_add(part).ok_or_else(wrong)?;
        (rest, below) = (tail, factor);
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(millis)) }
}

/// Reads bytes or a percentage.
///
/// # Errors
/// Any other text.
pub fn room(text: &str) -> Result<Room, String> {
    match text.strip_suffix('%') {
        Some(percent) => match percent.trim_end().parse() {
            Ok(percent @ 1..=95) => Ok(Room::Percent(percent)),
            _ => Err("is not a percentage between 1% and 95%".into()),
        },
        None => bytes(text).map(Room::Bytes).map_err(|_| "is neither a size (\"500GiB\") nor a percentage (\"80%\")".into()),
    }
}

/// Reads `address:port`, `[address]:port` or `localhost:port`.
///
/// # Errors
/// Any other text.
pub fn listen(text: &str) -> Result<Listen, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()).map(|port| (Ipv4Addr::LOCALHOST, port).into());
    let address = local.or_else(|| text.parse::<SocketAddr>().ok());
    address.map(Listen).ok_or_else(|| "is not an address to listen on; write one as \"127.0.0.1:9090\" or \"[::1]:9090\"".into())
}

/// Checks a level, or a list of `level` and `module=level`.
///
/// # Errors
/// Any other text, with the level that it may have meant.
pub fn log_level(text: &str) -> Result<(), String> {
    for directive in text.split(',').map(str::trim) {
        // A name alone would be a module to log all of, and nothing else.
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            let nearest = LEVELS.iter().max_by(|one, other| likeness(one, level).total_cmp(&likeness(other, level)));
            return Err(match nearest.filter(|nearest| likeness(nearest, level) > 0.6) {
                Some(nearest) => format!("names no level: \"{level}\"; did you mean \"{nearest}\"?"),
                None => format!("names no level: \"{level}\"; write one of {}, or \"info,module=debug\"", LEVELS.join(", ")),
            });
        }
    }
    Ok(())
}

fn likeness(known: &str, text: &str) -> f64 {
    strsim::jaro_winkler(known, &text.to_lowercase())
}

/// Reads `true` or `false`.
#[must_use]
pub fn switch(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// Gives `value` back if it lies between `min` and `max`.
///
/// # Errors
/// It does not; the bounds are shown by `show`.
pub fn within<T: PartialOrd>(value: T, min: &T, max: &T, show: impl Fn(&T) -> String) -> Result<T, String> {
    if value >= *min && value <= *max { Ok(value) } else { Err(format!("is not between {} and {}", show(min), show(max))) }
}

/// A size as people write it, exact.
#[must_use]
pub fn show_bytes(bytes: &u64) -> String {
    let (name, factor) =
        SIZES[..5].iter().rev().find(|(_, factor)| bytes.is_multiple_of(*factor) && bytes >= factor).unwrap_or(&SIZES[0]);
    format!("{}{name}", bytes / factor)
}

/// A time as people write it, exact to the millisecond.
#[must_use]
pub fn show_time(time: &Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    match TIMES.iter().rev().find(|(_, factor)| millis % factor == 0 && millis >= *factor) {
        Some((name, factor)) => format!("{}{name}", millis / factor),
        None => "0".into(),
    }
}

/// The name of a database or a cluster: letters, digits, `_`, and inside it `-` and `.`.
///
/// # Errors
/// Says why the text does not fit.
pub fn name(text: &str, may_be_empty: bool) -> Result<String, String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty() && !may_be_empty {
        return Err("is empty; give a name".into());
    }
    if text.len() > 64 || text.starts_with(['-', '.']) || !text.chars().all(|c| is_word(c) || c == '-' || c == '.') {
        return Err("is no name; use at most 64 letters, digits and _ - .".into());
    }
    Ok(text.to_owned())
}

/// An address that begins with `http://` or `https://`, without a slash at its end; empty is "not set".
///
/// # Errors
/// Says why the text does not fit.
pub fn url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        None if text.is_empty() => Ok(String::new()),
        Some(rest) if rest.contains('@') => Err("holds a user or a password; they have settings of their own".into()),
        Some(rest) if !rest.is_empty() && !rest.contains([' ', '?', '#']) => Ok(text.to_owned()),
        _ => Err("is no URL; write http://host:port".into()),
    }
}
