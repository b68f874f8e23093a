//! What begins runs by itself: the cron triggers and event triggers of enabled pipelines.

use std::collections::HashMap;

use arcgate_api::pipeline::v1::{Spec, TriggerType};
use prost_types::value::Kind;
use sqlx::AnyConnection;

use super::error::Failure;
use super::specs::Specs;
use super::state::Times;
use super::trigger::Trigger;
use super::turn::Turn;
use crate::Millis;
use crate::cron::Schedule;
use crate::db::DbError;
use crate::db::row::Columns as _;
use crate::trigger::{EventFilter, Trigger as Rule};

#[derive(Debug)]
struct Cron {
    /// Its text: what its mark is kept under.
    name: String,
    schedule: Schedule,
    /// When it fired last, or was first seen.
    since: Millis,
}

#[derive(Debug, Default)]
struct Rules {
    project_id: String,
    crons: Vec<Cron>,
    events: Vec<EventFilter>,
}

/// The triggers of all enabled pipelines.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    rules: HashMap<String, Rules>,
    /// When the first of a pipeline's cron triggers fires.
    times: Times,
}

/// An event of the source code's host, as `arcentra.scm.push`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScmEvent {
    /// Its id.
    pub event_id: String,
    /// Who sent it.
    pub sender: String,
    /// What happened: `push`, `tag`, `pull_request` ….
    pub kind: String,
    /// The project.
    pub project_id: String,
    /// The branch or tag, also as `refs/heads/…`.
    pub reference: String,
    /// The commit.
    pub commit: String,
}

const OF_PIPELINES: &str = "SELECT p.pipeline_id, p.project_id, r.definition_id FROM t_pipeline p \
    JOIN t_pipeline_revision r ON r.pipeline_id = p.pipeline_id \
    WHERE p.is_enabled = 1 AND p.is_deleted = 0 \
    AND r.number = (SELECT MAX(n.number) FROM t_pipeline_revision n WHERE n.pipeline_id = p.pipeline_id)";

impl Schedules {
    pub(super) async fn load(connection: &mut AnyConnection, specs: &mut Specs, now: Millis) -> Result<Self, DbError> {
        let mut marks = HashMap::new();
        for row in sqlx::query("SELECT pipeline_id, schedule, since FROM t_cron_mark").fetch_all(&mut *connection).await? {
            marks.insert((row.text("pipeline_id")?, row.text("schedule")?), row.number("since")?);
        }
        let mut schedules = Self::default();
        for row in sqlx::query(OF_PIPELINES).fetch_all(&mut *connection).await? {
            let pipeline_id = row.text("pipeline_id")?;
            let spec = specs.get(connection, &row.text("definition_id")?).await?;
            let mut rules = read(&spec, row.text("project_id")?, now);
            for cron in &mut rules.crons {
                if let Some(since) = marks.get(&(pipeline_id.clone(), cron.name.clone())) {
                    cron.since = *since;
                }
            }
            schedules.put(&pipeline_id, rules);
        }
        Ok(schedules)
    }

    fn put(&mut self, pipeline_id: &str, rules: Rules) {
        let first = rules.crons.iter().filter_map(|cron| cron.schedule.next(cron.since)).min();
        self.times.set(pipeline_id, first);
        if rules.crons.is_empty() && rules.events.is_empty() {
            self.rules.remove(pipeline_id);
        } else {
            self.rules.insert(pipeline_id.to_owned(), rules);
        }
    }

    pub(super) fn first(&self) -> Option<Millis> {
        self.times.first()
    }

    /// The rules of each pipeline, in no order.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<String> {
        let crons =
            |rules: &Rules| rules.crons.iter().map(|cron| format!("{} since {}", cron.name, cron.since)).collect::<Vec<_>>();
        let of = |(id, rules): (&String, &Rules)| {
            format!("{id} {} {:?} {:?} {:?}", rules.project_id, crons(rules), rules.events, self.times.of(id))
        };
        self.rules.iter().map(of).collect()
    }

    /// The pipelines that an event fires.
    fn fired_by(&self, event: &ScmEvent) -> Vec<String> {
        let fires = |rules: &Rules| {
            rules.project_id == event.project_id && rules.events.iter().any(|filter| filter.fires(&event.kind, &event.reference))
        };
        let mut fired: Vec<_> = self.rules.iter().filter(|(_, rules)| fires(rules)).map(|(id, _)| id.clone()).collect();
        fired.sort();
        fired
    }
}

