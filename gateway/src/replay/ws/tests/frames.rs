//! Frames, against tungstenite's on the other side.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::io::AsyncWrite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Control;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

use crate::block::GapReason;
use crate::replay::fake::{id, run};
use crate::replay::page::Gap;
use crate::replay::ws::inbox::{Inbox, Incoming, MAX_REQUEST, Violation};
use crate::replay::ws::outbox::Outbox;
use crate::replay::ws::request::Target;
use crate::replay::ws::writer::Writer;

/// Takes a few bytes at a time.
struct Sink(Vec<u8>);

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let count = bytes.len().min(1000);
        self.0.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn send(outbox: &mut Outbox, sink: &mut Sink) {
    assert!(outbox.poll_flush(sink, &mut Context::from_waker(Waker::noop())).is_ready());
    assert!(outbox.is_empty());
}

fn received(bytes: &[u8]) -> Vec<Message> {
    let mut client = WebSocket::from_raw_socket(std::io::Cursor::new(bytes.to_vec()), Role::Client, None);
    let mut all = Vec::new();
    while let Ok(message) = client.read() {
        all.push(message);
    }
    all
}

#[test]
fn messages_go_out_whole_or_in_pieces() {
    let (mut outbox, mut sink) = (Outbox::default(), Sink(Vec::new()));
    for size in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        outbox.text(&vec![b'a'; size]);
    }
    send(&mut outbox, &mut sink);
    // One message in pieces, with a ping between and an empty piece.
    outbox.payload().extend_from_slice(b"one ");
    outbox.suspend();
    outbox.suspend();
    outbox.control(Control::Ping, b"?");
    assert!(outbox.in_message());
    send(&mut outbox, &mut sink);
    outbox.payload();
    outbox.suspend();
    outbox.payload().extend_from_slice(b"message");
    assert_eq!(outbox.message_len(), 11);
    outbox.finish();
    assert!(!outbox.in_message());
    send(&mut outbox, &mut sink);
    let messages = received(&sink.0);
    let sizes: Vec<usize> = messages[..7].iter().map(Message::len).collect();
    assert_eq!(sizes, [0, 1, 125, 126, 65_535, 65_536, 200_000]);
    assert_eq!(messages[7], Message::Ping("?".into()));
    assert_eq!(messages[8], Message::text("one message"));
    assert_eq!(messages.len(), 9);
}

/// Writes entries through a small outbox; returns the messages and the fullest that the outbox got.
fn write(lines: &[Vec<u8>], most: usize, chunks: bool) -> (Vec<String>, usize) {
    let (mut outbox, mut sink, mut fullest) = (Outbox::default(), Sink(Vec::new()), 0);
    let mut writer = Writer::new(id("s"), &Target::default());
    if !chunks {
        writer.stop_chunks(&mut outbox);
    }
    for (at, line) in lines.iter().enumerate() {
        while !writer.line(at as u64 + 1, line, &run(1), &mut outbox, most) {
            outbox.suspend();
            fullest = fullest.max(outbox.len());
            send(&mut outbox, &mut sink);
        }
        if outbox.len() >= most {
            outbox.suspend();
            fullest = fullest.max(outbox.len());
            send(&mut outbox, &mut sink);
        }
    }
    writer.gap(&Gap { first_line: lines.len() as u64 + 1, count: 2, reason: GapReason::QueueFull, time: 0 }, &mut outbox);
    writer.finish(&mut outbox);
    send(&mut outbox, &mut sink);
    (received(&sink.0).into_iter().map(|message| message.into_text().unwrap().to_string()).collect(), fullest)
}

