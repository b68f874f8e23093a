//! What any event log has to do, whatever the disk does: the model that the real one is compared with.

use std::collections::{BTreeMap, BTreeSet};

use super::super::EventFate;

/// Agent and event id.
pub(super) type Key = (String, String);

/// What tells events apart: the key, and the content where the id may come again with other content.
type Identity = (Key, Option<u64>);

/// Of an event its key, its content, and whether its id is one that may come again with other content.
pub(super) type Sent = (Key, u64, bool);

#[derive(Default)]
pub(super) struct Model {
    /// The content that was acknowledged.
    acked: BTreeMap<Identity, u64>,
    /// All that was ever acknowledged.
    ever: BTreeSet<(Key, u64)>,
    /// What was sent and not acknowledged: it may be stored or not.
    maybe: BTreeSet<(Key, u64)>,
}

impl Model {
    /// No answer: whatever was sent may be there.
    pub(super) fn lost(&mut self, (key, content, _): &Sent) {
        self.maybe.insert((key.clone(), *content));
    }

    /// An answer, in the order of the answers.
    pub(super) fn answered(&mut self, (key, content, reusable): &Sent, fate: EventFate) -> Result<(), String> {
        let item = (key.clone(), *content);
        let identity = (key.clone(), reusable.then_some(*content));
        let other = self.maybe.iter().any(|(k, c)| k == key && c != content);
        let right = match (fate, self.acked.get(&identity)) {
            (EventFate::Stored, known) => known.is_none(),
            (EventFate::Repeated, known) => known == Some(content) || self.maybe.contains(&item),
            (EventFate::Conflict, known) => !reusable && (other || known.is_some_and(|known| known != content)),
            (EventFate::Dead, _) => false,
        };
        if matches!(fate, EventFate::Stored | EventFate::Repeated) {
            self.acked.insert(identity, *content);
            self.ever.insert(item.clone());
        }
        if right { Ok(()) } else { Err(format!("I3: {item:?} was answered {fate:?}")) }
    }

    /// What is stored, in all.
    pub(super) fn stored(&self, events: &[Sent]) -> Result<(), String> {
        let items: BTreeSet<_> = events.iter().map(|(key, content, _)| (key.clone(), *content)).collect();
        let fixed: BTreeSet<_> = events.iter().filter(|event| !event.2).map(|event| &event.0).collect();
        match self.ever.difference(&items).next() {
            Some(lost) => Err(format!("I2: {lost:?} was acknowledged and is lost")),
            None if items.len() < events.len() => Err("I2: an event is stored twice".into()),
            None if fixed.len() < events.iter().filter(|event| !event.2).count() => Err("I3: two contents of one name".into()),
            None => Ok(()),
        }
    }
}