fn read(spec: &Spec, project_id: String, now: Millis) -> Rules {
    let mut rules = Rules { project_id, ..Rules::default() };
    for trigger in &spec.triggers {
        // Validation let only good ones through.
        match Rule::new(trigger) {
            Ok(Rule::Cron(schedule)) => {
                let option = |name: &str| {
                    let value = trigger.options.as_ref().and_then(|options| options.fields.get(name)?.kind.clone());
                    if let Some(Kind::StringValue(text)) = value { text } else { String::new() }
                };
                let name = format!("{} {}", option("expression"), option("timezone"));
                if !rules.crons.iter().any(|cron| cron.name == name) {
                    rules.crons.push(Cron { name, schedule: *schedule, since: now });
                }
            }
            Ok(Rule::Event(filter)) => rules.events.push(filter),
            Ok(Rule::Manual) | Err(_) => {}
        }
    }
    rules
}

impl Turn<'_> {
    /// A pipeline was saved, enabled, disabled or deleted: its triggers are read anew. Cron triggers that it had already go on where
    /// they were; others begin now.
    pub(crate) async fn triggers_changed(&mut self, pipeline_id: &str) -> Result<(), DbError> {
        let text = format!("{OF_PIPELINES} AND p.pipeline_id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(pipeline_id).fetch_optional(&mut *self.connection).await?;
        let mut rules = match row {
            Some(row) => {
                let spec = self.state.specs.get(self.connection, &row.text("definition_id")?).await?;
                read(&spec, row.text("project_id")?, self.now)
            }
            None => Rules::default(),
        };
        let old = self.state.schedules.rules.remove(pipeline_id).unwrap_or_default();
        for cron in &mut rules.crons {
            if let Some(old) = old.crons.iter().find(|old| old.name == cron.name) {
                cron.since = old.since;
            }
        }
        sqlx::query("DELETE FROM t_cron_mark WHERE pipeline_id = $1").bind(pipeline_id).execute(&mut *self.connection).await?;
        for cron in &rules.crons {
            self.keep_mark(pipeline_id, &cron.name, cron.since).await?;
        }
        self.state.schedules.put(pipeline_id, rules);
        Ok(())
    }

    async fn keep_mark(&mut self, pipeline_id: &str, name: &str, since: Millis) -> Result<(), DbError> {
        let text = "INSERT INTO t_cron_mark (pipeline_id, schedule, since) VALUES ($1, $2, $3) \
                    ON CONFLICT (pipeline_id, schedule) DO UPDATE SET since = excluded.since";
        sqlx::query(text).bind(pipeline_id).bind(name).bind(since).execute(&mut *self.connection).await?;
        Ok(())
    }

    /// Fires what is due by the clock. Of what was missed while nothing ran, each trigger fires once.
    pub(super) async fn fire_crons(&mut self, most: usize) -> Result<(), Failure> {
        for pipeline_id in self.state.schedules.times.come(self.now, most) {
            let Some(mut rules) = self.state.schedules.rules.remove(&pipeline_id) else { continue };
            for cron in &mut rules.crons {
                if cron.schedule.next(cron.since).is_none_or(|at| at > self.now) {
                    continue;
                }
                let due = cron.schedule.due(cron.since, self.now);
                // Should the two ever disagree, time goes on all the same.
                cron.since = due.unwrap_or(self.now);
                self.keep_mark(&pipeline_id, &cron.name, cron.since).await?;
                let Some(at) = due else { continue };
                let trigger = Trigger {
                    pipeline_id: pipeline_id.clone(),
                    request_id: cron_request(&pipeline_id, at),
                    triggered_by: "cron".into(),
                    kind: TriggerType::Cron,
                    ..Trigger::default()
                };
                self.fire(trigger).await?;
            }
            self.state.schedules.put(&pipeline_id, rules);
        }
        Ok(())
    }

    /// Fires what an event fires.
    pub(super) async fn fire_event(&mut self, event: &ScmEvent) -> Result<(), Failure> {
        for pipeline_id in self.state.schedules.fired_by(event) {
            let branch = event.reference.strip_prefix("refs/heads/").unwrap_or(&event.reference).to_owned();
            let trigger = Trigger {
                request_id: format!("event:{pipeline_id}:{}:{}:{}", event.kind, event.commit, event.event_id),
                pipeline_id,
                triggered_by: "event".into(),
                kind: TriggerType::Event,
                event: event.kind.clone(),
                branch,
                commit: event.commit.clone(),
                ..Trigger::default()
            };
            self.fire(trigger).await?;
        }
        Ok(())
    }

    /// A pipeline that cannot run now does not hold up the others.
    async fn fire(&mut self, trigger: Trigger) -> Result<(), Failure> {
        match self.trigger(&trigger).await {
            Err(Failure::Refused(why)) => {
                tracing::warn!(pipeline = trigger.pipeline_id, by = trigger.triggered_by, %why, "a trigger fired in vain");
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }
}

/// `cron:<pipeline>:<UTC yyyymmddHHMM>`, with seconds where they are not 0.
fn cron_request(pipeline_id: &str, at: Millis) -> String {
    let time = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    let format = if at.rem_euclid(60_000) < 1000 { "%Y%m%d%H%M" } else { "%Y%m%d%H%M%S" };
    format!("cron:{pipeline_id}:{}", time.strftime(format))
}
