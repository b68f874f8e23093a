//! I7: a subscriber sees each line once, in order, through history, the seam and live, whatever the load.

use std::time::{Duration, Instant};

use arcgate_api::gateway::v1::log_batch::Compression;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::harness::{Outcome, Reader, Rig, SOON, Seen, logs, run, scaled, seconds, within};

const AGENTS: usize = 16;
const STEP_RUNS: usize = 100;
const READERS: usize = 50;
/// Of the readers, so many stop reading for most of the time.
const STOPPED: usize = 5;
/// And so many subscribe when the half is sent.
const LATE: usize = 10;
const BATCH: u64 = 500;

fn step_run(index: usize) -> String {
    format!("seen-{index}")
}

/// What line `number` of a step run says. Its content is its number, so that a line in the wrong place is seen.
fn line(index: usize, number: u64) -> String {
    format!("{number} step run {index} rustc --crate-name proc_macro2 --edition=2021 -C metadata={:016x}", number * 0x9e37_79b9)
}

/// Sends the lines of the agent's step runs in turn, as fast as they are acked. Most step runs are counted by the agent over
/// LogSession; every fifth is counted by the gateway, over PushLogs, where lines may be dropped. Returns (taken, dropped).
async fn agent(channel: Channel, number: usize, lines: u64) -> Outcome<(u64, u64)> {
    let name = format!("agent-{number}");
    let mine: Vec<usize> = (0..STEP_RUNS).filter(|index| index % AGENTS == number).collect();
    let batches = |index: usize, counted: bool, turn: u64| {
        let first = turn * BATCH + 1;
        let count = BATCH.min(lines + 1 - first);
        let text: String = (first..first + count).map(|number| line(index, number) + "\n").collect();
        let mut batch = logs::batch(&name, &step_run(index), turn + 1, text);
        if counted {
            batch.first_line = first;
            batch.data = logs::compress(&batch.data, Compression::Zstd)?;
            batch.compression = Compression::Zstd.into();
        }
        batch.end_of_log = first + count > lines;
        Outcome::Ok(batch)
    };
    let turns = lines.div_ceil(BATCH);
    let (mut taken, mut dropped) = (0, 0);

    let (sender, mut answers) = logs::LogSession::open(channel.clone(), &name).await?.split()?;
    let counted: Vec<usize> = mine.iter().copied().filter(|index| index % 5 != 0).collect();
    let expected = turns * counted.len() as u64;
    let answered = tokio::spawn(async move {
        let mut taken = 0;
        for _ in 0..expected {
            let ack = answers.message().await?.and_then(|answer| answer.ack).ok_or("no ack")?;
            assert_eq!((ack.late, ack.repeated, ack.rejected_seqs.len()), (0, 0, 0), "{ack:?}");
            taken += ack.taken;
        }
        Outcome::Ok(taken)
    });
    for turn in 0..turns {
        for index in &counted {
            sender.send(logs::message(batches(*index, true, turn)?)).await?;
        }
    }
    taken += answered.await??;

    for index in mine.iter().filter(|index| *index % 5 == 0) {
        let (messages, receiver) = tokio::sync::mpsc::channel(2);
        let mut client = logs::client(channel.clone());
        let push = tokio::spawn(async move { client.push_logs(tokio_stream::wrappers::ReceiverStream::new(receiver)).await });
        for turn in 0..turns {
            messages.send(logs::message(batches(*index, false, turn)?)).await?;
        }
        drop(messages);
        let ack = push.await??.into_inner().ack.ok_or("no ack")?;
        assert_eq!(ack.taken + ack.dropped, lines, "{ack:?}");
        taken += ack.taken;
        dropped += ack.dropped;
    }
    Ok((taken, dropped))
}

/// A reader of a step run: from the first line to the last, each once. Returns (lines, missing).
async fn read(http: String, index: usize, lines: u64, stops: bool, mut sent: watch::Receiver<bool>) -> Outcome<(u64, u64)> {
    let mut seen = Seen::counting_from(1);
    let mut reader = Reader::follow(&http, &step_run(index)).await?;
    if stops {
        // Reads a little, and then nothing until everything is sent.
        reader.read_to(10, &mut seen, Duration::from_secs(120)).await?;
        sent.wait_for(|sent| *sent).await?;
    }
    let mut resumed = 0;
    while seen.next <= lines {
        match reader.frame().await {
            Ok(Some(tokio_tungstenite::tungstenite::Message::Text(text))) => {
                let message: arcgate_load::reader::Message = serde_json::from_str(&text)?;
                if let Some(error) = message.error {
                    return Err(error.into());
                }
                for entry in message.entries()? {
                    let is_line = entry.gap.is_none();
                    assert!(!is_line || entry.content == line(index, entry.line_number), "{entry:?}");
                    seen.take(entry)?;
                }
            }
            // A gateway may close a reader that takes nothing for long; by number it goes on where it was.
            _ if stops && resumed < 3 => {
                resumed += 1;
                reader = Reader::follow_with(&http, &step_run(index), json!({ "fromLine": seen.next })).await?;
            }
            other => return Err(format!("{} after line {}: {other:?}", step_run(index), seen.next - 1).into()),
        }
    }
    Ok((seen.lines, seen.missing))
}

