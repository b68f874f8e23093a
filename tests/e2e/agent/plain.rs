//! What an agent does when nothing breaks.

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;

use super::place::{Place, appears, is_gone, of_agents};
use crate::harness::{Outcome, run, text};

#[test]
fn a_pipeline_runs_to_its_end_and_each_log_is_whole_when_its_step_is_over() -> Outcome<()> {
    run(180, async {
        let place = Place::start().await?;
        let artifacts = place.path("artifacts");
        std::fs::create_dir(&artifacts)?;
        let artifacts = artifacts.display().to_string();
        let words = ["--max-step-runs", "2", "--artifacts", &artifacts];
        let linux = place.agent("linux", &[&words[..], &["--labels", "os=linux"]].concat())?;
        let _mac = place.agent("mac", &[&words[..], &["--labels", "os=mac"]].concat())?;
        let run_id = place
            .run(
                "\
- name: build
  env: {GREETING: hello}
  steps:
  - {name: make, uses: shell, args: {run: 'echo $GREETING >shared; seq 5000; echo oops >&2'}}
  - {name: keep, uses: artifacts, args: {name: bin, path: shared}}
- name: test
  dependsOn: [build]
  steps:
  - {name: get, uses: artifacts, action: download, args: {name: bin}, agent_selector: {match_labels: {os: mac}}}
  - {name: look, uses: shell, args: {commands: ['cat shared', 'test -n \"$ARCGATE_STEP_RUN_ID\"']}}
- name: lint
  steps:
  - {name: say, uses: stdout, args: {message: linted}}
",
            )
            .await?;
        // As soon as a step is over, its log is whole.
        let made = place.step(&run_id, "make", StepRunStatus::Success).await?;
        let log = place.log(&made.step_run_id).await?;
        assert_eq!(log.lines().count(), 5_001);
        assert!(log.starts_with("1\n2\n") && log.contains("4999\n5000\n") && log.contains("oops\n"));
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Success);
        let mut agents = Vec::new();
        for (name, line) in [("look", "hello\n"), ("say", "linted\n")] {
            let step = place.step(&run_id, name, StepRunStatus::Success).await?;
            assert_eq!(place.log(&step.step_run_id).await?, line);
            agents.push(step.agent_id);
        }
        let got = place.step(&run_id, "get", StepRunStatus::Success).await?;
        assert_eq!(got.agent_id, agents[0], "the steps of a job are at one agent");
        assert_eq!(linux.said().matches("arcgate:").count(), 1, "{}", linux.said());
        Ok(())
    })
}

#[test]
fn what_fails_is_reported_with_its_exit_code_and_its_reason() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let _agent = place.agent("one", &[])?;
        let run_id = place
            .run(
                "\
- name: a
  steps:
  - {name: exits, uses: shell, args: {script: 'echo last words; exit 7'}}
- name: b
  steps:
  - {name: unknown, uses: 'deploy@1.2.3'}
",
            )
            .await?;
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Failed);
        let exits = place.step(&run_id, "exits", StepRunStatus::Failed).await?;
        assert_eq!((exits.exit_code, &*exits.error_message), (7, "exit code 7"));
        assert_eq!(place.log(&exits.step_run_id).await?, "last words\n");
        let unknown = place.step(&run_id, "unknown", StepRunStatus::Failed).await?;
        assert!(unknown.error_message.contains("deploy@1.2.3"), "{}", unknown.error_message);
        assert!(place.log(&unknown.step_run_id).await?.contains("deploy@1.2.3"));
        Ok(())
    })
}

#[test]
fn a_stopped_run_ends_all_that_its_steps_have_started() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let _agent = place.agent("one", &[])?;
        let pid = place.path("pid");
        let script = format!("echo begun; sleep 600 & echo $! >{}; wait", pid.display());
        let run_id = place.run(&format!("- {{name: j, steps: [{{name: s, uses: shell, args: {{run: '{script}'}}}}]}}")).await?;
        appears(&pid).await?;
        place.stop(&run_id).await?;
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Cancelled);
        is_gone(&pid).await?;
        let step = place.step(&run_id, "s", StepRunStatus::Cancelled).await?;
        assert_eq!(place.log(&step.step_run_id).await?, "begun\n");
        Ok(())
    })
}

