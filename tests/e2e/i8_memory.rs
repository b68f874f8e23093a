//! I8: memory has a configured bound, transport buffers and half-received messages included. None of these passes it: 64 agents
//! that send 64 MiB each at once, readers that stop reading, a decompression bomb, ten thousand idle streams.

use std::time::Duration;

use arcgate_api::gateway::v1::log_batch::Compression;
use arcgate_api::gateway::v1::{AgentHandshake, PushEventsResponse};
use bytes::Bytes;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{Outcome, Reader, Rig, SOON, events, eventually, http, logs, run, scaled, within};

const MIB: u64 = 1 << 20;

/// The gateway's peak so far must be below the setting.
fn assert_below(rig: &Rig, limit: u64, what: &str) -> Outcome<()> {
    let peak = rig.gateway.peak_memory()?;
    println!("{what}: peak of {} MiB, limit {} MiB", peak / MIB, limit / MIB);
    assert!(peak <= limit, "{what}: {} MiB of memory, the limit is {} MiB", peak / MIB, limit / MIB);
    Ok(())
}

#[test]
fn i8_64_agents_with_64_mib_each_stay_within_the_default_limit() -> Outcome<()> {
    run(300, async {
        let rig = Rig::start().await?;
        let agents = scaled(64, 16);
        // One batch of 64 MiB less its own head, not compressed: the largest that is taken.
        let text: Bytes = "all work and no play makes a gateway a dull place, line after line\n".repeat((63 << 20) / 67).into();
        let lines = bytecount(&text);
        let mut pushes = JoinSet::new();
        for agent in 0..agents {
            let (channel, text) = (rig.gateway.channel()?, text.clone());
            pushes.spawn(async move {
                let name = format!("large-{agent}");
                let ack = logs::push(channel, &name, [logs::batch(&name, &name, 1, text)]).await?;
                Outcome::Ok(ack)
            });
        }
        while let Some(push) = pushes.join_next().await {
            let ack = push??;
            assert_eq!(ack.taken + ack.dropped, lines, "{ack:?}");
        }
        assert_below(&rig, 512 * MIB, "64 log batches of 63 MiB")?;

        // Events of that size, too: a step's whole output in one event.
        let mut pushes = JoinSet::new();
        for agent in 0..agents {
            let channel = rig.gateway.channel()?;
            let text = String::from_utf8(text.slice(..40 << 20).to_vec())?;
            pushes.spawn(async move {
                let name = format!("large-{agent}");
                let event = events::event(&name, "evt-1", 1, "outbox", &json!({ "type": "t", "data": { "content": text } }));
                events::push(channel, &name, 0, vec![event]).await
            });
            // This process has memory, too.
            if pushes.len() >= 16 {
                pushes.join_next().await.ok_or("no push")???;
            }
        }
        while let Some(push) = pushes.join_next().await {
            assert_eq!(push??.taken, 1);
        }
        assert_below(&rig, 512 * MIB, "and events of 40 MiB")
    })
}