fn entries(messages: &[String], single: bool) -> Vec<(u64, String)> {
    let values = messages.iter().map(|message| serde_json::from_str::<serde_json::Value>(message).unwrap());
    let data =
        values.flat_map(|value| if single { vec![value["data"].clone()] } else { value["data"].as_array().unwrap().clone() });
    data.map(|entry| (entry["line_number"].as_u64().unwrap(), entry["content"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_chunk_ends_at_200_lines_or_1_mib() {
    let (messages, _) = write(&vec![b"x".to_vec(); 450], 1 << 20, true);
    let counts: Vec<usize> = messages.iter().map(|message| entries(std::slice::from_ref(message), false).len()).collect();
    assert_eq!(counts, [200, 200, 51]);
    let (messages, _) = write(&vec![vec![b'x'; 100 << 10]; 25], 1 << 20, true);
    let counts: Vec<usize> = messages.iter().map(|message| entries(std::slice::from_ref(message), false).len()).collect();
    assert_eq!(counts, [10, 10, 6]);
    assert!(messages.iter().all(|message| message.len() <= 1 << 20));
}

#[test]
fn a_line_of_any_length_needs_no_more_than_the_buffer() {
    let line: Vec<u8> = (0..1 << 20).map(|at| if at % 3 == 0 { 0x1b } else { b'x' }).collect();
    for most in [4 << 10, 128 << 10] {
        for chunks in [true, false] {
            let (messages, fullest) = write(&[b"before".to_vec(), line.clone(), b"after".to_vec()], most, chunks);
            assert!(fullest <= most + (13 << 10), "{fullest}");
            let entries = entries(&messages, !chunks);
            assert_eq!(entries[0], (1, "before".into()));
            assert_eq!(entries[1], (2, String::from_utf8(line.clone()).unwrap()));
            assert_eq!(entries[2], (3, "after".into()));
            assert_eq!(entries[3].0, 4);
        }
    }
}

fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let header = FrameHeader { is_final, opcode, mask: Some(mask), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).unwrap();
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    bytes
}

fn read(inbox: &mut Inbox, bytes: &[u8], step: usize) -> Result<Vec<Incoming>, Violation> {
    let mut all = Vec::new();
    for part in bytes.chunks(step) {
        inbox.feed(part);
        while let Some(incoming) = inbox.next()? {
            all.push(incoming);
        }
    }
    Ok(all)
}

proptest! {
    #[test]
    fn messages_come_in_however_they_are_cut(
        messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..400), 1..5usize, any::<bool>()), 1..6),
        step in 1..200usize,
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (payload, parts, ping) in messages {
            let size = payload.len().div_ceil(parts).max(1);
            let mut pieces: Vec<&[u8]> = payload.chunks(size).collect();
            if pieces.is_empty() {
                pieces.push(&[]);
            }
            let count = pieces.len();
            for (at, piece) in pieces.into_iter().enumerate() {
                let opcode = OpCode::Data(if at == 0 { Data::Binary } else { Data::Continue });
                bytes.extend(frame(opcode, at + 1 == count, piece));
                if ping && at + 1 < count {
                    bytes.extend(frame(OpCode::Control(Control::Ping), true, b"ping"));
                    expected.push(Incoming::Ping(b"ping".to_vec()));
                }
            }
            expected.push(Incoming::Message(payload));
        }
        let mut inbox = Inbox::new(1000);
        prop_assert_eq!(read(&mut inbox, &bytes, step).unwrap(), expected);
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1..20usize) {
        let _ = read(&mut Inbox::new(1000), &bytes, step);
    }
}

#[test]
fn what_is_not_allowed_is_named() {
    let ping = OpCode::Control(Control::Ping);
    let text = OpCode::Data(Data::Text);
    let more = OpCode::Data(Data::Continue);
    let violation = |bytes: Vec<u8>| read(&mut Inbox::new(1000), &bytes, 1 << 20).unwrap_err().to_string();
    assert_eq!(violation(frame(text, true, &[b'x'; 1001])), "a message may have at most 1000 bytes");
    assert_eq!(
        violation([frame(text, false, &[b'x'; 600]), frame(more, true, &[b'x'; 600])].concat()),
        "a message may have at most 1000 bytes"
    );
    assert!(violation(frame(ping, false, b"")).contains("control frame"));
    assert!(violation(frame(ping, true, &[0; 126])).contains("control frame"));
    assert!(violation(frame(more, true, b"")).contains("continuation"));
    assert!(violation([frame(text, false, b""), frame(text, true, b"")].concat()).contains("before the last one ended"));
    assert!(violation(vec![0x81, 0x00]).contains("masked"));
    assert!(violation(vec![0xC1, 0x80, 0, 0, 0, 0]).contains("reserved bit"));
    assert!(violation(vec![0x83, 0x80, 0, 0, 0, 0]).contains("opcode"));
    assert!(violation(vec![0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]).contains("1000"));
}

/// I8: a message that stays half-received costs no more than a request may have, whatever it announces.
#[test]
fn i8_half_of_a_long_message_costs_little() {
    let mut inbox = Inbox::new(10 << 20);
    let long = frame(OpCode::Data(Data::Text), true, &vec![b'x'; 10 << 20]);
    assert_eq!(read(&mut inbox, &long[..9 << 20], 8 << 10).unwrap(), []);
    assert!(inbox.held() <= 2 * MAX_REQUEST, "{}", inbox.held());
}

#[test]
fn of_a_long_message_only_the_beginning_is_kept() {
    let mut inbox = Inbox::new(10 << 20);
    let long = frame(OpCode::Data(Data::Text), true, &vec![b'x'; 5 << 20]);
    assert_eq!(read(&mut inbox, &long, 8 << 10).unwrap(), [Incoming::Overlong(5 << 20)]);
    let short = Frame::pong("").header().opcode;
    assert_eq!(read(&mut inbox, &frame(short, true, b""), 1).unwrap(), [Incoming::Pong]);
    let fits = frame(OpCode::Data(Data::Text), true, &vec![b'x'; MAX_REQUEST]);
    assert_eq!(read(&mut inbox, &fits, 8 << 10).unwrap(), [Incoming::Message(vec![b'x'; MAX_REQUEST])]);
}
