//! A sink's cursor, read from its file: it tells in which phase a delivery is, or was when the gateway was killed.

use std::fs::DirEntry;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use arcgate_gateway::store::disk::RealDisk;
use arcgate_gateway::store::slots::SlotFile;

use super::{ARRIVES, Outcome, Rig, SOON, eventually, folder};

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Saved {
    /// All before is delivered.
    pub(crate) cursor: u64,
    /// How many batches may have been sent that are not known to have been confirmed.
    pub(crate) under_way: usize,
}

impl Saved {
    /// Something may have been sent, and nothing has been confirmed since `before`.
    pub(crate) fn is_under_way_since(self, before: Self) -> bool {
        self.cursor == before.cursor && self.under_way > 0
    }
}

/// The cursor's file of that sink.
fn file(rig: &Rig, sink: &str) -> PathBuf {
    rig.data().join("sinks").join(sink)
}

/// What the file of that sink says now.
pub(crate) fn saved(rig: &Rig, sink: &str) -> Outcome<Saved> {
    // A copy: to open it is to write to it.
    let copies = folder()?;
    let copy = copies.path().join("cursor");
    std::fs::copy(file(rig, sink), &copy)?;
    let file = SlotFile::open(&RealDisk, &copy)?;
    let entry = |name: &str| file.get().get(name).ok_or_else(|| format!("no {name} in the cursor of {sink}"));
    let cursor = u64::from_le_bytes(entry("cursor")?.as_slice().try_into()?);
    Ok(Saved { cursor, under_way: entry("ends")?.len() / 12 })
}

/// Waits until the sink has saved what it will send, or has sent, and gives what the file says then.
pub(crate) async fn is_under_way(rig: &Rig, sink: &str) -> Outcome<Saved> {
    eventually(ARRIVES, "a batch under way", async || Ok(Some(saved(rig, sink)?).filter(|saved| saved.under_way > 0))).await
}

/// Waits until the sink has had so many records confirmed since the gateway's start, and has saved that; nothing is under way then.
pub(crate) async fn has_noted(rig: &Rig, sink: &str, records: u64) -> Outcome<Saved> {
    rig.has_delivered(sink, records).await?;
    eventually(ARRIVES, "the cursor to be saved", async || Ok(Some(saved(rig, sink)?).filter(|saved| saved.under_way == 0))).await
}

/// From now on the disk takes nothing more that is written to the file of that sink's cursor: what is confirmed cannot be noted. It
/// ends with the gateway.
pub(crate) async fn takes_no_more(rig: &Rig, sink: &str) -> Outcome<()> {
    let (pid, file) = (rig.gateway.pid().to_string(), file(rig, sink));
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=pwritev", "-e", "inject=pwritev:error=EIO", "-p", &pid, "-P"])
        .arg(file)
        .stderr(Stdio::null())
        .spawn()?;
    let traced = async || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?.collect::<Result<Vec<_>, _>>()?;
        let is_traced = |task: &DirEntry| {
            // A thread that has just ended is of no interest.
            std::fs::read_to_string(task.path().join("status")).map_or(true, |status| !status.contains("TracerPid:\t0\n"))
        };
        if let Some(status) = strace.try_wait()? {
            return Err(format!("strace of process {pid}: {status}").into());
        }
        Ok(tasks.iter().all(is_traced).then_some(()))
    };
    eventually(SOON, "strace to be there", traced).await?;
    // It is waited for, so that it leaves nothing behind.
    tokio::task::spawn_blocking(move || strace.wait());
    Ok(())
}
