//! What an agent and its steps survive, and how it is told if they do not.

use std::fs;

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;

use super::place::{OVER, Place, appears, is_gone, of_agents};
use crate::harness::{Outcome, eventually, run, text};

/// A step that notes that it starts, writes a line, waits for the file `go`, and writes more.
fn waiting(place: &Place, more: &str) -> String {
    let [starts, pid, go] = ["starts", "pid", "go"].map(|name| place.path(name).display().to_string());
    format!("echo x >>{starts}; echo first; echo $$ >{pid}; while [ ! -e {go} ]; do sleep 0.05; done; {more}")
}

fn job(script: &str, more: &str) -> String {
    format!("- {{name: j, {more}steps: [{{name: s, uses: shell, args: {{run: '{script}'}}}}]}}")
}

fn starts(place: &Place) -> usize {
    fs::read_to_string(place.path("starts")).unwrap_or_default().lines().count()
}

#[test]
fn a_step_goes_on_through_the_gateways_kill_and_its_log_has_no_hole_and_no_repeat() -> Outcome<()> {
    run(240, async {
        let mut place = Place::start().await?;
        let agent = place.agent("one", &[])?;
        let run_id = place.run(&job(&waiting(&place, "seq 20000; echo last"), "")).await?;
        appears(&place.path("pid")).await?;
        let step = place.step(&run_id, "s", StepRunStatus::Running).await?;
        for round in 0..3 {
            place.crash().await?;
            if round == 1 {
                // In the middle of its lines, too.
                fs::write(place.path("go"), "")?;
            }
        }
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Success);
        let ended = place.step(&run_id, "s", StepRunStatus::Success).await?;
        assert_eq!(ended.step_run_id, step.step_run_id, "the same attempt");
        let expected: String = ["first".to_owned()]
            .into_iter()
            .chain((1..=20_000).map(|number| number.to_string()))
            .chain(["last".to_owned()])
            .map(|line| line + "\n")
            .collect();
        assert!(place.log(&step.step_run_id).await? == expected, "the log is not whole");
        assert_eq!((starts(&place), place.steps(&run_id).await?.len()), (1, 1));
        // It registered once: the line that says so comes once.
        assert_eq!(agent.said().matches("takes up to").count(), 1, "{}", agent.said());
        Ok(())
    })
}

#[test]
fn a_step_goes_on_through_cut_connections_and_ends_while_there_is_none() -> Outcome<()> {
    run(180, async {
        let mut place = Place::start().await?;
        let _agent = place.agent("one", &[])?;
        let done = place.path("done");
        let script = waiting(&place, &format!("echo last; echo x >{}", done.display()));
        let run_id = place.run(&job(&script, "")).await?;
        appears(&place.path("pid")).await?;
        for _ in 0..5 {
            place.cut();
        }
        place.rig.gateway.kill9()?;
        fs::write(place.path("go"), "")?;
        appears(&done).await?;
        place.restart().await?;
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Success);
        let step = place.step(&run_id, "s", StepRunStatus::Success).await?;
        assert_eq!((&*place.log(&step.step_run_id).await?, starts(&place)), ("first\nlast\n", 1));
        Ok(())
    })
}

#[test]
fn an_agent_that_is_killed_takes_its_steps_with_it_and_they_are_tried_again() -> Outcome<()> {
    run(240, async {
        let place = Place::start().await?;
        let mut agent = place.agent("one", &[])?;
        let run_id = place.run(&job(&waiting(&place, "echo last"), "retry: {max_attempts: 2}, ")).await?;
        appears(&place.path("pid")).await?;
        let first = place.step(&run_id, "s", StepRunStatus::Running).await?;
        agent.kill9()?;
        is_gone(&place.path("pid")).await?;
        fs::write(place.path("go"), "")?;
        // The same agent begins again, which says that what it had is lost.
        let _agent = place.agent("one", &[])?;
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Success);
        let steps = place.steps(&run_id).await?;
        assert_eq!((steps.len(), starts(&place)), (2, 2));
        let lost = steps.iter().find(|step| step.step_run_id == first.step_run_id).ok_or("no first attempt")?;
        assert!(lost.status() == StepRunStatus::Failed && lost.error_message.contains("does not know it any more"), "{lost:?}");
        let second = place.step(&run_id, "s", StepRunStatus::Success).await?;
        assert_eq!(second.agent_id, first.agent_id, "it keeps its id");
        assert_eq!(place.log(&second.step_run_id).await?, "first\nlast\n");
        Ok(())
    })
}

#[test]
fn without_attempts_left_a_killed_agents_step_has_failed_and_says_why() -> Outcome<()> {
    run(180, async {
        let place = Place::start_with(&[("ARCGATE_CONTROL__HEARTBEAT", "1s"), ("ARCGATE_CONTROL__OFFLINE_AFTER", "3s")]).await?;
        let mut agent = place.agent("one", &[])?;
        let run_id = place.run(&job(&waiting(&place, "echo last"), "")).await?;
        appears(&place.path("pid")).await?;
        agent.kill9()?;
        // Nobody begins again: its silence tells.
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Failed);
        let step = place.step(&run_id, "s", StepRunStatus::Failed).await?;
        assert!(step.error_message.contains("lost"), "{}", step.error_message);
        is_gone(&place.path("pid")).await
    })
}

#[test]
fn an_agent_that_is_asked_to_end_ends_its_steps_and_gives_them_back() -> Outcome<()> {
    run(180, async {
        let place = Place::start().await?;
        let mut agent = place.agent("one", &[])?;
        let run_id = place.run(&job(&waiting(&place, "echo last"), "retry: {max_attempts: 2}, ")).await?;
        appears(&place.path("pid")).await?;
        assert_eq!(agent.end().await?.code(), Some(0), "{}", agent.said());
        is_gone(&place.path("pid")).await?;
        fs::write(place.path("go"), "")?;
        // It may come back, as who it was.
        let _agent = place.agent("one", &[])?;
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Success);
        let agents: std::collections::HashSet<_> = place.steps(&run_id).await?.into_iter().map(|step| step.agent_id).collect();
        assert_eq!((starts(&place), agents.len()), (2, 1));
        Ok(())
    })
}

#[test]
fn events_that_wait_on_disk_are_delivered_by_the_next_process_once() -> Outcome<()> {
    run(180, async {
        let mut place = Place::start().await?;
        let mut agent = place.agent("one", &[])?;
        let run_id = place.run(&job(&waiting(&place, "echo last"), "")).await?;
        appears(&place.path("pid")).await?;
        place.step(&run_id, "s", StepRunStatus::Running).await?;
        place.rig.gateway.kill9()?;
        fs::write(place.path("go"), "")?;
        let outbox = place.path("one").join("outbox");
        eventually(OVER, "an event on disk", async || {
            let files = fs::read_dir(&outbox)?.filter_map(Result::ok);
            let waits = files.filter_map(|file| fs::read_to_string(file.path()).ok());
            Ok(waits.into_iter().any(|text| text.contains("arcentra.task.succeeded")).then_some(()))
        })
        .await?;
        agent.kill9()?;
        place.restart().await?;
        // What it could not report is lost, but not what it wrote down.
        let mut agent = place.agent("one", &[])?;
        assert_eq!(place.ended(&run_id).await?, PipelineStatus::Failed);
        assert_eq!(agent.end().await?.code(), Some(0));
        place.rig.gateway.stop().await?;
        let events = text(&place.rig.arcgate(&["store", "ls", "--events", "--json"]).await?, 0)?;
        // That it started, and that it succeeded.
        assert_eq!(of_agents(&events), 2, "{events}");
        Ok(())
    })
}
