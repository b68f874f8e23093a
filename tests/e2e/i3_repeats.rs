//! I3: a repeat of an event, now or after a restart, is acked as accepted and adds nothing. The key is (agent_id, event_id). Only ids of
//! the form `evt-<seq>` with the event's own seq are no identity once the content differs.

use arcgate_api::gateway::v1::{Event, IngestAck};
use serde_json::json;

use crate::harness::{Outcome, Rig, events, oracle, run};

async fn push(rig: &Rig, agent: &str, event: Event) -> Outcome<IngestAck> {
    let mark = event.meta.as_ref().map_or(0, |meta| meta.seq - 1);
    events::push(rig.gateway.channel()?, agent, mark, vec![event]).await
}

/// (accepted up to its own seq, taken, repeated)
fn of(ack: &IngestAck) -> (u64, u64, u64) {
    (ack.last_accepted_seq, ack.taken, ack.repeated)
}

#[test]
fn i3_a_repeat_adds_nothing_now_and_after_a_restart_and_a_crash() -> Outcome<()> {
    run(120, async {
        let mut rig = Rig::start().await?;
        let event = || events::event("a", "6f1c", 7, "t", &json!({ "n": 1 }));
        assert_eq!(of(&push(&rig, "a", event()).await?), (7, 1, 0));
        assert_eq!(of(&push(&rig, "a", event()).await?), (7, 0, 1));
        // Another time of sending, another batch: the same event.
        let mut later = event();
        if let Some(meta) = &mut later.meta {
            meta.timestamp = Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 });
        }
        assert_eq!(of(&push(&rig, "a", later).await?), (7, 0, 1));
        // The same id of another agent is another event.
        assert_eq!(of(&push(&rig, "b", events::event("b", "6f1c", 7, "t", &json!({ "n": 1 }))).await?), (7, 1, 0));

        rig.gateway.stop().await?;
        rig.gateway.restart().await?;
        assert_eq!(of(&push(&rig, "a", event()).await?), (7, 0, 1));
        rig.crash().await?;
        assert_eq!(of(&push(&rig, "a", event()).await?), (7, 0, 1));
        // Twice in one batch, and twice in one session before the first is synced.
        let twice = vec![events::event("a", "twice", 8, "t", &json!({})), events::event("a", "twice", 9, "t", &json!({}))];
        let ack = events::push(rig.gateway.channel()?, "a", 7, twice).await?;
        assert_eq!(of(&ack), (9, 1, 1));

        rig.gateway.stop().await?;
        let stored = oracle::events(rig.gateway.launch()).await?;
        let mut names: Vec<_> =
            stored.iter().map(|event| (event.agent_id.as_str(), event.event_id.as_str(), event.seq)).collect();
        names.sort_unstable();
        assert_eq!(names, [("a", "6f1c", 7), ("a", "twice", 8), ("b", "6f1c", 7)]);
        Ok(())
    })
}

#[test]
fn i3_an_id_of_its_own_with_other_content_stays_a_repeat() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        assert_eq!(of(&push(&rig, "a", events::event("a", "id", 1, "t", &json!({ "n": 1 }))).await?), (1, 1, 0));
        assert_eq!(of(&push(&rig, "a", events::event("a", "id", 1, "t", &json!({ "n": 2 }))).await?), (1, 0, 1));
        // evt-<another number> is an id like any other.
        assert_eq!(of(&push(&rig, "a", events::event("a", "evt-2", 3, "t", &json!({ "n": 1 }))).await?), (3, 1, 0));
        assert_eq!(of(&push(&rig, "a", events::event("a", "evt-2", 3, "t", &json!({ "n": 2 }))).await?), (3, 0, 1));
        rig.gateway.stop().await?;
        assert_eq!(oracle::events(rig.gateway.launch()).await?.len(), 2);
        Ok(())
    })
}

#[test]
fn i3_evt_seq_ids_with_other_content_are_other_events_across_a_reset_and_a_restart() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        let event =
            |n: u64| events::event("a", "evt-1", 1, "outbox", &json!({ "id": n, "z": { "b": 1, "a": [1, "x", null, true] } }));
        assert_eq!(of(&push(&rig, "a", event(1)).await?), (1, 1, 0));
        assert_eq!(of(&push(&rig, "a", event(1)).await?), (1, 0, 1));
        rig.crash().await?;
        assert_eq!(of(&push(&rig, "a", event(1)).await?), (1, 0, 1));
        // The agent's log was reset: the same name, another event. Both lives' repeats are repeats.
        assert_eq!(of(&push(&rig, "a", event(2)).await?), (1, 1, 0));
        assert_eq!(of(&push(&rig, "a", event(2)).await?), (1, 0, 1));
        rig.crash().await?;
        assert_eq!(of(&push(&rig, "a", event(2)).await?), (1, 0, 1));
        rig.gateway.stop().await?;
        assert_eq!(oracle::events(rig.gateway.launch()).await?.len(), 2);
        Ok(())
    })
}

#[test]
fn i3_the_order_of_a_payloads_keys_is_no_content() -> Outcome<()> {
    use arcgate_api::ingest;
    use prost::Message;

    run(60, async {
        let rig = Rig::start().await?;
        let whole = events::event("a", "evt-1", 1, "outbox", &json!({ "alpha": 1, "beta": { "x": "1", "y": "2" } }));
        // The same payload with its map's entries the other way round: the encoding of a map has no order.
        let payload = whole.payload.clone().unwrap_or_default();
        let entry = |key: &str| {
            let fields =
                payload.fields.iter().filter(|(name, _)| *name == key).map(|(name, value)| (name.clone(), value.clone()));
            prost_types::Struct { fields: fields.collect() }.encode_to_vec()
        };
        let encode = |keys: [&str; 2]| {
            let mut bytes = Event { payload: None, ..whole.clone() }.encode_to_vec();
            let fields = keys.map(entry).concat();
            prost::encoding::encode_key(4, prost::encoding::WireType::LengthDelimited, &mut bytes);
            prost::encoding::encode_varint(fields.len() as u64, &mut bytes);
            bytes.extend(fields);
            bytes
        };
        let mut client = ingest::gateway_service_client::GatewayServiceClient::new(rig.gateway.channel()?);
        let mut taken = Vec::new();
        for keys in [["alpha", "beta"], ["beta", "alpha"]] {
            let batch = ingest::EventBatch::new("b", vec![encode(keys).into()]);
            let message = ingest::PushEventsRequest { payload: Some(ingest::Payload::Batch(batch)) };
            let ack = client.push_events(tokio_stream::iter([message])).await?.into_inner().ack.unwrap_or_default();
            taken.push((ack.taken, ack.repeated));
        }
        assert_eq!(taken, [(1, 0), (0, 1)]);
        Ok(())
    })
}
