//! I6: random batches through the worker, the line log and the index, read back and compared with a model, over a disk that
//! loses, tears and reorders what was not synced and fails at any operation, and an index that is set back.

mod model;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use self::model::{Cell, Stream};
use super::*;
use crate::block::GapReason;
use crate::store::index::memory::State;

const GATEWAY: usize = 0;
const AGENT: usize = 1;
const EVENTS: usize = 2;

struct World {
    rng: StdRng,
    rig: Option<Rig>,
    snapshots: Vec<State>,
    streams: [Stream; 3],
    /// Batches that the worker has seen since it began, as their texts.
    sent: Vec<(u64, String)>,
    count: u64,
    /// The lines of each event there was, a text for each piece.
    events: Vec<Vec<String>>,
    /// The event that is dealt with next.
    at_event: usize,
}

fn play(seed: u64, lying_disk: bool) -> Result<(), String> {
    let log = ByHand::new(seed);
    log.disk.lie_on_sync(lying_disk);
    let mut world = World {
        rng: StdRng::seed_from_u64(seed),
        rig: Some(Rig::over(log)),
        snapshots: vec![State::default()],
        streams: ["g", "a", "e"].map(Stream::new),
        sent: Vec::new(),
        count: 0,
        events: Vec::new(),
        at_event: 0,
    };
    for _ in 0..world.rng.random_range(10..120) {
        world.step()?;
    }
    world.restart(false)?;
    world.flush();
    world.compare()?;
    // The index is made of nothing but the log.
    world.rig().log.sync();
    let before = world.rig().log.index.snapshot();
    world.rig().log.index.restore(State::default());
    world.rig().log.reopen();
    if world.rig().log.index.snapshot() != before {
        return Err(format!("rebuilt otherwise: {before:?} became {:?}", world.rig().log.index.snapshot()));
    }
    Ok(())
}

impl World {
    fn rig(&mut self) -> &mut Rig {
        self.rig.as_mut().unwrap()
    }