#[test]
fn a_step_past_its_timeout_is_ended_with_all_that_it_started() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let _agent = place.agent("one", &[])?;
        let pid = place.path("pid");
        let script = format!("echo begun; sleep 600 & echo $! >{}; wait", pid.display());
        let run_id = place
            .run(&format!("- {{name: j, steps: [{{name: s, uses: shell, timeout: 2s, args: {{run: '{script}'}}}}]}}"))
            .await?;
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Failed);
        is_gone(&pid).await?;
        let step = place.step(&run_id, "s", StepRunStatus::Timeout).await?;
        assert_eq!(place.log(&step.step_run_id).await?, "begun\n");
        Ok(())
    })
}

#[test]
fn events_of_steps_are_in_the_event_log() -> Outcome<()> {
    run(120, async {
        let mut place = Place::start().await?;
        let mut agent = place.agent("one", &[])?;
        let run_id = place.run("- {name: j, steps: [{name: s, uses: shell, args: {run: 'echo hi'}}]}").await?;
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Success);
        // It delivers them before it ends.
        assert_eq!(agent.end().await?.code(), Some(0));
        place.rig.gateway.stop().await?;
        let events = text(&place.rig.arcgate(&["store", "ls", "--events", "--json"]).await?, 0)?;
        // That it started, that it succeeded, that all is over.
        assert_eq!(of_agents(&events), 3, "{events}");
        Ok(())
    })
}

#[test]
fn an_agent_that_cannot_begin_says_what_to_do() -> Outcome<()> {
    run(60, async {
        let place = crate::control::Place::start().await?;
        let folder = crate::harness::folder()?;
        let server = format!("http://{}", place.rig.gateway.addresses.grpc);
        let state = folder.path().join("new").display().to_string();
        let words = ["agent", "--server", &server, "--state", &state];
        let refused = place.rig.arcgate(&words).await?;
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("--registration-token-file"), "{said}");

        let file = folder.path().join("token");
        std::fs::write(&file, "art_0000\n")?;
        let file = file.display().to_string();
        let words = [&words[..], &["--registration-token-file", &file]].concat();
        let refused = place.rig.arcgate(&words).await?;
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("invalid registration token") && !said.contains("art_0000"), "{said}");
        Ok(())
    })
}

#[test]
fn a_jobs_sources_are_in_its_workspace_before_its_first_step() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let _agent = place.agent("one", &[])?;
        let origin = place.path("origin");
        let script = "git init -q -b trunk $0 && cd $0 && echo from-the-repository >file && git add file && \
                      git -c user.name=t -c user.email=t@localhost commit -q -m begin";
        let made = std::process::Command::new("sh").args(["-ec", script]).arg(&origin).status()?;
        assert!(made.success());
        let jobs = format!(
            "\
- name: good
  source: {{type: git, repo: '{origin}', branch: trunk}}
  steps:
  - {{name: look, uses: shell, args: {{run: 'cat file; echo changed >file'}}}}
  - {{name: again, uses: shell, args: {{run: 'cat file'}}}}
- name: bad
  source: {{type: git, repo: '{origin}', branch: nowhere}}
  steps:
  - {{name: never, uses: shell, args: {{run: 'echo started'}}}}
",
            origin = origin.display()
        );
        let run_id = place.run(&jobs).await?;
        let look = place.step(&run_id, "look", StepRunStatus::Success).await?;
        assert!(place.log(&look.step_run_id).await?.ends_with("from-the-repository\n"));
        let again = place.step(&run_id, "again", StepRunStatus::Success).await?;
        assert_eq!(place.log(&again.step_run_id).await?, "changed\n", "they are fetched once");
        let never = place.step(&run_id, "never", StepRunStatus::Failed).await?;
        assert!(never.error_message.contains("the job's source cannot be fetched"), "{}", never.error_message);
        assert!(!place.log(&never.step_run_id).await?.contains("started"));
        Ok(())
    })
}
