//! The commands for the control plane, from a definition with a mistake to a run that was followed to its end.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use arcgate_api::steprun::v1::StepRunStatus as S;
use serde_json::Value;
use tempfile::TempDir;

use super::Place;
use crate::harness::{Outcome, binary, folder, logs, output, run, text};

const LIMIT: Duration = Duration::from_secs(60);

const GOOD: &str = "namespace: shop\njobs:\n- name: build\n  steps:\n  - {name: compile, uses: shell}\n";

/// A person with a token.
struct Person<'p> {
    place: &'p Place,
    folder: TempDir,
}

impl<'p> Person<'p> {
    fn with(place: &'p Place, token: &str) -> Outcome<Self> {
        let folder = folder()?;
        fs::write(folder.path().join("token"), token)?;
        fs::write(folder.path().join("ci.yaml"), GOOD)?;
        Ok(Self { place, folder })
    }

    fn command(&self, words: &[&str]) -> Command {
        let addresses = &self.place.rig.gateway.addresses;
        let mut command = Command::new(binary());
        command.current_dir(self.folder.path()).env("ARCGATE_TOKEN_FILE", "token").args(words);
        command.env("ARCGATE_SERVER", format!("http://{}", addresses.grpc));
        command.env("ARCGATE_HTTP_SERVER", format!("http://{}", addresses.http));
        command
    }

    async fn says(&self, words: &[&str]) -> Outcome<Output> {
        output(self.command(words), LIMIT).await
    }

    async fn done(&self, words: &[&str]) -> Outcome<String> {
        Ok(text(&self.says(words).await?, 0)?.trim_end().to_owned())
    }

    /// What it says when it fails.
    async fn refused(&self, words: &[&str]) -> Outcome<String> {
        let said = self.says(words).await?;
        text(&said, 1)?;
        Ok(String::from_utf8_lossy(&said.stderr).into_owned())
    }
}

