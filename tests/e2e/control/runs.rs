//! Runs that begin once, by hand, by time and by an event; and what the event log has of them.

use arcgate_api::pipeline::v1 as pb;
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_load::control::job;
use serde_json::json;
use tokio::task::JoinSet;

use super::Place;
use crate::harness::{Outcome, SOON, events, eventually, run, text};

/// A pipeline of one job, with a trigger.
async fn pipeline(place: &Place, kind: &str, options: &[(&str, &str)]) -> Outcome<String> {
    let mut client = place.pipelines(&place.operator)?;
    let asked = pb::CreatePipelineRequest {
        project_id: "shop".into(),
        name: "build".into(),
        pipeline_file_path: "ci.yaml".into(),
        ..Default::default()
    };
    let made = client.create_pipeline(asked).await?.into_inner();
    assert!(made.success, "{made:?}");
    let value = |text: &str| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text.to_owned())) };
    let fields = options.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
    let trigger = pb::Trigger { r#type: kind.into(), options: Some(prost_types::Struct { fields }) };
    let spec = pb::Spec { namespace: "shop".into(), jobs: vec![job("j")], triggers: vec![trigger], ..Default::default() };
    let asked = pb::SavePipelineSpecRequest { pipeline_id: made.pipeline_id.clone(), spec: Some(spec), ..Default::default() };
    let saved = client.save_pipeline_spec(asked).await?.into_inner();
    assert!(saved.success, "{saved:?}");
    Ok(made.pipeline_id)
}

async fn runs(place: &Place, pipeline_id: &str) -> Outcome<Vec<pb::PipelineRunDetail>> {
    let asked = pb::ListPipelineRunsRequest { pipeline_id: pipeline_id.to_owned(), ..Default::default() };
    Ok(place.pipelines(&place.viewer)?.list_pipeline_runs(asked).await?.into_inner().runs)
}

#[test]
fn one_request_that_comes_a_hundred_times_at_once_makes_one_run() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let id = pipeline(&place, "manual", &[]).await?;
        let mut asked = JoinSet::new();
        for _ in 0..100 {
            let mut client = place.pipelines(&place.operator)?;
            let request = pb::TriggerPipelineRequest { pipeline_id: id.clone(), request_id: "one".into(), ..Default::default() };
            asked.spawn(async move { client.trigger_pipeline(request).await });
        }
        let mut ids = std::collections::HashSet::new();
        while let Some(answer) = asked.join_next().await {
            let answer = answer??.into_inner();
            assert!(answer.success, "{answer:?}");
            ids.insert(answer.run_id);
        }
        let all = runs(&place, &id).await?;
        assert_eq!((ids.len(), all.len(), &*all[0].triggered_by), (1, 1, "the operator"));
        Ok(())
    })
}

#[test]
fn a_schedule_with_seconds_fires() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let id = pipeline(&place, "cron", &[("expression", "*/1 * * * * *")]).await?;
        let all =
            eventually(SOON, "two runs", async || Ok(Some(runs(&place, &id).await?).filter(|runs| runs.len() >= 2))).await?;
        assert!(all.iter().all(|run| run.trigger_type() == pb::TriggerType::Cron), "{all:?}");
        Ok(())
    })
}

#[test]
fn an_accepted_push_fires_what_matches_once_and_the_event_log_has_what_follows() -> Outcome<()> {
    run(120, async {
        let mut place = Place::start().await?;
        let matching = pipeline(&place, "event", &[("event_type", "push"), ("branch", "main")]).await?;
        let other = pipeline(&place, "event", &[("event_type", "push"), ("branch", "release/*")]).await?;
        let data = json!({ "projectId": "shop", "ref": "refs/heads/main", "commit": "c0ffee" });
        let payload = json!({ "type": "arcentra.scm.push", "data": data });
        let mut client = arcgate_api::gateway::v1::gateway_service_client::GatewayServiceClient::with_interceptor(
            place.rig.gateway.channel()?,
            super::Bearer(place.operator.clone()),
        );
        // The same event twice: it is accepted once.
        for _ in 0..2 {
            let event = events::event("scm", "push-1", 1, "arcentra.scm.push", &payload);
            let messages = [events::handshake("scm", 0), events::message(vec![event])];
            client.push_events(tokio_stream::iter(messages)).await?;
        }
        let all =
            eventually(SOON, "a run", async || Ok(Some(runs(&place, &matching).await?).filter(|runs| !runs.is_empty()))).await?;
        assert_eq!((all.len(), &*all[0].branch, &*all[0].commit_sha), (1, "main", "c0ffee"));
        assert_eq!(all[0].trigger_type(), pb::TriggerType::Event);
        assert!(runs(&place, &other).await?.is_empty());

        let agent = place.agent().await?;
        let step = place.given(&agent).await?;
        place.report(&agent, &step.step_run_id, StepRunStatus::Running).await?;
        place.report(&agent, &step.step_run_id, StepRunStatus::Success).await?;
        let ended = async || Ok(runs(&place, &matching).await?.pop().filter(|run| run.status() == pb::PipelineStatus::Success));
        eventually(SOON, "the run's end", ended).await?;
        assert_eq!(runs(&place, &matching).await?.len(), 1);
        // Of the run, its job, its step and the agent. A stop may come before the last of them is in the log; then the next start
        // brings it there.
        loop {
            place.rig.gateway.stop().await?;
            let listed = text(&place.rig.arcgate(&["store", "ls", "--events", "--json"]).await?, 0)?;
            if listed.lines().filter(|line| line.contains("\"agent_id\":\"arcgate\"")).count() >= 6 {
                return Ok(());
            }
            place.rig.gateway.restart().await?;
        }
    })
}
