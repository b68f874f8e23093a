//! Patterns for branches, as Go's `path.Match` reads them: `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` are sets, `\` takes the
//! next character as it is. Case does not count.

/// The longest pattern, in bytes.
const MAX_BYTES: usize = 256;

/// A pattern that was checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Glob(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    /// `*`
    Any,
    /// `?`
    One,
    Char(char),
    Set {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// # Errors
    /// What is wrong with the pattern.
    pub(crate) fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_BYTES {
            return Err(format!("the pattern has {} bytes; at most {MAX_BYTES} are allowed", pattern.len()));
        }
        let pattern = pattern.to_lowercase();
        let mut chars = pattern.chars().peekable();
        let mut parts = Vec::new();
        while let Some(c) = chars.next() {
            parts.push(match c {
                // Two stars say no more than one.
                '*' if parts.last() == Some(&Part::Any) => continue,
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::Char(chars.next().ok_or("the pattern ends with '\\'; write '\\\\' for the sign itself")?),
                '[' => set(&mut chars)?,
                c => Part::Char(c),
            });
        }
        Ok(Self(parts))
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.to_lowercase().chars().collect();
        let (mut at, mut part) = (0, 0);
        // Where to go on if what follows the last star does not fit: the star takes one character more.
        let mut retry = None;
        loop {
            match (self.0.get(part), text.get(at)) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    retry = Some((at, part));
                    part += 1;
                    continue;
                }
                (Some(one), Some(c)) if one.fits(*c) => {
                    (at, part) = (at + 1, part + 1);
                    continue;
                }
                _ => {}
            }
            match retry {
                Some((from, star)) if text.get(from).is_some_and(|c| *c != '/') => {
                    retry = Some((from + 1, star));
                    (at, part) = (from + 1, star + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => c != '/',
            Self::Char(one) => *one == c,
            Self::Set { not, ranges } => c != '/' && ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *not,
        }
    }
}

/// What follows a `[`.
fn set(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Part, String> {
    const OPEN: &str = "a '[' has no ']'";
    let not = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let mut one = || match chars.next() {
            Some('\\') => chars.next().ok_or(OPEN),
            Some('-') => Err("'-' stands where a character must stand; write '\\-' for the sign itself"),
            other => other.ok_or(OPEN),
        };
        let first = one()?;
        if first == ']' && !ranges.is_empty() {
            return Ok(Part::Set { not, ranges });
        }
        if first == ']' {
            return Err("the set [] is empty".into());
        }
        let last = if chars.next_if_eq(&'-').is_some() { chars.next().filter(|c| *c != ']').ok_or(OPEN)? } else { first };
        ranges.push((first, last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_gos_path_match() {
        for (pattern, yes, no) in [
            ("main", &["main", "MAIN"][..], &["mai", "main2", ""][..]),
            ("release/*", &["release/1", "release/"], &["release/1/2", "release"]),
            ("*", &["", "a"], &["a/b"]),
            ("*/*", &["a/b"], &["a", "a/b/c"]),
            ("v?.?", &["v1.2"], &["v1.22", "v1./"]),
            ("[a-cx]1", &["b1", "X1"], &["d1", "1"]),
            ("[^a-c]", &["d"], &["a", "/"]),
            ("a\\*", &["a*"], &["ab"]),
            ("*a*b*", &["ab", "xaxxbx", "aab"], &["ba", "a"]),
            ("**", &["a"], &["a/b"]),
            ("", &[""], &["a"]),
        ] {
            let glob = Glob::parse(pattern).unwrap();
            assert!(yes.iter().all(|text| glob.matches(text)), "{pattern}");
            assert!(!no.iter().any(|text| glob.matches(text)), "{pattern}");
        }
        for pattern in ["[", "[a", "[]", "[a-]", "[-a]", "a\\", "[^]"] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_no_trap() {
        let glob = Glob::parse(&"*a".repeat(100)).unwrap();
        assert!(!glob.matches(&format!("{}b", "a".repeat(10_000))));
    }
}
