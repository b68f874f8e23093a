//! Which line comes next, and what to ask for after a break.

use std::ops::Range;

/// A reader's place in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The next line; none before the first has come.
    next: Option<u64>,
    epoch: Option<u32>,
    /// The gateway has begun a new epoch since the last line: the next line may have a number that was seen before.
    renewed: bool,
    from_line: Option<u64>,
    last: Option<u64>,
}

/// What a line is to the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next one.
    Expected,
    /// One that was shown already.
    Repeat,
    /// One behind lines that did not come.
    Hole(Range<u64>),
    /// One whose number was shown before, for a line that the gateway has lost.
    Again(u64),
}

impl Cursor {
    /// Before the first line of what was asked for.
    pub(crate) fn new(from_line: Option<u64>, last: Option<u64>) -> Self {
        Self { next: None, epoch: None, renewed: false, from_line, last }
    }

    /// What to subscribe to: the line to begin at, or how many of the last lines; and the epoch that the line is of.
    pub(crate) fn request(&self) -> (Option<u64>, Option<u64>, Option<u32>) {
        match self.next {
            Some(next) => (Some(next), None, self.epoch),
            None => (self.from_line, self.last, None),
        }
    }

    /// Whether nothing has come yet.
    pub(crate) fn is_before_first(&self) -> bool {
        self.next.is_none()
    }

    /// The gateway has answered under this epoch.
    pub(crate) fn subscribed(&mut self, epoch: Option<u32>) {
        self.renewed = self.next.is_some() && epoch != self.epoch;
        self.epoch = epoch;
    }

    /// A line has come, or a gap of `count` lines that begins at it.
    pub(crate) fn take(&mut self, line: u64, count: u64) -> Next {
        let renewed = std::mem::take(&mut self.renewed);
        let end = line.saturating_add(count);
        let kind = match self.next {
            Some(next) if line < next && renewed => Next::Again(line),
            // A gap may reach into lines that were shown already; what is beyond them is new.
            Some(next) if line < next && end <= next => return Next::Repeat,
            Some(next) if line > next => Next::Hole(next..line),
            _ => Next::Expected,
        };
        self.next = Some(end);
        kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_once_and_holes_are_seen() {
        let mut cursor = Cursor::new(None, Some(10));
        assert_eq!((cursor.request(), cursor.is_before_first()), ((None, Some(10), None), true));
        cursor.subscribed(Some(1));
        assert_eq!(cursor.take(91, 1), Next::Expected);
        assert_eq!(cursor.take(91, 1), Next::Repeat);
        assert_eq!(cursor.take(92, 5), Next::Expected, "a gap");
        assert_eq!(cursor.take(97, 0), Next::Expected, "a gap of unknown size takes no number");
        assert_eq!(cursor.take(99, 1), Next::Hole(97..99));
        assert_eq!((cursor.request(), cursor.is_before_first()), ((Some(100), None, Some(1)), false));
    }

    #[test]
    fn after_a_break_it_goes_on_where_it_was() {
        let mut cursor = Cursor::new(Some(5), None);
        cursor.subscribed(Some(1));
        cursor.take(5, 1);
        assert_eq!(cursor.request(), (Some(6), None, Some(1)));
        cursor.subscribed(Some(1));
        assert_eq!(cursor.take(5, 1), Next::Repeat);
        assert_eq!(cursor.take(6, 1), Next::Expected);
    }

    #[test]
    fn a_new_epoch_may_number_lines_again() {
        let mut cursor = Cursor::new(None, None);
        cursor.subscribed(Some(1));
        for line in 1..=9 {
            assert_eq!(cursor.take(line, 1), Next::Expected);
        }
        cursor.subscribed(Some(2));
        assert_eq!(cursor.take(7, 1), Next::Again(7));
        assert_eq!(cursor.take(8, 1), Next::Expected);
        assert_eq!(cursor.take(8, 1), Next::Repeat, "only the first line after it may go back");
        cursor.subscribed(Some(3));
        assert_eq!(cursor.take(9, 1), Next::Expected, "nothing was lost");
    }
}
