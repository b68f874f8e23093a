//! Small things that every message needs: bounded quotes, and the known word that somebody may have meant.

/// Longer texts are cut in messages.
const MAX_QUOTED_CHARS: usize = 60;
/// How alike a word must be to be proposed, from 0 to 1.
const ALIKE: f64 = 0.8;

/// `text` in single quotes, cut after [`MAX_QUOTED_CHARS`], without control characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let head: String = chars.by_ref().take(MAX_QUOTED_CHARS).collect();
    if chars.next().is_some() { format!("'{head}…'") } else { format!("'{head}'") }
}

/// The word of `known` that is most like `word`, if one is like it at all. Case and underscores do not count.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A name nobody can have mistyped costs nothing to compare.
    if word.len() > 4 * MAX_QUOTED_CHARS {
        return None;
    }
    let word = folded(word);
    (known.into_iter().map(|known| (strsim::jaro_winkler(&word, &folded(known)), known)))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// `; did you mean x?`, or what is known if there are few, or nothing.
pub(crate) fn hint<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    const FEW: usize = 20;
    if let Some(nearest) = nearest(word, known.clone()) {
        return format!("; did you mean {nearest}?");
    }
    let known: Vec<_> = known.into_iter().take(FEW + 1).collect();
    match known.len() {
        1..=FEW => format!("; known: {}", known.join(", ")),
        _ => String::new(),
    }
}

fn folded(word: &str) -> String {
    word.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_bounded_and_printable() {
        assert_eq!(quoted("a\nb"), "'a b'");
        assert_eq!(quoted(&"ü".repeat(61)), format!("'{}…'", "ü".repeat(60)));
    }

    #[test]
    fn the_nearest_word_is_proposed_or_all_of_few() {
        assert_eq!(nearest("agentSelecter", ["args", "agent_selector"]), Some("agent_selector"));
        assert_eq!(nearest("zzz", ["args", "agent_selector"]), None);
        assert_eq!(hint("zzz", ["In", "NotIn"]), "; known: In, NotIn");
        assert_eq!(hint("notin", ["In", "NotIn"]), "; did you mean NotIn?");
    }
}
