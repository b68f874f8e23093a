//! The engine on a real database: SQLite always, PostgreSQL where it was started. Killing it means dropping its task in the middle of
//! whatever it does; starting it again begins with what the database has.

use std::collections::HashMap;

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;

use super::worker::Points;
use super::*;
use crate::Millis;
use crate::db::tests::{Fresh, fresh, on_file};
use crate::pipelines::{Draft, Save, Write, Written};
use crate::spec::{self, Format};

mod agents;
mod crashes;
mod events;
mod homes;
mod rules;
mod triggers;
mod watching;

const BEGIN: Millis = 1_790_000_000_000;

/// An engine with a clock of its own.
pub(crate) struct Bench {
    pub(crate) fresh: Fresh,
    pub(crate) clock: StillClock,
    pub(crate) engine: Engine,
    task: JoinHandle<()>,
}

impl Bench {
    pub(crate) async fn on(fresh: Fresh) -> Self {
        let clock = StillClock::at(BEGIN);
        let (engine, task) = Engine::start(fresh.database.clone(), Arc::new(clock.clone())).await.unwrap();
        Self { fresh, clock, engine, task }
    }

    /// One on each kind of database.
    pub(crate) async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for fresh in fresh().await {
            all.push(Self::on(fresh).await);
        }
        all
    }

    pub(crate) async fn one() -> Self {
        Self::on(on_file().await).await
    }

    /// Kills the engine, wherever it is, and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(Points::default()).await;
    }

    pub(crate) async fn kill(&mut self) {
        self.task.abort();
        if !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
    }

    async fn restart_with(&mut self, points: Points) {
        self.kill().await;
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        // A server notices a moment later that the killed engine's connection is gone.
        for _ in 0..6_000 {
            match Engine::start_with(self.fresh.database.clone(), clock.clone(), points.clone()).await {
                Ok((engine, task)) => {
                    (self.engine, self.task) = (engine, task);
                    return;
                }
                Err(error) => assert!(error.helps_to_retry(), "{error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the engine does not start again");
    }

    /// A pipeline with this definition (YAML without its namespace).
    pub(crate) async fn pipeline(&self, text: &str) -> String {
        let draft = Draft { project_id: "p".into(), name: "n".into(), path: "f".into(), ..Draft::default() };
        let id = match self.engine.ask(Command::Pipeline(Write::Create(Box::new(draft)))).await.unwrap() {
            Answer::Pipeline(Written::Created(id)) => id,
            other => panic!("{other:?}"),
        };
        self.save(&id, text).await;
        id
    }

    async fn save(&self, pipeline_id: &str, text: &str) {
        let document = spec::read(&format!("namespace: ns\n{text}"), Format::Yaml).unwrap();
        assert_eq!(document.validate().problems, []);
        let save = Save { pipeline_id: pipeline_id.into(), spec: document.spec, ..Save::default() };
        self.engine.ask(Command::Pipeline(Write::Save(Box::new(save)))).await.unwrap();
    }

    /// A run of a new pipeline.
    pub(crate) async fn run(&self, text: &str) -> String {
        let pipeline = self.pipeline(text).await;
        self.trigger(&pipeline).await
    }

    pub(crate) async fn trigger(&self, pipeline_id: &str) -> String {
        self.engine.trigger(Trigger { pipeline_id: pipeline_id.into(), ..Trigger::default() }).await.unwrap().run_id
    }

    pub(crate) async fn fetch(&self, agent: &str, most: usize) -> Vec<agent::StepRun> {
        let fetch = Fetch { agent_id: agent.into(), labels: HashMap::new(), most, capacity: 100 };
        self.engine.fetch(fetch).await.unwrap()
    }

    /// The names (`job.step`) and ids of what an agent is given.
    pub(crate) async fn take(&self, agent: &str, most: usize) -> Vec<(String, String)> {
        let given = self.fetch(agent, most).await;
        given.into_iter().map(|step| (format!("{}.{}", step.job_name, step.step_name), step.step_run_id)).collect()
    }

    pub(crate) async fn report(&self, agent: &str, id: &str, status: StepRunStatus) -> Result<bool, EngineError> {
        let report = Report { step_run_id: id.into(), agent_id: agent.into(), status, ..Report::default() };
        self.engine.report(report).await
    }

    /// Executes all that is ready, until nothing is.
    pub(crate) async fn work(&self, agent: &str, end: impl Fn(&str) -> StepRunStatus) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let taken = self.take(agent, 100).await;
            if taken.is_empty() {
                return names;
            }
            for (name, id) in taken {
                self.report(agent, &id, StepRunStatus::Running).await.unwrap();
                self.report(agent, &id, end(&name)).await.unwrap();
                names.push(name);
            }
        }
    }

    pub(crate) async fn status(&self, run_id: &str) -> PipelineStatus {
        let status = self.number(&format!("SELECT status FROM t_pipeline_run WHERE run_id = '{run_id}'")).await;
        rows::pipeline_status(status)
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let mut read = self.fresh.database.read().await.unwrap();
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut *read).await.unwrap()
    }

    /// Texts of one column.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let mut read = self.fresh.database.read().await.unwrap();
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut *read).await.unwrap()
    }

    /// Moves the clock and waits until the engine has done what is due then.
    pub(crate) async fn pass(&self, time: Millis) {
        self.clock.advance(time);
        // Asked after the clock moved, so answered after what was due: that comes first.
        self.fetch("nobody", 0).await;
        self.fetch("nobody", 0).await;
    }
}

/// Waits until something holds, at most a minute.
pub(crate) async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it does not come");
}

fn succeed(_: &str) -> StepRunStatus {
    StepRunStatus::Success
}

pub(crate) const DIAMOND: &str = "jobs: [{name: a, steps: [{name: s, uses: shell}, {name: t, uses: shell}]}, {name: b, dependsOn: [a], steps: [{name: s, uses: shell}]}, \
                       {name: c, dependsOn: [a], steps: [{name: s, uses: shell}]}, {name: d, dependsOn: [b, c], steps: [{name: s, uses: shell}]}]";
pub(crate) const ONE: &str = "jobs: [{name: j, steps: [{name: s, uses: shell}]}]";
