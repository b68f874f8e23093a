//! Under which name an event is known, so that it is told from others and recognised when it comes again (I3).

use std::borrow::Cow;

/// The name of an agent's event: its id. Stock agents whose own log was reset use the ids `evt-<seq>` again for other events, so
/// that for such an id, with the event's own seq, the digest of the content is part of the name, behind a byte that ids cannot hold.
#[must_use]
pub fn name(event_id: &str, seq: u64, digest: u64) -> Cow<'_, str> {
    let may_come_again = event_id.strip_prefix("evt-").is_some_and(|number| number == seq.to_string());
    if may_come_again { format!("{event_id}\0{digest:016x}").into() } else { event_id.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_of_the_own_seq_needs_the_content_to_tell_events_apart() {
        assert_eq!(name("build-1", 1, 7), "build-1");
        assert_eq!(name("evt-1", 1, 7), "evt-1\x000000000000000007");
        for (id, seq) in [("evt-01", 1), ("evt-1", 2), ("evt-", 0), ("evt-+1", 1), ("xevt-1", 1)] {
            assert_eq!(name(id, seq, 7), id);
        }
    }
}