fn bytecount(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[test]
fn i8_a_bomb_costs_an_answer_and_nothing_else() -> Outcome<()> {
    run(120, async {
        let rig = Rig::start_with(&[("ARCGATE_LIMITS__MEMORY", "256MiB")]).await?;
        let zeros = vec![0; 64 << 20];
        for compression in [Compression::Zstd, Compression::Gzip] {
            // 1 GiB of zeros: 16 frames, or members, of 64 MiB.
            let bomb: Bytes = logs::compress(&zeros, compression)?.repeat(16).into();
            let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
            for seq in 1..=20 {
                let mut batch = logs::batch("a", &format!("bomb-{compression:?}"), seq, bomb.clone());
                batch.compression = compression.into();
                let ack = session.ask(batch).await?;
                assert_eq!((ack.taken, &ack.rejected_seqs[..]), (0, &[seq][..]), "{ack:?}");
            }
            let ack = session.ask(logs::batch("a", &format!("bomb-{compression:?}"), 21, "still here\n")).await?;
            assert_eq!(ack.taken, 1);
        }
        assert_below(&rig, 256 * MIB, "bombs")
    })
}

/// A request of PushEvents whose batch is encoded already.
#[derive(Clone, PartialEq, prost::Message)]
struct Encoded {
    #[prost(message, optional, tag = "1")]
    handshake: Option<AgentHandshake>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    batch: Option<Bytes>,
}

#[test]
fn i8_fifty_million_empty_events_in_a_message_are_refused_and_cost_only_the_message() -> Outcome<()> {
    run(120, async {
        let rig = Rig::start().await?;
        // An empty event is its tag and a length of 0.
        let batch: Bytes = [0x12, 0x00].repeat(50_000_000).into();
        let path = ::http::uri::PathAndQuery::from_static("/gateway.v1.GatewayService/PushEvents");
        for _ in 0..scaled(8, 2) {
            let mut client =
                tonic::client::Grpc::new(rig.gateway.channel()?).max_encoding_message_size(arcgate_load::process::MAX_MESSAGE);
            client.ready().await?;
            let handshake = AgentHandshake { agent_id: "a".into(), last_known_seq: 0 };
            let requests =
                [Encoded { handshake: Some(handshake), batch: None }, Encoded { handshake: None, batch: Some(batch.clone()) }];
            let codec = tonic_prost::ProstCodec::<Encoded, PushEventsResponse>::default();
            let request = tonic::Request::new(tokio_stream::iter(requests));
            let refusal =
                client.client_streaming(request, path.clone(), codec).await.map(tonic::Response::into_inner).unwrap_err();
            assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
            assert!(refusal.message().contains("more than 10000 events"), "{refusal:?}");
        }
        assert_below(&rig, 512 * MIB, "50 million empty events in a message")
    })
}

#[test]
fn i8_http_requests_that_never_end_are_bounded_and_keep_nobody_out() -> Outcome<()> {
    run(120, async {
        let rig = Rig::start_with(&[("ARCGATE_LIMITS__MEMORY", "256MiB")]).await?;
        let mut requests = Vec::new();
        for _ in 0..scaled(2_000, 200) {
            let mut request = TcpStream::connect(rig.http()).await?;
            request.write_all(b"GET /livez HTTP/1.1\r\nx: ").await?;
            requests.push(request);
        }
        let mut endless = JoinSet::new();
        for mut request in requests {
            endless.spawn(async move {
                // Whichever comes first: nobody reads on, or the connection is ended.
                let header = vec![b'x'; 380 << 10];
                let _ = within(Duration::from_secs(5), "a header", async { Ok(request.write_all(&header).await?) }).await;
                request
            });
        }
        let held = endless.join_all().await;
        assert_below(&rig, 256 * MIB, "requests without end")?;
        assert_eq!(within(SOON, "another's request", http::get(rig.http(), "/livez")).await?.status, 200);
        drop(held);
        Ok(())
    })
}

#[test]
fn i8_ten_thousand_idle_streams_and_stopped_readers() -> Outcome<()> {
    run(300, async {
        let rig = Rig::start().await?;
        let (connections, each) = (scaled(500, 50), 20);
        let mut idle = Vec::new();
        for connection in 0..connections {
            let channel = rig.gateway.channel()?;
            for stream in 0..each {
                let name = format!("idle-{connection}-{stream}");
                let session = logs::LogSession::open(channel.clone(), &name);
                idle.push(within(SOON, "an idle stream", session).await?);
            }
        }
        assert_below(&rig, 512 * MIB, "idle streams")?;

        // Readers that stop reading, on a step run that goes on.
        let mut stopped = Vec::new();
        for _ in 0..200 {
            stopped.push(Reader::follow(rig.http(), "busy").await?);
        }
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "busy").await?;
        for turn in 0..100 {
            let text: String = (1..=1_000).map(|line| format!("{line} {}\n", "x".repeat(1_000))).collect();
            session.ask(logs::batch("busy", "busy", turn + 1, text)).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_below(&rig, 512 * MIB, "stopped readers")?;

        // The idle ones still work.
        for (index, session) in idle.iter_mut().enumerate().step_by(97) {
            let ack = session.ask(logs::batch("", &format!("woken-{index}"), 1, "hello\n")).await?;
            assert_eq!(ack.taken, 1, "{ack:?}");
        }
        drop(stopped);
        eventually(SOON, "the readers' end", async || {
            Ok((rig.gateway.metric("arcgate_replay_readers").await? < 1.0).then_some(()))
        })
        .await
    })
}
