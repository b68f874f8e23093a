//! New identifiers: ULIDs, 26 characters that sort by time.

use crate::Millis;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A new ULID: 48 bits of time, 80 of chance.
pub(super) fn ulid(now: Millis) -> String {
    let time = u128::from(now.max(0).unsigned_abs()) & ((1 << 48) - 1);
    let value = (time << 80) | (rand::random::<u128>() >> 48);
    (0..26).rev().map(|digit| char::from(DIGITS[usize::try_from((value >> (digit * 5)) & 31).unwrap_or(0)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_sort_by_time_and_never_come_twice() {
        let ids: std::collections::HashSet<String> = (0..1_000).map(|_| ulid(1_700_000_000_000)).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.len() == 26 && id.starts_with("01HF7YAT00")), "{ids:?}");
        assert!(ulid(1) < ulid(2) && ulid(-5).starts_with("0000000000"));
    }
}
