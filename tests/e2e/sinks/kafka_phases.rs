//! The gateway is killed with -9 in each phase of a delivery to Kafka: nothing that was acked is missing there, and only what Kafka had
//! without the gateway's having noted it comes again, as the same bytes.

use super::consumer::{Target, client};
use super::kafka_outages::{assert_all, push};
use crate::harness::services::Kafka;
use crate::harness::wire::Wire;
use crate::harness::{Outcome, cursor, run};

const SINK: &str = "kafka-events";
/// Events that are pushed at a time.
const EVENTS: u64 = 20;

#[test]
fn i9_every_acked_event_is_in_kafka_though_the_gateway_is_killed_in_each_phase_of_a_delivery() -> Outcome<()> {
    run(300, async {
        let wire = Wire::new().await?;
        let kafka = Kafka::start_behind(wire.address())?;
        wire.lead_to(kafka.bootstrap());
        let mut target = Target::new(wire.address(), "phases").with("ARCGATE_KAFKA__LOGS", "off");
        target.client = client(kafka.internal(), None);
        let mut rig = target.gateway().await?;
        let mut acked = push(&rig, 1, EVENTS, 0).await?;
        let mut before = cursor::has_noted(&rig, SINK, EVENTS).await?;
        let mut next = EVENTS + 1;

        // Before the send: the batch's end is saved, and what is sent of it does not leave this machine.
        wire.pass_only(0);
        acked.extend(push(&rig, next, next + EVENTS - 1, 0).await?);
        wire.holds().await?;
        cursor::is_under_way(&rig, SINK).await?;
        rig.gateway.kill9()?;
        assert!(cursor::saved(&rig, SINK)?.is_under_way_since(before));
        wire.cut();
        wire.pass();
        assert_eq!(target.consume("pipeline")?.len() as u64, EVENTS, "nothing has been sent");
        rig.gateway.restart().await?;
        before = cursor::has_noted(&rig, SINK, EVENTS).await?;
        let found = target.consume("pipeline")?;
        assert_all(&found, &acked);
        assert_eq!(found.len(), acked.len(), "nothing comes twice");
        next += EVENTS;

        // After the send, before the confirmation: Kafka has them, and its answer is on its way.
        wire.hold_answers();
        acked.extend(push(&rig, next, next + EVENTS - 1, 0).await?);
        target.events("pipeline", acked.len()).await?;
        rig.gateway.kill9()?;
        assert!(cursor::saved(&rig, SINK)?.is_under_way_since(before));
        wire.cut();
        wire.pass();
        rig.gateway.restart().await?;
        before = cursor::has_noted(&rig, SINK, EVENTS).await?;
        let found = target.consume("pipeline")?;
        assert_all(&found, &acked);
        assert_eq!(found.len() as u64, acked.len() as u64 + EVENTS, "what Kafka had comes again, and nothing else");
        next += EVENTS;

        // After the confirmation, before the cursor is saved.
        wire.hold_answers();
        acked.extend(push(&rig, next, next + EVENTS - 1, 0).await?);
        target.events("pipeline", acked.len()).await?;
        cursor::takes_no_more(&rig, SINK).await?;
        wire.pass();
        // Since the last start: those that came again, and these.
        rig.has_delivered(SINK, 2 * EVENTS).await?;
        rig.gateway.kill9()?;
        assert!(cursor::saved(&rig, SINK)?.is_under_way_since(before));
        rig.gateway.restart().await?;
        cursor::has_noted(&rig, SINK, EVENTS).await?;
        let found = target.consume("pipeline")?;
        assert_all(&found, &acked);
        assert_eq!(found.len() as u64, acked.len() as u64 + 2 * EVENTS, "what was not noted comes again, and nothing else");
        next += EVENTS;

        // Once the cursor is saved.
        rig.crash().await?;
        acked.extend(push(&rig, next, next + EVENTS - 1, 0).await?);
        cursor::has_noted(&rig, SINK, EVENTS).await?;
        let found = target.consume("pipeline")?;
        assert_all(&found, &acked);
        assert_eq!(found.len() as u64, acked.len() as u64 + 2 * EVENTS, "nothing more comes again");
        Ok(())
    })
}
