//! Many runs while gateway and agents are killed again and again.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;

use super::place::{OVER, Place};
use crate::harness::{Outcome, eventually, run, scaled};

/// A diamond whose steps note that they start, by their step run's id, and take a moment.
fn diamond(starts: &str) -> String {
    let job = |name: &str, after: &str| {
        let script = format!("echo $ARCGATE_STEP_RUN_ID >>{starts}; seq 200; sleep 0.1; echo last");
        let steps = ["one", "two"].map(|step| format!("{{name: {name}-{step}, uses: shell, args: {{run: '{script}'}}}}"));
        format!("- {{name: {name}, dependsOn: [{after}], retry: {{max_attempts: 100}}, steps: [{}]}}\n", steps.join(", "))
    };
    [job("a", ""), job("b", "a"), job("c", "a"), job("d", "b, c")].concat()
}

/// The step runs whose logs were whole.
#[derive(Default)]
struct Logs(HashSet<String>);

impl Logs {
    /// Whoever has succeeded has all of its lines.
    async fn are_whole(&mut self, place: &Place, runs: &[String]) -> Outcome<()> {
        let whole: String = (1..=200).map(|number| format!("{number}\n")).chain(["last\n".to_owned()]).collect();
        for run_id in runs {
            for step in place.steps(run_id).await? {
                let id = &step.step_run_id;
                if step.status() != StepRunStatus::Success || self.0.contains(id) {
                    continue;
                }
                let mut lines = 0;
                let is_whole = async || {
                    let log = place.log_now(id).await?;
                    lines = log.lines().count();
                    Ok((log == whole).then_some(()))
                };
                let waited = eventually(OVER, "a whole log", is_whole).await;
                waited.map_err(|error| format!("{error}: {id} has {lines} lines"))?;
                self.0.insert(id.clone());
            }
        }
        Ok(())
    }
}

#[test]
fn no_run_is_lost_and_no_step_starts_twice_whoever_is_killed() -> Outcome<()> {
    run(600, async {
        let mut place = Place::start().await?;
        let starts = place.path("starts");
        fs::write(&starts, "")?;
        let names = ["x", "y"];
        let words = ["--max-step-runs", "3"];
        let mut agents = BTreeMap::new();
        for name in names {
            agents.insert(name, place.agent(name, &words)?);
        }
        let (mut runs, mut logs) = (Vec::new(), Logs::default());
        for round in 0..scaled(50, 5) {
            runs.push(place.run(&diamond(&starts.display().to_string())).await?);
            // In the middle of something, each time of something else.
            tokio::time::sleep(std::time::Duration::from_millis(37 * (round as u64 % 7))).await;
            match round % 3 {
                0 => place.crash().await?,
                1 => place.cut(),
                _ => {
                    // Lines that a killed gateway did not have on disk come again, from the agent: kill that only then.
                    logs.are_whole(&place, &runs).await?;
                    let name = names[round % names.len()];
                    agents.get_mut(name).ok_or("no agent")?.kill9()?;
                    agents.insert(name, place.agent(name, &words)?);
                }
            }
        }
        for run_id in &runs {
            assert_eq!(place.ended(run_id).await?, PipelineStatus::Success, "run {run_id}");
        }
        logs.are_whole(&place, &runs).await?;
        assert!(logs.0.len() == 8 * runs.len(), "{} steps of {} runs have succeeded", logs.0.len(), runs.len());
        let started = fs::read_to_string(&starts)?;
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for step_run in started.lines() {
            *counts.entry(step_run).or_default() += 1;
        }
        assert!(counts.values().all(|count| *count == 1), "started twice: {counts:?}");
        assert!(runs.len() < 50 || counts.len() > 8 * runs.len(), "no kill hit a step: the rounds show nothing");
        Ok(())
    })
}
