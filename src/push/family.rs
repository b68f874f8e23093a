//! Sends a signal to all that a command has started where the command has no process group of its own, because it reads from a
//! terminal and only the terminal's own group may.
//!
//! That group may hold others too: the rest of a pipeline, the script that runs us. So the command's descendants in it are told
//! one by one, as far as `/proc` names them. One whose parents have all ended before is nobody's descendant and is not reached.

use std::collections::HashMap;

use rustix::process::{Pid, Signal, getpgrp, kill_process};

/// A process's parent and process group.
type Kin = (i32, i32);

/// Sends `signal` to the command `root` and to its descendants in this process's group. One that cannot be told has just ended.
pub(crate) fn signal_family(root: Pid, signal: Signal) {
    let known = processes();
    let group = getpgrp().as_raw_pid();
    for pid in known.keys().filter(|pid| known[pid].1 == group && descends(&known, **pid, root.as_raw_pid())) {
        if let Some(pid) = Pid::from_raw(*pid) {
            let _ = kill_process(pid, signal);
        }
    }
    let _ = kill_process(root, signal);
}

/// All processes that `/proc` names; none where there is no such thing.
fn processes() -> HashMap<i32, Kin> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, kin(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

/// Reads `pid (name) state parent group …`; the name may hold anything.
fn kin(stat: &str) -> Option<Kin> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Whether `pid` is below `root`.
fn descends(known: &HashMap<i32, Kin>, pid: i32, root: i32) -> bool {
    // Numbers are used again while we read: a bound, lest we go round in circles.
    let mut ancestors = std::iter::successors(known.get(&pid), |(parent, _)| known.get(parent)).take(known.len());
    ancestors.any(|(parent, _)| *parent == root)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn grandchildren_are_told_and_strangers_are_not() {
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        let script = "sleep 60 & sh -c 'sleep 60 & echo ready; wait' & wait";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        signal_family(Pid::from_child(&child), Signal::KILL);
        // All of them hold the pipe: it ends with the last.
        output.read_to_string(&mut String::new()).unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(stranger.try_wait().unwrap(), None);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn names_may_hold_anything() {
        assert_eq!(kin("17 (a) b (c) S 5 6 7"), Some((5, 6)));
        assert_eq!(kin("17 (a) S"), None);
        assert_eq!(kin(""), None);
        let known = HashMap::from([(2, (3, 0)), (3, (2, 0)), (4, (3, 0))]);
        assert!(!descends(&known, 4, 9));
        assert!(descends(&known, 4, 2));
    }
}
