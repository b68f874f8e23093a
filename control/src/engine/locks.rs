//! Concurrency keys: of the jobs with one key, over all runs, one holds it, and others wait in order.

use std::collections::BTreeMap;

/// A job of a run.
pub(super) type Holder = (String, usize);

#[derive(Debug, Default)]
struct Lock {
    held: Option<Holder>,
    waiting: BTreeMap<i64, Holder>,
}

#[derive(Debug, Default)]
pub(super) struct Locks(BTreeMap<String, Lock>);

impl Locks {
    /// A job wants a key. Whether it has it now.
    pub(super) fn want(&mut self, key: &str, order: i64, job: Holder) -> bool {
        let lock = self.0.entry(key.to_owned()).or_default();
        if lock.held.is_none() && lock.waiting.is_empty() {
            lock.held = Some(job);
            return true;
        }
        lock.waiting.insert(order, job);
        false
    }

    /// A job neither needs the key nor waits for it any more. Who has it instead.
    pub(super) fn release(&mut self, key: &str, job: &Holder) -> Option<Holder> {
        let lock = self.0.get_mut(key)?;
        if lock.held.as_ref() != Some(job) {
            lock.waiting.retain(|_, waiting| waiting != job);
            return None;
        }
        lock.held = lock.waiting.pop_first().map(|(_, next)| next);
        let next = lock.held.clone();
        if next.is_none() {
            self.0.remove(key);
        }
        next
    }

    /// As it was kept.
    pub(super) fn restore(&mut self, key: String, order: i64, held: bool, job: Holder) {
        let lock = self.0.entry(key).or_default();
        if held {
            lock.held = Some(job);
        } else {
            lock.waiting.insert(order, job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_a_key_and_the_others_get_it_in_order() {
        let mut locks = Locks::default();
        let job = |name: &str| (name.to_owned(), 0);
        assert!(locks.want("k", 1, job("a")));
        assert!(!locks.want("k", 2, job("b")));
        assert!(!locks.want("k", 3, job("c")));
        assert!(!locks.want("k", 4, job("d")));
        assert!(locks.want("other", 5, job("b")));
        assert_eq!(locks.release("k", &job("b")), None);
        assert_eq!(locks.release("k", &job("a")), Some(job("c")));
        assert_eq!(locks.release("k", &job("c")), Some(job("d")));
        assert_eq!(locks.release("k", &job("d")), None);
        assert!(locks.want("k", 6, job("e")));
    }
}