#[test]
fn i7_every_reader_sees_every_line_once_and_in_order_under_load() -> Outcome<()> {
    run(600, async {
        let rig = Rig::start().await?;
        let total = scaled(2_000_000, 100_000) as u64;
        let lines = total / STEP_RUNS as u64;
        let (all_sent, sent) = watch::channel(false);
        let begin = Instant::now();

        let mut readers = JoinSet::new();
        let follow = |readers: &mut JoinSet<_>, reader: usize| {
            let (http, sent) = (rig.http().to_owned(), sent.clone());
            // Readers of all kinds of step runs: 2 and 100 have no common factor with 51.
            let index = reader * 51 % STEP_RUNS;
            readers.spawn(async move { Outcome::Ok((index, read(http, index, lines, reader < STOPPED, sent).await?)) });
        };
        (0..READERS - LATE).for_each(|reader| follow(&mut readers, reader));
        let mut agents = JoinSet::new();
        for number in 0..AGENTS {
            agents.spawn(agent(rig.gateway.channel()?, number, lines));
        }
        // The late ones subscribe under load, when there is as much history as is still to come.
        let half = async {
            while rig.gateway.metrics().await?.with("arcgate_lines_total", "taken") < total as f64 / 2.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        within(Duration::from_secs(300), "half of the lines", half).await?;
        (READERS - LATE..READERS).for_each(|reader| follow(&mut readers, reader));

        let (mut taken, mut dropped) = (0, 0);
        while let Some(agent) = agents.join_next().await {
            let (more, fewer) = agent??;
            (taken, dropped) = (taken + more, dropped + fewer);
        }
        assert_eq!(taken + dropped, lines * STEP_RUNS as u64);
        println!("{taken} lines taken and {dropped} dropped in {:.1} s", seconds(begin));
        all_sent.send_replace(true);
        while let Some(reader) = readers.join_next().await {
            let (index, (shown, missing)) = reader??;
            assert_eq!(shown + missing, lines, "{}", step_run(index));
            assert!(
                missing == 0 || index % 5 == 0,
                "{} lines of {} are missing although it drops nothing",
                missing,
                step_run(index)
            );
        }
        println!("{READERS} readers were through after {:.1} s", seconds(begin));

        // From history, all step runs together hold exactly what was taken, and gaps for exactly what was dropped.
        let (mut stored, mut gaps) = (0, 0);
        let mut readers = JoinSet::new();
        for index in 0..STEP_RUNS {
            let (http, sent) = (rig.http().to_owned(), sent.clone());
            readers.spawn(read(http, index, lines, false, sent));
            if readers.len() >= 8 || index + 1 == STEP_RUNS {
                while let Some(reader) = readers.join_next().await {
                    let (shown, missing) = reader??;
                    (stored, gaps) = (stored + shown, gaps + missing);
                }
            }
        }
        assert_eq!((stored, gaps), (taken, dropped));
        println!("all was read again after {:.1} s", seconds(begin));
        Ok(())
    })
}

#[test]
fn i7_a_reader_that_stops_slows_no_one_down() -> Outcome<()> {
    run(120, async {
        let rig = Rig::start().await?;
        let mut stopped = Vec::new();
        for _ in 0..5 {
            stopped.push(Reader::follow(rig.http(), "followed").await?);
        }
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        let mut reader = Reader::follow(rig.http(), "followed").await?;
        let mut seen = Seen::counting_from(1);
        // 60 MB: more than any socket's buffers hold.
        for turn in 0..60_u64 {
            let text: String = (1..=1_000).map(|line| format!("{line} {}\n", "x".repeat(1_000))).collect();
            session.ask(logs::batch("a", "followed", turn + 1, text)).await?;
            reader.read_to((turn + 1) * 1_000, &mut seen, SOON).await?;
        }
        // And those that stopped go on where they were.
        for mut reader in stopped {
            let mut seen = Seen::counting_from(1);
            reader.read_to(60_000, &mut seen, Duration::from_secs(30)).await?;
            assert_eq!((seen.lines, seen.missing), (60_000, 0));
        }
        Ok(())
    })
}
