//! What is missing at the other end is said once, clearly; when it is there, nothing is missing.

use std::io::Write;

use serde_json::json;

use super::consumer::{Target, client, cloud_event, consume, create_topic};
use crate::harness::services::Kafka;
use crate::harness::{Outcome, Rig, SOON, events, eventually, run};

/// Waits until the gateway's log says `what`; gives the whole log.
pub(super) async fn says(rig: &Rig, what: &str) -> Outcome<String> {
    eventually(SOON * 2, what, async || {
        let log = std::fs::read_to_string(rig.gateway.launch().log())?;
        Ok(Some(log).filter(|log| log.contains(what)))
    })
    .await
}

/// Pushes an event, which must be acked whatever the sinks do.
pub(super) async fn push_one(rig: &Rig, seq: u64) -> Outcome<()> {
    let event = cloud_event("a", seq, "arcentra.task.started", "s", &json!({ "n": seq }));
    let ack = events::push(rig.gateway.channel()?, "a", seq - 1, vec![event]).await?;
    assert_eq!(ack.last_accepted_seq, seq, "input does not wait for a sink");
    Ok(())
}

/// A file that holds this.
pub(super) fn secret(text: &str) -> Outcome<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    writeln!(file, "{text}")?;
    Ok(file)
}

#[test]
fn a_missing_topic_is_said_once_and_what_waited_is_delivered_when_it_is_there() -> Outcome<()> {
    run(240, async {
        let target = Target::new(Kafka::shared()?.bootstrap(), "missing").with("ARCGATE_KAFKA__CREATE_TOPICS", "false");
        let rig = target.gateway().await?;
        push_one(&rig, 1).await?;
        says(&rig, "Kafka has no topic missing.").await?;
        for kind in ["agent", "artifact", "platform", "pipeline"] {
            create_topic(&target.client, &target.topic(kind), &[]).await?;
        }
        assert_eq!(target.events("pipeline", 1).await?.len(), 1);
        let log = says(&rig, "kafka.create_topics").await?;
        for kind in ["agent", "log"] {
            assert!(log.matches(&format!("Kafka has no topic missing.{kind};")).count() <= 1, "{log}");
        }
        Ok(())
    })
}

#[test]
fn a_right_that_is_missing_is_said_once_and_what_waited_is_delivered_when_it_is_given() -> Outcome<()> {
    run(300, async {
        let kafka = Kafka::start_with_users("admin=admin-secret gateway=gateway-secret")?;
        let admin = client(kafka.bootstrap(), Some(("admin", "admin-secret")));
        let password = secret("gateway-secret")?;
        let target = Target::new(kafka.bootstrap(), "rights")
            .with("ARCGATE_KAFKA__LOGS", "off")
            .with("ARCGATE_KAFKA__USERNAME", "gateway")
            .with("ARCGATE_KAFKA__PASSWORD_FILE", &password.path().to_string_lossy());
        let topics = ["pipeline", "agent", "artifact", "platform"].map(|kind| target.topic(kind));
        for topic in &topics {
            create_topic(&admin, topic, &[]).await?;
        }
        let rig = target.gateway().await?;
        push_one(&rig, 1).await?;
        let refused = "does not let this gateway use topic rights.";
        says(&rig, refused).await?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        // It may look at them all, but not write to the one that matters.
        kafka.allow("gateway", "Describe", &names)?;
        says(&rig, "does not let this gateway write; give its user").await?;
        kafka.allow("gateway", "Write", &names)?;
        let found = eventually(SOON, "the event", async || {
            Ok(Some(consume(&admin, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?)
                .filter(|found| !found.is_empty()))
        })
        .await?;
        assert_eq!(found.len(), 1);
        let log = says(&rig, refused).await?;
        for topic in &topics {
            let told = format!("does not let this gateway use topic {topic};");
            assert!(log.matches(&told).count() <= 2, "once for each cause, not at each try:\n{log}");
        }
        assert!(!log.contains("gateway-secret"));
        Ok(())
    })
}

#[test]
fn a_wrong_password_is_said_and_mended_by_a_restart_with_the_right_one() -> Outcome<()> {
    run(300, async {
        // Superuser: this is about the password alone.
        let kafka = Kafka::start_with_users("gateway=right")?;
        let password = secret("wrong")?;
        let target = Target::new(kafka.bootstrap(), "password")
            .with("ARCGATE_KAFKA__USERNAME", "gateway")
            .with("ARCGATE_KAFKA__PASSWORD_FILE", &password.path().to_string_lossy());
        let mut rig = target.gateway().await?;
        push_one(&rig, 1).await?;
        says(&rig, "Kafka refuses the login").await?;
        std::fs::write(password.path(), "right\n")?;
        rig.gateway.stop().await?;
        rig.gateway.restart().await?;
        let login = client(kafka.bootstrap(), Some(("gateway", "right")));
        eventually(SOON, "the event", async || {
            Ok((consume(&login, &[target.topic("pipeline")]).unwrap_or_default().len() == 1).then_some(()))
        })
        .await
    })
}
