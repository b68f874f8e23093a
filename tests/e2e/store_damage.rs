//! What has happened to a store's files is told to those whom it concerns, and never made worse.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arcgate_api::gateway::v1::log_batch::Compression;

use crate::harness::{Outcome, Reader, Rig, logs, output, run};

/// Pushes that many lines, counted by the gateway, and waits until they are on disk.
async fn lines(rig: &Rig, step_run: &str, count: u64) -> Outcome<()> {
    let batch = logs::batch("a", step_run, 1, "a line\n".repeat(usize::try_from(count)?));
    let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
    assert_eq!(session.ask(batch).await?.taken, count);
    rig.settled(step_run, count).await
}

/// The epoch that a new reader is told.
async fn epoch(rig: &Rig, step_run: &str) -> Outcome<u64> {
    let mut reader = Reader::follow(rig.http(), step_run).await?;
    Ok(reader.soon().await?.epoch.ok_or("no epoch")?)
}

fn newest_segment(log: &Path) -> Outcome<PathBuf> {
    let mut segments = fs::read_dir(log)?.map(|entry| Ok(entry?.path())).collect::<Outcome<Vec<_>>>()?;
    segments.sort();
    Ok(segments.pop().ok_or("no segment")?)
}

#[test]
fn i6_a_line_log_that_has_lost_its_end_begins_another_epoch() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        lines(&rig, "s", 100).await?;
        let before = epoch(&rig, "s").await?;
        rig.gateway.stop().await?;
        // Stopped in order: all of it is indexed.
        let segment = newest_segment(&rig.data().join("lines"))?;
        let size = fs::metadata(&segment)?.len();
        File::options().write(true).open(&segment)?.set_len(size - 20)?;
        rig.gateway.restart().await?;
        // Its number 1 is given again.
        lines(&rig, "s", 1).await?;
        assert!(epoch(&rig, "s").await? > before);
        Ok(())
    })
}

#[test]
fn a_store_without_its_record_is_refused_and_left_as_it_is() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        lines(&rig, "s", 3).await?;
        rig.gateway.stop().await?;
        let (record, copy) = (rig.data().join("META"), rig.data().join("META.copy"));
        fs::rename(&record, &copy)?;
        for command in ["serve", "store verify"] {
            let mut refused = rig.gateway.launch().command();
            refused.args(command.split(' '));
            let refused = output(refused, Duration::from_secs(20)).await?;
            let said = String::from_utf8(refused.stderr)?;
            assert!(!refused.status.success() && said.contains("META is missing, though the logs beside it are there"), "{said}");
            assert!(!record.exists(), "{command}");
        }
        fs::write(&record, vec![0x5a; 200_000])?;
        let refused = rig.arcgate(&["store", "ls"]).await?;
        let said = String::from_utf8(refused.stderr)?;
        assert!(!refused.status.success() && said.contains("META is damaged, though the logs"), "{said}");
        fs::rename(&copy, &record)?;
        rig.gateway.restart().await?;
        assert_eq!(rig.history("s", 3).await?.lines, 3);
        Ok(())
    })
}

#[test]
fn verify_tells_of_a_log_whose_files_are_gone() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        lines(&rig, "s", 3).await?;
        rig.gateway.stop().await?;
        fs::remove_file(newest_segment(&rig.data().join("lines"))?)?;
        let verified = rig.arcgate(&["store", "verify"]).await?;
        let said = String::from_utf8(verified.stdout)?;
        assert!(!verified.status.success() && said.contains("no segment file is there"), "{said}");
        Ok(())
    })
}

#[test]
fn a_batch_that_could_not_be_read_is_a_gap_for_readers_who_come_later_too() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        lines(&rig, "some", 3).await?;
        for step_run in ["none", "some"] {
            let mut bad = logs::batch("a", step_run, 9, "not gzip");
            bad.compression = Compression::Gzip.into();
            let ack = logs::push(rig.gateway.channel()?, "a", [bad]).await?;
            assert_eq!(ack.rejected_seqs, [9]);
        }
        // Then the gaps are in the index, and no longer in memory.
        rig.gateway.stop().await?;
        rig.gateway.restart().await?;
        for (step_run, from, line) in [("none", 1, 1), ("some", 4, 4)] {
            let mut reader = Reader::follow_with(rig.http(), step_run, serde_json::json!({ "fromLine": from })).await?;
            assert_eq!(reader.soon().await?.kind, "subscribed");
            let entries = reader.soon().await?.entries()?;
            let [gap] = entries.as_slice() else { panic!("{step_run}: {entries:?}") };
            let unreadable = gap.gap.as_ref().map(|gap| (gap.count, gap.reason.as_str()));
            assert_eq!((gap.line_number, unreadable), (line, Some((0, "unreadable"))), "{step_run}");
            assert_eq!(reader.soon().await?.kind, "history_done");
        }
        Ok(())
    })
}
