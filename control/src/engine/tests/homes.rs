//! Where a job stays, and what is lost with that agent.

use super::*;
use crate::agents::{AgentSettings, Agents, NewRegistrationToken};

/// Agents of a bench, and the ids of those that were registered, each with labels `os=…`.
async fn agents<const N: usize>(bench: &Bench, os: [&str; N]) -> (Agents, [String; N]) {
    let (agents, _) = Agents::start(bench.engine.clone(), AgentSettings::default());
    let token = bench.fresh.database.new_registration_token(NewRegistrationToken::default(), BEGIN).await.unwrap();
    let mut ids = Vec::new();
    for os in os {
        let request = agent::RegisterRequest {
            registration_token: token.clone(),
            labels: [("os".to_owned(), os.to_owned())].into(),
            max_concurrent_step_runs: 9,
            ..Default::default()
        };
        ids.push(agents.register(None, request).await.unwrap().row.agent_id);
    }
    (agents, ids.try_into().unwrap())
}

/// What an agent is given: names and ids.
async fn fetch(agents: &Agents, agent: &str) -> Vec<(String, String)> {
    let (work, _) = agents.fetch(agent, 9).await.unwrap();
    work.into_iter().map(|step| (step.step_name, step.step_run_id)).collect()
}

impl Bench {
    async fn ran(&self, agent: &str, id: &str, status: StepRunStatus) {
        assert!(self.report(agent, id, StepRunStatus::Running).await.unwrap());
        assert!(self.report(agent, id, status).await.unwrap());
    }
}

const TWO: &str = "jobs: [{name: j, steps: [{name: s, uses: shell}, {name: t, uses: shell}]}]";
const TWO_TRIES: &str = "jobs: [{name: j, retry: {max_attempts: 2}, steps: [{name: s, uses: shell}, {name: t, uses: shell}]}]";

#[tokio::test]
async fn a_job_stays_at_the_agent_that_began_it() {
    for mut bench in Bench::all().await {
        let (all, [x, y]) = agents(&bench, ["linux", "linux"]).await;
        let run = bench.run(TWO).await;
        let first = fetch(&all, &x).await.remove(0);
        bench.ran(&x, &first.1, StepRunStatus::Success).await;
        assert!(fetch(&all, &y).await.is_empty());
        bench.restart().await;
        let (all, _) = Agents::start(bench.engine.clone(), AgentSettings::default());
        assert!(fetch(&all, &y).await.is_empty());
        let second = fetch(&all, &x).await.remove(0);
        assert_eq!(second.0, "t");
        bench.ran(&x, &second.1, StepRunStatus::Success).await;
        assert_eq!(bench.status(&run).await, PipelineStatus::Success);
    }
}

#[tokio::test]
async fn a_step_whose_selector_does_not_fit_its_jobs_agent_goes_to_one_that_it_fits() {
    let bench = Bench::one().await;
    let (all, [linux, mac, other]) = agents(&bench, ["linux", "mac", "linux"]).await;
    let step = |name: &str, os: &str| format!("{{name: {name}, uses: shell, agent_selector: {{match_labels: {{os: {os}}}}}}}");
    let steps = [step("a", "linux"), step("b", "mac"), step("c", "linux")].join(", ");
    let run = bench.run(&format!("jobs: [{{name: j, steps: [{steps}]}}]")).await;
    for (agent, name) in [(&linux, "a"), (&mac, "b"), (&linux, "c")] {
        for others in [&linux, &mac, &other].into_iter().filter(|id| *id != agent && name != "a") {
            assert!(fetch(&all, others).await.is_empty());
        }
        let given = fetch(&all, agent).await.remove(0);
        assert_eq!(given.0, name);
        bench.ran(agent, &given.1, StepRunStatus::Success).await;
    }
    assert_eq!(bench.status(&run).await, PipelineStatus::Success);
}

#[tokio::test]
async fn new_labels_of_a_jobs_agent_count_for_what_waits_for_it() {
    let bench = Bench::one().await;
    let (all, [x, y]) = agents(&bench, ["linux", "linux"]).await;
    let step = |name: &str| format!("{{name: {name}, uses: shell, agent_selector: {{match_labels: {{os: linux}}}}}}");
    bench.run(&format!("jobs: [{{name: j, steps: [{}, {}]}}]", step("a"), step("b"))).await;
    let first = fetch(&all, &x).await.remove(0);
    bench.ran(&x, &first.1, StepRunStatus::Success).await;
    assert!(fetch(&all, &y).await.is_empty());
    all.update_labels(&x, [("os".to_owned(), "mac".to_owned())].into(), true).await.unwrap();
    assert!(fetch(&all, &x).await.is_empty());
    assert_eq!(fetch(&all, &y).await.len(), 1);
}

