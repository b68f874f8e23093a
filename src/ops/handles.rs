//! File handles: every connection takes one, and so does every file of the store, which must never go without.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::settings::Limits;

/// Handles that connections leave for the store, the index, sinks, listeners and logs.
const RESERVED: u64 = 512;
/// Connections that are let in however few handles there are.
const LEAST: u64 = 16;

/// Raises the process's limit on open files as far as it may, and gives the limits on connections that fit beneath it. Says so
/// if they are less than the settings want.
pub fn fit(limits: &Limits) -> Limits {
    let mut handles = getrlimit(Resource::Nofile);
    handles.current = handles.maximum;
    // A system that refuses leaves the limit where it was.
    let _ = setrlimit(Resource::Nofile, handles);
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fitting = share(limits, open_files);
    if fitting != *limits {
        tracing::warn!(
            open_files,
            connections = fitting.connections,
            readers = fitting.readers,
            "the limit on open files (ulimit -n) allows fewer connections than the settings; raise it to limits.connections + \
             limits.readers + 2048, or lower those"
        );
    }
    fitting
}

/// What of `open_files` the two kinds of connections get, in the proportion that the settings give them; HTTP connections that are
/// no readers come out of the reserve.
fn share(limits: &Limits, open_files: u64) -> Limits {
    let (connections, readers) = (u64::from(limits.connections), u64::from(limits.readers));
    let wanted = (connections + readers).max(1);
    let reserved = RESERVED + super::listener::CONNECTIONS as u64;
    let there = open_files.saturating_sub(reserved.min(open_files / 2)).min(wanted);
    let part = |of: u64| u32::try_from((of * there / wanted).max(LEAST.min(of))).unwrap_or(u32::MAX);
    Limits { connections: part(connections), readers: part(readers), ..limits.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_store_its_file_handles() {
        let limits = Limits { connections: 20_000, readers: 10_000, ..Limits::default() };
        assert_eq!(share(&limits, 1 << 20), limits);
        let few = share(&limits, 4_096);
        assert_eq!((few.connections, few.readers), (1_706, 853));
        let fewest = share(&limits, 64);
        assert_eq!((fewest.connections, fewest.readers), (21, 16));
    }
}
