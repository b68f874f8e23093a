//! A bounded memory of what was used lately.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Remembers between `capacity` and twice `capacity` keys, those used last. Every call costs O(1).
///
/// Two generations: keys are put into the young one; when it is full it becomes the old one, and what the old one held is
/// forgotten. A key that is looked up moves to the young one.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// An empty memory.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, young: HashMap::new(), old: HashMap::new() }
    }

    /// What is remembered of `key`; it then counts as used.
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Remembers `value` of `key`, in place of what was remembered of it.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.capacity && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Forgets `key`.
    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.old.remove(key);
        self.young.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut recent = Recent::new(10);
        for n in 0..1000 {
            recent.insert(n, n);
            assert!(recent.get(&0).is_some(), "0 is used all the time");
            assert!(recent.young.len() + recent.old.len() <= 20);
        }
        assert!(recent.get(&500).is_none());
        assert_eq!(recent.get(&999), Some(&mut 999));
        recent.remove(&999);
        assert!(recent.get(&999).is_none());
    }
}