#[tokio::test]
async fn what_waits_for_a_lost_agent_in_a_job_that_began_there_is_lost_with_it() {
    for bench in Bench::all().await {
        let (all, [x, y]) = agents(&bench, ["linux", "linux"]).await;
        let runs = [bench.run(TWO).await, bench.run(TWO_TRIES).await];
        for (_, id) in fetch(&all, &x).await {
            bench.ran(&x, &id, StepRunStatus::Success).await;
        }
        assert!(fetch(&all, &y).await.is_empty());
        assert!(all.unregister(&x, "maintenance").await.unwrap());
        assert_eq!(bench.status(&runs[0]).await, PipelineStatus::Failed);
        let error = bench.texts("SELECT error_message FROM t_step_run WHERE status = 5").await.remove(0);
        let expected = format!("agent {x}, where the job's earlier steps ran, is lost: it went away: maintenance");
        assert_eq!(error, expected);
        bench.pass(0).await;
        let again = fetch(&all, &y).await;
        assert_eq!(again.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["t"]);
        bench.ran(&y, &again[0].1, StepRunStatus::Success).await;
        assert_eq!(bench.status(&runs[1]).await, PipelineStatus::Success);
    }
}

#[tokio::test]
async fn a_job_whose_agent_went_before_anything_started_begins_at_another_and_loses_nothing() {
    for bench in Bench::all().await {
        let (all, [x, y]) = agents(&bench, ["linux", "linux"]).await;
        let run = bench.run(TWO).await;
        assert_eq!(fetch(&all, &x).await.len(), 1);
        assert!(all.unregister(&x, "").await.unwrap());
        bench.pass(0).await;
        for name in ["s", "t"] {
            let given = fetch(&all, &y).await.remove(0);
            assert_eq!(given.0, name);
            bench.ran(&y, &given.1, StepRunStatus::Success).await;
        }
        assert_eq!(bench.status(&run).await, PipelineStatus::Success);
        assert_eq!(bench.number("SELECT COUNT(*) FROM t_step_run WHERE status = 5").await, 0);
    }
}

#[tokio::test]
async fn an_agent_that_never_starts_what_it_is_given_does_not_keep_the_job() {
    let bench = Bench::one().await;
    let (all, [x, y]) = agents(&bench, ["linux", "linux"]).await;
    bench.run(TWO).await;
    assert_eq!(fetch(&all, &x).await.len(), 1);
    bench.pass(LEASE).await;
    bench.pass(0).await;
    assert_eq!(fetch(&all, &y).await.len(), 1);
}

#[tokio::test]
async fn what_runs_whatever_happened_runs_elsewhere_after_its_jobs_agent_was_lost() {
    let bench = Bench::one().await;
    let (all, [x, y]) = agents(&bench, ["linux", "linux"]).await;
    bench.run("jobs: [{name: j, steps: [{name: s, uses: shell}, {name: clean, uses: shell, when: always()}]}]").await;
    let first = fetch(&all, &x).await.remove(0);
    assert!(bench.report(&x, &first.1, StepRunStatus::Running).await.unwrap());
    bench.pass(179_999).await;
    all.alive(crate::agents::Sign { agent_id: y.clone(), ..Default::default() }).await.unwrap();
    bench.pass(1).await;
    assert_eq!(bench.texts("SELECT agent_id FROM t_agent WHERE status = 2").await, [x]);
    let next = fetch(&all, &y).await;
    assert_eq!(next.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["clean"]);
}

#[tokio::test]
async fn an_agent_without_approval_gets_nothing_and_one_that_lost_it_ends_what_it_began() {
    let bench = Bench::one().await;
    let (all, [x]) = agents(&bench, ["linux"]).await;
    bench.run(TWO).await;
    let first = fetch(&all, &x).await.remove(0);
    bench.run(TWO).await;
    all.approve(&x, false).await.unwrap();
    assert!(fetch(&all, &x).await.is_empty());
    bench.ran(&x, &first.1, StepRunStatus::Success).await;
    assert_eq!(fetch(&all, &x).await.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["t"]);
    all.approve(&x, true).await.unwrap();
    assert_eq!(fetch(&all, &x).await.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["s"]);
}