#[test]
fn a_pipeline_is_made_triggered_followed_and_stopped_from_the_command_line() -> Outcome<()> {
    run(240, async {
        let place = Place::start().await?;
        let person = Person::with(&place, &place.operator)?;
        assert_eq!(person.done(&["pipeline", "validate", "ci.yaml"]).await?, "ci.yaml: ok, 1 job");
        let id = person.done(&["pipeline", "create", "ci.yaml", "--project", "p"]).await?;
        let listed = person.done(&["pipeline", "list", "--json"]).await?;
        let listed: Value = serde_json::from_str(&listed)?;
        assert_eq!((&listed["pipeline_id"], &listed["name"]), (&id.clone().into(), &"shop".into()));

        let agent = place.agent().await?;
        for (end, code, word) in [(S::Success, 0, "success"), (S::Failed, 3, "failed")] {
            let run_id = person.done(&["pipeline", "trigger", &id, "--var", "A=1", "--request-id", word]).await?;
            assert_eq!(person.done(&["pipeline", "trigger", &id, "--request-id", word]).await?, run_id);
            let watching = tokio::spawn(output(person.command(&["run", "watch", &run_id]), LIMIT));
            let step = place.given(&agent).await?;
            place.report(&agent, &step.step_run_id, S::Running).await?;
            let mut batch = logs::batch(&agent.0, &step.step_run_id, 1, format!("it is a {word}\n"));
            (batch.first_line, batch.end_of_log) = (1, true);
            let mut client = arcgate_api::gateway::v1::gateway_service_client::GatewayServiceClient::with_interceptor(
                place.rig.gateway.channel()?,
                super::Bearer(agent.1.clone()),
            );
            client.push_logs(tokio_stream::iter([logs::message(batch)])).await?;
            // So that it is there before the end, whenever the watcher came.
            let tailed = person.done(&["tail", &step.step_run_id]).await?;
            assert_eq!(tailed, format!("it is a {word}"));
            place.report(&agent, &step.step_run_id, end).await?;
            let watched = text(&watching.await??, code)?;
            assert!(watched.contains(&format!("build/compile: {word}")), "{watched}");
            assert!(watched.contains(&format!("run {run_id}: {word}")), "{watched}");
            // Of a run that is over, the end is shown and tells the exit code.
            let again = text(&person.says(&["run", "watch", &run_id, "--json"]).await?, code)?;
            assert!(again.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{again}");
        }
        let run_id = person.done(&["pipeline", "trigger", &id]).await?;
        person.done(&["pipeline", "stop", &run_id, "--reason", "enough"]).await?;
        text(&person.says(&["run", "watch", &run_id]).await?, 4)?;
        assert!(person.refused(&["pipeline", "stop", &run_id]).await?.contains("invalid run state for stop"));
        let cancelled = person.done(&["run", "list", "--pipeline", &id, "--status", "cancelled"]).await?;
        assert!(
            cancelled.lines().count() == 2 && cancelled.contains(&run_id) && cancelled.contains("the operator"),
            "{cancelled}"
        );
        Ok(())
    })
}

#[test]
fn mistakes_are_told_with_their_lines_and_rights_with_what_is_missing() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let person = Person::with(&place, &place.operator)?;
        fs::write(person.folder.path().join("typo.yaml"), GOOD.replace("steps:", "setps:"))?;
        let told = person.refused(&["pipeline", "create", "typo.yaml"]).await?;
        assert!(told.contains("typo.yaml: line 4, column") && told.contains("did you mean steps?"), "{told}");
        fs::write(person.folder.path().join("circle.yaml"), GOOD.replace("  steps:", "  timeout: soon\n  steps:"))?;
        let told = person.refused(&["pipeline", "validate", "circle.yaml"]).await?;
        assert!(told.contains("circle.yaml: spec validation failed") && told.contains("line 4, column 3: "), "{told}");
        assert!(told.contains("[jobs[0].timeout]"), "{told}");
        let told = person.refused(&["run", "watch", "none"]).await?;
        assert!(told.contains("pipeline run not found: none"), "{told}");

        let viewer = Person::with(&place, &place.viewer)?;
        let told = viewer.refused(&["pipeline", "create", "ci.yaml"]).await?;
        assert!(told.contains("this call needs Operator"), "{told}");
        let nobody = Person::with(&place, "arc_00")?;
        assert!(nobody.refused(&["pipeline", "list"]).await?.contains("--token-file"));
        assert!(nobody.refused(&["pipeline", "list", "--server", "127.0.0.1:1"]).await?.contains("the gateway is away"));
        Ok(())
    })
}

#[test]
fn tokens_are_made_and_agents_are_listed_with_a_gateway_and_without() -> Outcome<()> {
    run(120, async {
        let mut place = Place::start().await?;
        let agent = place.agent().await?;
        let person = Person::with(&place, &place.operator)?;
        let id = person.done(&["pipeline", "create", "ci.yaml"]).await?;
        person.done(&["pipeline", "trigger", &id]).await?;
        let step = place.given(&agent).await?;
        drop(person);
        for _ in 0..2 {
            let listed: Value = serde_json::from_str(&text(&place.rig.arcgate(&["agents", "--json"]).await?, 0)?)?;
            assert_eq!((&listed["agent_id"], &listed["labels"]["os"]), (&agent.0.clone().into(), &"linux".into()));
            assert_eq!(listed["executes"][0]["step_run_id"], step.step_run_id.clone());
            let people = text(&place.rig.arcgate(&["agents"]).await?, 0)?;
            assert!(people.contains("build/compile") && people.contains("os=linux"), "{people}");
            let made = place.rig.arcgate(&["token", "create", "--role", "agent", "--expires", "30d", "--max-uses", "1"]).await?;
            let token = text(&made, 0)?;
            assert!(token.starts_with("art_") && token.lines().count() == 1, "{token}");
            // The second time nobody serves.
            let _ = place.rig.gateway.stop().await;
        }
        text(&place.rig.arcgate(&["token", "create", "--role", "viewer", "--max-uses", "1"]).await?, 1)?;
        text(&place.rig.arcgate(&["token", "create", "--role", "root"]).await?, 2)?;
        text(&place.rig.arcgate(&["agents", "--set", "store.path=elsewhere"]).await?, 1)?;
        Ok(())
    })
}
