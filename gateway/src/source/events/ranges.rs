//! A set of numbers as ranges: which seqs a stream has brought.

/// How many ranges are kept; past it the highest are forgotten. Only the lowest decide what is answered, and what is
/// forgotten is merely asked for again.
const MAX_RANGES: usize = 1024;

/// Disjoint ranges, both ends included, rising, never adjacent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `numbers`, in any order.
    pub(crate) fn extend(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.0.extend(numbers.into_iter().map(|number| (number, number)));
        self.0.sort_unstable();
        self.0.dedup_by(|next, range| {
            let joins = next.0 <= range.1.saturating_add(1);
            if joins {
                range.1 = range.1.max(next.1);
            }
            joins
        });
        self.0.truncate(MAX_RANGES);
    }

    /// Removes all numbers up to `mark`.
    pub(crate) fn forget_through(&mut self, mark: u64) {
        self.0.retain_mut(|range| {
            range.0 = range.0.max(mark.saturating_add(1));
            range.0 <= range.1 && range.1 > mark
        });
    }

    /// The lowest range.
    pub(crate) fn first(&self) -> Option<(u64, u64)> {
        self.0.first().copied()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_and_the_lowest_are_kept() {
        let mut ranges = Ranges::default();
        ranges.extend([5, 1, 2, 9, 5, 4]);
        assert_eq!(ranges, Ranges(vec![(1, 2), (4, 5), (9, 9)]));
        ranges.extend([3, u64::MAX]);
        assert_eq!(ranges, Ranges(vec![(1, 5), (9, 9), (u64::MAX, u64::MAX)]));
        ranges.forget_through(3);
        assert_eq!(ranges.first(), Some((4, 5)));
        ranges.forget_through(u64::MAX);
        assert_eq!(ranges.first(), None);
        ranges.extend((0..5000).map(|n| n * 2));
        assert_eq!((ranges.0.len(), ranges.first()), (MAX_RANGES, Some((0, 0))));
        ranges.clear();
        assert_eq!(ranges.first(), None);
    }
}
