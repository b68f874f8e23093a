//! Kills at random: before a commit (nothing was done) and after it (nobody knows that it was done).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::worker::Point;
use super::*;

/// Numbers that look random and are the same each time.
#[derive(Clone)]
struct Dice(Arc<AtomicU64>);

impl Dice {
    fn below(&self, bound: u64) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Ordering::Relaxed);
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// Jobs that depend on earlier ones, some with keys, all with a second attempt.
fn definition(dice: &Dice) -> String {
    let jobs = (0..2 + dice.below(4)).map(|job| {
        let before: Vec<String> = (0..job).filter(|_| dice.below(2) == 0).map(|before| format!("j{before}")).collect();
        let key = if dice.below(3) == 0 { "concurrency: key, " } else { "" };
        let steps: Vec<String> = (0..1 + dice.below(3)).map(|step| format!("{{name: s{step}, uses: shell}}")).collect();
        let (before, steps) = (before.join(", "), steps.join(", "));
        format!("{{name: j{job}, {key}dependsOn: [{before}], retry: {{max_attempts: 2, delay: 5s}}, steps: [{steps}]}}")
    });
    format!("jobs: [{}]", jobs.collect::<Vec<_>>().join(", "))
}

/// What an agent knows of a step that it was given.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Given,
    Executed(StepRunStatus),
}

struct World {
    bench: Bench,
    dice: Dice,
    points: Points,
    kills: u32,
    /// All ids that were ever handed out.
    handed: HashSet<String>,
    agents: Vec<HashMap<String, (String, Known)>>,
    /// How each execution ended, by step, in order.
    executed: BTreeMap<String, Vec<StepRunStatus>>,
}

impl World {
    async fn revive(&mut self) {
        self.kills += 1;
        self.bench.restart_with(self.points.clone()).await;
    }

    /// Asks until there is an answer; whoever asked does not know whether it was done before.
    async fn report(&mut self, agent: usize, id: &str, status: StepRunStatus) -> Result<bool, EngineError> {
        loop {
            match self.bench.report(&format!("agent{agent}"), id, status).await {
                Err(EngineError::Ended) => self.revive().await,
                answer => return answer,
            }
        }
    }

    async fn trigger(&mut self, pipeline: &str, request: &str) -> String {
        loop {
            let (pipeline_id, request_id) = (pipeline.to_owned(), request.to_owned());
            match self.bench.engine.trigger(Trigger { pipeline_id, request_id, ..Trigger::default() }).await {
                Err(EngineError::Ended) => self.revive().await,
                answer => return answer.unwrap().run_id,
            }
        }
    }

    async fn turn(&mut self) {
        let agent = usize::try_from(self.dice.below(2)).unwrap();
        let fetch = Fetch { agent_id: format!("agent{agent}"), most: 2, capacity: 3, ..Fetch::default() };
        match self.bench.engine.fetch(fetch).await {
            // An answer that is lost is lost: the agent does not know what it was given.
            Err(EngineError::Ended) => self.revive().await,
            given => {
                for step in given.unwrap() {
                    assert!(self.handed.insert(step.step_run_id.clone()), "handed out twice");
                    let name = format!("{}.{}.{}", step.pipeline_run_id, step.job_name, step.step_name);
                    self.agents[agent].insert(step.step_run_id, (name, Known::Given));
                }
            }
        }
        let mut mine: Vec<_> = self.agents[agent].clone().into_iter().collect();
        mine.sort_by(|a, b| a.0.cmp(&b.0));
        if mine.is_empty() || self.dice.below(4) == 0 {
            self.bench.clock.advance(Millis::try_from(self.dice.below(30_000)).unwrap());
            return;
        }
        let (id, (name, known)) = mine.remove(usize::try_from(self.dice.below(mine.len() as u64)).unwrap());
        match known {
            Known::Given => match self.report(agent, &id, StepRunStatus::Running).await {
                Ok(_) => {
                    let end = if self.dice.below(5) == 0 { StepRunStatus::Failed } else { StepRunStatus::Success };
                    self.executed.entry(name.clone()).or_default().push(end);
                    self.agents[agent].insert(id, (name, Known::Executed(end)));
                }
                Err(EngineError::Refused(Refusal::Conflict(_))) => {
                    self.agents[agent].remove(&id);
                }
                other => panic!("{other:?}"),
            },
            Known::Executed(end) => {
                self.report(agent, &id, end).await.unwrap();
                self.agents[agent].remove(&id);
            }
        }
    }
}

#[tokio::test]
async fn no_run_is_lost_and_no_step_started_twice_wherever_the_engine_is_killed() {
    let mut kills = 0;
    for seed in 1..=20u64 {
        for fresh in if seed <= 5 { fresh().await } else { vec![on_file().await] } {
            let dice = Dice(Arc::new(AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))));
            let bench = Bench::on(fresh).await;
            let pipeline = bench.pipeline(&definition(&dice)).await;
            let killer = dice.clone();
            let points = Points(Some(Arc::new(move |_: Point| killer.below(6) == 0)));
            let (agents, handed, executed) = (vec![HashMap::new(); 2], HashSet::new(), BTreeMap::new());
            let mut world = World { bench, dice, points, kills: 0, handed, agents, executed };
            world.revive().await;
            let runs = [world.trigger(&pipeline, "a").await, world.trigger(&pipeline, "b").await];
            let mut turns = 0;
            loop {
                let mut open = 0;
                for run in &runs {
                    open += usize::from(!rows::run_is_over(world.bench.status(run).await));
                }
                if open == 0 {
                    break;
                }
                world.turn().await;
                turns += 1;
                assert!(turns < 5_000, "seed {seed}: the runs do not end");
            }
            check(&world).await;
            kills += world.kills;
        }
    }
    assert!(kills > 300, "only {kills} kills");
}

/// What was executed is what the definition wants, and what the rows say.
async fn check(world: &World) {
    let bench = &world.bench;
    assert_eq!(bench.number("SELECT COUNT(*) FROM t_pipeline_run").await, 2);
    for (step, ends) in &world.executed {
        let (last, before) = ends.split_last().unwrap();
        assert!(before.iter().all(|end| *end == StepRunStatus::Failed) && ends.len() <= 2, "{step}: {ends:?}");
        let (run, name) = step.split_once('.').unwrap();
        let (job, name) = name.split_once('.').unwrap();
        let row = format!(
            "SELECT status FROM t_step_run WHERE is_current = 1 AND pipeline_run_id = '{run}' AND job_name = '{job}' AND name = '{name}'"
        );
        assert_eq!(rows::step_status(bench.number(&row).await), *last, "{step}");
    }
    let succeeded = bench.number("SELECT COUNT(*) FROM t_step_run WHERE status = 4").await;
    let executed = world.executed.values().filter(|ends| ends.last() == Some(&StepRunStatus::Success)).count();
    assert_eq!(usize::try_from(succeeded).unwrap(), executed);
    assert_eq!(bench.number("SELECT COUNT(*) FROM t_step_run WHERE status IN (1, 2, 3)").await, 0);
    // Each change that the world must hear of is in the outbox once.
    let sent = "SELECT COUNT(*) FROM t_outbox WHERE event_type = 'arcentra.step.started'";
    let started = "SELECT COUNT(*) FROM t_step_run WHERE start_time IS NOT NULL";
    assert_eq!(bench.number(sent).await, bench.number(started).await);
    assert_eq!(bench.number("SELECT COUNT(*) FROM t_outbox WHERE event_type = 'arcentra.pipeline.started'").await, 2);
}
