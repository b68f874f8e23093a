//! I5: an event that can never be accepted is passed: named in `rejected_seqs`, kept as a dead letter, counted. It never blocks the
//! agent behind it, and spoils no event beside it.

use arcgate_api::gateway::v1::{Event, IngestAck, Meta};
use arcgate_api::ingest;
use bytes::Bytes;
use prost::Message;
use serde_json::json;

use crate::harness::stock_agent::StockAgent;
use crate::harness::{Outcome, Rig, SOON, events, oracle, run, within};

/// Sends encoded events as they are, fit or not.
async fn push_raw(rig: &Rig, agent: &str, mark: u64, events: Vec<Bytes>) -> Outcome<IngestAck> {
    let handshake = arcgate_api::gateway::v1::AgentHandshake { agent_id: agent.to_owned(), last_known_seq: mark };
    let messages = [
        ingest::PushEventsRequest { payload: Some(ingest::Payload::Handshake(handshake)) },
        ingest::PushEventsRequest { payload: Some(ingest::Payload::Batch(ingest::EventBatch::new("b", events))) },
    ];
    let mut client = ingest::gateway_service_client::GatewayServiceClient::new(rig.gateway.channel()?)
        .max_encoding_message_size(arcgate_load::process::MAX_MESSAGE);
    Ok(client.push_events(tokio_stream::iter(messages)).await?.into_inner().ack.ok_or("no ack")?)
}

fn good(agent: &str, seq: u64) -> Bytes {
    events::event(agent, format!("good-{seq}"), seq, "t", &json!({})).encode_to_vec().into()
}

/// An event with an id and a seq, and one more field's bytes behind them.
fn spoiled(id: &str, seq: u64, more: &[u8]) -> Bytes {
    let event = Event { event_id: id.to_owned(), meta: Some(Meta { seq, ..Meta::default() }), ..Event::default() };
    let mut bytes = event.encode_to_vec();
    bytes.extend_from_slice(more);
    bytes.into()
}

/// A Struct that holds a Struct, and so on, `levels` deep.
fn nested(levels: usize) -> serde_json::Value {
    (0..levels).fold(json!({}), |inner, _| json!({ "deeper": inner }))
}

#[test]
fn i5_events_that_can_never_be_accepted_are_named_passed_and_spoil_nothing() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start_with(&[("ARCGATE_EVENTS__MAX_EVENT", "1MiB")]).await?;
        let poison: Vec<(&str, Bytes)> = vec![
            ("no id", spoiled("", 2, &[])),
            ("an id of 257 bytes", spoiled(&"x".repeat(257), 2, &[])),
            ("an id with a control character", spoiled("a\nb", 2, &[])),
            ("invalid UTF-8 in its type", spoiled("utf8", 2, &[0x1a, 2, 0xff, 0xfe])),
            ("a payload that is no message", spoiled("torn", 2, &[0x22, 3, 0x0a, 0x7f, 0x00])),
            ("a payload 200 levels deep", events::event("a", "deep", 2, "t", &nested(200)).encode_to_vec().into()),
            (
                "larger than the limit",
                events::event("a", "large", 2, "t", &json!({ "x": "x".repeat(1 << 20) })).encode_to_vec().into(),
            ),
        ];
        for (index, (what, bytes)) in poison.iter().enumerate() {
            let agent = format!("poisoned-{index}");
            let ack = push_raw(&rig, &agent, 0, vec![good(&agent, 1), bytes.clone(), good(&agent, 3)]).await?;
            assert_eq!((ack.last_accepted_seq, &ack.rejected_seqs[..], ack.taken), (3, &[2][..], 2), "{what}: {ack:?}");
            assert!(!ack.message.is_empty(), "{what}: the answer does not say why");
            // Sent again it is named again, and not kept twice.
            let again = push_raw(&rig, &agent, 0, vec![good(&agent, 1), bytes.clone(), good(&agent, 3)]).await?;
            assert_eq!(
                (again.last_accepted_seq, &again.rejected_seqs[..], again.repeated),
                (3, &[2][..], 2),
                "{what}: {again:?}"
            );
        }
        rig.gateway.stop().await?;
        let stored = oracle::events(rig.gateway.launch()).await?;
        assert_eq!(stored.iter().filter(|event| event.event_id.starts_with("good-")).count(), 2 * poison.len());
        assert!(stored.iter().all(|event| event.event_id.starts_with("good-")), "a dead letter is listed as an event");
        Ok(())
    })
}

#[test]
fn i5_an_event_without_a_number_is_rejected_and_the_others_go_on() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        // Neither can be told apart by a number: they are named as 0.
        for (what, bytes) in [("seq 0", spoiled("zero", 0, &[])), ("nothing that could be read", Bytes::from_static(&[0xff; 40]))]
        {
            let agent = format!("numberless-{}", what.len());
            let ack = push_raw(&rig, &agent, 0, vec![good(&agent, 1), bytes, good(&agent, 2)]).await?;
            assert_eq!((ack.last_accepted_seq, &ack.rejected_seqs[..], ack.taken), (2, &[0][..], 2), "{what}: {ack:?}");
        }
        Ok(())
    })
}

#[test]
fn i5_one_bad_event_of_a_hundred_spoils_none() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let batch = (1..=100).map(|seq| if seq == 50 { spoiled("bad", 50, &[0x1a, 1, 0xc0]) } else { good("a", seq) });
        let ack = push_raw(&rig, "a", 0, batch.collect()).await?;
        assert_eq!((ack.last_accepted_seq, &ack.rejected_seqs[..], ack.taken), (100, &[50][..], 99));
        Ok(())
    })
}

#[test]
fn i5_the_existing_agent_gets_past_poison() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start_with(&[("ARCGATE_EVENTS__MAX_EVENT", "64KiB")]).await?;
        let mut agent = StockAgent::new("stock");
        for n in 0..300 {
            // A whole window of nothing but poison is among them.
            let text = if n % 40 == 7 || (100..200).contains(&n) { "x".repeat(70_000) } else { "x".into() };
            agent.append("arcentra.task.progress", &json!({ "text": text }));
        }
        within(SOON, "the agent to get past", agent.run(&rig.gateway.channel()?)).await?;
        assert_eq!(agent.lost(), Vec::<u64>::new());
        assert!(agent.calls < 30, "{} calls for 300 events", agent.calls);
        Ok(())
    })
}