    fn step(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..24) {
            0..4 => self.send_counted_here()?,
            4..8 => self.send_counted_there()?,
            8..12 => self.send_event()?,
            12..16 => self.flush(),
            16..19 => {
                self.rig().log.sync();
                self.snapshots.push(self.rig.as_ref().unwrap().log.index.snapshot());
                self.note_durable();
            }
            19 => {
                let at = self.rng.random_range(0..3);
                let disk = self.rig().log.disk.clone();
                disk.fail_at(disk.ops() + at);
                self.flush();
                self.rig().log.sync();
                self.note_durable();
                disk.fail_at(u64::MAX);
            }
            20..22 => self.compare()?,
            _ => {
                let power_loss = self.rng.random_bool(0.6);
                self.restart(power_loss)?;
            }
        }
        if self.rig().log.store.accepts().is_err() {
            self.compare()?;
            let power_loss = self.rng.random_bool(0.5);
            self.restart(power_loss)?;
        }
        Ok(())
    }

    fn text(&mut self) -> String {
        self.count += 1;
        // Some are too long to be coalesced.
        let (lines, width) = if self.rng.random_bool(0.03) { (20, 4000) } else { (self.rng.random_range(1..6), 0) };
        let mut text: String = (0..lines).map(|n| format!("{:width$}.{n}\n", self.count)).collect();
        if self.rng.random_bool(0.2) {
            text.pop();
        }
        text
    }

    fn piece(&mut self, text: &str) -> Piece {
        let stream = *[OutputStream::Stdout, OutputStream::Stderr].choose(&mut self.rng).unwrap();
        let run = Run { stream, ..run(text, self.rng.random_range(0..3)) };
        if self.rng.random_bool(0.3) { zstd_piece(text, run) } else { piece(text, run) }
    }

    fn send_counted_here(&mut self) -> Result<(), String> {
        let numbering = |fingerprint| Numbering::Gateway { fingerprint };
        if self.rng.random_bool(0.2) && !self.sent.is_empty() {
            let (fingerprint, text) = self.sent.choose(&mut self.rng).unwrap().clone();
            let lines = text.lines().count() as u64;
            return self.send(GATEWAY, counted_here("g", fingerprint, &text), [0, lines, 0]);
        }
        let (text, fingerprint) = (self.text(), self.count);
        let pieces = vec![self.piece(&text)];
        let mut batch = batch("g", numbering(fingerprint));
        batch.lost = match self.rng.random_range(0..10) {
            0 => Lost { lines: self.rng.random_range(1..4), more: false },
            1 => Lost { lines: 0, more: true },
            _ => Lost::default(),
        };
        batch.end_of_log = self.rng.random_bool(0.02);
        let stream = &mut self.streams[GATEWAY];
        stream.drop_lines(batch.lost);
        if self.rng.random_bool(0.05) {
            batch.payload = Payload::Unreadable;
            stream.unknown.push((stream.next, GapReason::Unreadable));
            stream.ended |= batch.end_of_log;
            return self.send(GATEWAY, batch, [0, 0, 0]);
        }
        let lines = stream.append(&pieces);
        stream.ended |= batch.end_of_log;
        batch.payload = Payload::Lines(pieces);
        self.sent.push((fingerprint, text));
        self.send(GATEWAY, batch, [lines, 0, 0])
    }

    fn send_counted_there(&mut self) -> Result<(), String> {
        let texts: Vec<_> = (0..self.rng.random_range(1..3)).map(|_| self.text()).collect();
        let pieces: Vec<_> = texts.iter().map(|text| self.piece(text)).collect();
        let next = self.streams[AGENT].next;
        let first_line = match self.rng.random_range(0..6) {
            0 => self.rng.random_range(1..next + 1),
            1 => next + self.rng.random_range(0..5),
            2 => next.saturating_sub(3).max(1),
            _ => next,
        };
        let expected = self.streams[AGENT].place(first_line, &pieces);
        let batch = Submission { payload: Payload::Lines(pieces), ..batch("a", Numbering::Agent { first_line }) };
        self.send(AGENT, batch, expected)
    }

    fn send_event(&mut self) -> Result<(), String> {
        if self.at_event == self.events.len() {
            let texts = (0..self.rng.random_range(1..4)).map(|_| self.text()).collect();
            self.events.push(texts);
        }
        let event = self.at_event;
        let texts = self.events[event].clone();
        let pieces: Vec<_> = texts.iter().map(|text| self.piece(text)).collect();
        let expected = self.streams[EVENTS].append_event(event, &pieces);
        self.at_event += 1;
        let position = 8 * (event as u64 + 1);
        let batch = Submission { payload: Payload::Lines(pieces), ..batch("e", Numbering::Event { position }) };
        self.send(EVENTS, batch, [expected[0], expected[1], 0])
    }

    fn send(&mut self, stream: usize, batch: Submission, expected: [u64; 3]) -> Result<(), String> {
        let next = self.streams[stream].next;
        let outcome = self.rig().send(batch).map_err(|refusal| format!("refused: {refusal}"))?;
        let found = [outcome.taken, outcome.repeated, outcome.late, outcome.next_line];
        let [taken, repeated, late] = expected;
        let expected = [taken, repeated, late, next];
        if found == expected { Ok(()) } else { Err(format!("stream {stream}: {found:?} is not {expected:?}")) }
    }

    fn flush(&mut self) {
        let well = self.rig().flush();
        for stream in &mut self.streams {
            let tail = self.rig.as_ref().unwrap().log.store.tail(&id(stream.name)).unwrap();
            stream.wrote(well, tail.next_written(), tail.is_ended());
        }
        self.note_durable();
    }

    fn note_durable(&mut self) {
        for stream in &mut self.streams {
            let tail = self.rig.as_ref().unwrap().log.store.tail(&id(stream.name)).unwrap();
            stream.durable = tail.next_durable();
        }
    }

    /// What readers are shown is what was written, all of it and nothing else.
    fn compare(&mut self) -> Result<(), String> {
        for stream in &mut self.streams {
            let log = &self.rig.as_ref().unwrap().log;
            stream.compare(log.epoch, &log.shown(stream.name))?;
        }
        Ok(())
    }

    /// Another process begins, after a loss of power or without.
    fn restart(&mut self, power_loss: bool) -> Result<(), String> {
        let mut rig = self.rig.take().unwrap();
        rig.log.disk.fail_at(u64::MAX);
        if power_loss {
            rig.log.lose_power();
        }
        if self.rng.random_bool(0.5) {
            let at = self.rng.random_range(0..self.snapshots.len());
            self.snapshots.truncate(at + 1);
            rig.log.index.restore(self.snapshots[at].clone());
        }
        let rig = self.rig.insert(rig.restart());
        for stream in &mut self.streams {
            let record = rig.log.store.stream(&id(stream.name)).unwrap();
            let (next, ended) = record.map_or((1, false), |record| (record.next_line, record.ended));
            stream.restarted(power_loss, next, ended, &rig.log.shown(stream.name))?;
        }
        self.sent.clear();
        // The cursor over the events was saved for durable lines only, and maybe long ago.
        let saved = self.streams[EVENTS].events_done();
        self.at_event = self.rng.random_range(0..=saved);
        self.compare()
    }
}

#[test]
fn i6_lines_are_what_was_sent_whatever_happens() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    for round in 0..500 {
        let seed = seed.wrapping_add(round);
        play(seed, false).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn i6_a_disk_that_does_not_sync_is_found() {
    let found = (0..500).find_map(|seed| play(seed, true).err().map(|error| (seed, error)));
    println!("{:?}", found.expect("lines that were durable are lost"));
}

/// The model is no rubber stamp: a line that is changed, doubled or left out is found.
#[test]
fn the_model_finds_what_is_wrong() {
    let mut stream = Stream::new("g");
    stream.append(&[piece("1\n2\n3\n", run("1\n2\n3\n", 1))]);
    stream.wrote(true, 4, false);
    let line = |number: u64, text: &str| Shown::Line { number, text: text.into(), run: Run { lines: 1, ..run(text, 1) } };
    let right = [line(1, "1"), line(2, "2"), line(3, "3")];
    stream.compare(1, &right).unwrap();
    for wrong in [
        vec![line(1, "1"), line(2, "2")],
        vec![line(1, "1"), line(2, "x"), line(3, "3")],
        vec![line(1, "1"), line(1, "1"), line(2, "2"), line(3, "3")],
        vec![line(2, "2"), line(1, "1"), line(3, "3")],
    ] {
        stream.compare(1, &wrong).unwrap_err();
    }
    assert!(matches!(stream.cells[&1], Cell::Line(..)));
}
