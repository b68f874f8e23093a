//! What streams follow: step runs, jobs, runs, agents. Each reads its rows and understands its changes.

use std::collections::HashMap;

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_api::stream::v1 as pb;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::follow::{Entry, Subject};
use crate::Millis;
use crate::agents::AgentRow;
use crate::db::DbError;
use crate::db::row::Columns as _;
use crate::engine::rows::{between, run_is_over};
use crate::engine::{JobRow, Moved, RunRow, Update, is_over};

/// How many things a snapshot shows of what nobody named.
const MOST: i64 = 10_000;

fn whole(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Whether a filter lets something through: an empty one does.
fn lets(filter: &[String], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|one| one == value)
}

fn is(filter: &str, value: &str) -> bool {
    filter.is_empty() || filter == value
}

/// Rows by their ids.
async fn by_ids(read: &mut AnyConnection, text: &'static str, ids: &[String]) -> Result<Vec<AnyRow>, DbError> {
    let mut rows = Vec::new();
    for id in ids {
        rows.extend(sqlx::query(text).bind(&**id).fetch_optional(&mut *read).await?);
    }
    Ok(rows)
}

/// What rows say, and then what those of `open` say that are not among them.
async fn with_open<A: Send>(
    read: &mut AnyConnection,
    text: &'static str,
    rows: Vec<AnyRow>,
    open: &[String],
    entry: impl Fn(&AnyRow) -> Result<Option<Entry<A>>, DbError> + Send,
) -> Result<Vec<Entry<A>>, DbError> {
    let mut entries = Vec::new();
    for row in &rows {
        entries.extend(entry(row)?);
    }
    let there: std::collections::HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    let rest: Vec<String> = open.iter().filter(|id| !there.contains(*id)).cloned().collect();
    for row in by_ids(read, text, &rest).await? {
        entries.extend(entry(&row)?);
    }
    Ok(entries)
}

/// Step runs.
pub(super) struct Steps(pub(super) pb::StreamStepRunStatusRequest);

impl Steps {
    fn wants(&self, answer: &pb::StreamStepRunStatusResponse) -> bool {
        let of = &self.0;
        lets(&of.step_run_ids, &answer.step_run_id)
            && is(&of.pipeline_id, &answer.pipeline_id)
            && is(&of.pipeline_run_id, &answer.pipeline_run_id)
            && is(&of.job_id, &answer.job_id)
            && is(&of.job_name, &answer.job_name)
    }

    fn entry(&self, answer: pb::StreamStepRunStatusResponse) -> Option<Entry<pb::StreamStepRunStatusResponse>> {
        let (key, status) = (answer.step_run_id.clone(), answer.status);
        self.wants(&answer).then(|| Entry { key, status, previous: 0, over: is_over(answer.status()), answer })
    }

    fn read(&self, row: &AnyRow) -> Result<Option<Entry<pb::StreamStepRunStatusResponse>>, DbError> {
        Ok(self.entry(pb::StreamStepRunStatusResponse {
            step_run_id: row.text("step_run_id")?,
            pipeline_id: row.text("pipeline_id")?,
            pipeline_run_id: row.text("pipeline_run_id")?,
            job_id: row.text("job_id")?,
            job_name: row.text("job_name")?,
            step_name: row.text("name")?,
            status: whole(row.number("status")?),
            previous_status: 0,
            timestamp: row.number("updated_at")? / 1000,
            agent_id: row.text("agent_id")?,
            exit_code: row.maybe_number("exit_code")?.map_or(-1, whole),
            error_message: row.text("error_message")?,
            duration: row.number("duration")?,
            metrics: row.object::<HashMap<String, String>>("metrics")?,
        }))
    }
}

impl Subject for Steps {
    type Answer = pb::StreamStepRunStatusResponse;

    async fn snapshot(&self, read: &mut AnyConnection, open: &[String]) -> Result<Vec<Entry<Self::Answer>>, DbError> {
        const ONE: &str = "SELECT * FROM t_step_run WHERE step_run_id = $1";
        let rows = if !self.0.step_run_ids.is_empty() {
            by_ids(read, ONE, &self.0.step_run_ids).await?
        } else if !self.0.pipeline_run_id.is_empty() {
            let text = "SELECT * FROM t_step_run WHERE pipeline_run_id = $1 AND is_current = 1 ORDER BY job_index, step_index";
            sqlx::query(text).bind(&*self.0.pipeline_run_id).fetch_all(&mut *read).await?
        } else {
            let text = "SELECT * FROM t_step_run WHERE status IN (1, 2, 3) AND is_current = 1 AND ($1 = '' OR pipeline_id = $1) \
                        ORDER BY created_at, step_run_id LIMIT $2";
            sqlx::query(text).bind(&*self.0.pipeline_id).bind(MOST).fetch_all(&mut *read).await?
        };
        with_open(read, ONE, rows, open, |row| self.read(row)).await
    }

    fn change(&self, update: &Update) -> Option<Entry<Self::Answer>> {
        let Moved::Step { from, job, step, .. } = &update.what else { return None };
        let entry = self.entry(pb::StreamStepRunStatusResponse {
            step_run_id: step.step_run_id.clone(),
            pipeline_id: update.pipeline_id.to_string(),
            pipeline_run_id: update.run_id.to_string(),
            job_id: format!("{}-{job}", update.pipeline_id),
            job_name: job.to_string(),
            step_name: step.name.clone(),
            status: step.status.into(),
            previous_status: 0,
            timestamp: update.at / 1000,
            agent_id: step.agent_id.clone(),
            exit_code: step.exit_code.map_or(-1, whole),
            error_message: step.error.clone(),
            duration: between(step.started, step.ended),
            metrics: HashMap::new(),
        })?;
        Some(Entry { previous: i32::from(*from), ..entry })
    }

    fn set_previous(answer: &mut Self::Answer, previous: i32) {
        answer.previous_status = previous;
    }
}

/// Jobs. They are told apart by their run too.
pub(super) struct Jobs(pub(super) pb::StreamJobStatusRequest);

/// A job's status in the numbers of a run's, as the contract wants it.
fn as_run(status: StepRunStatus) -> PipelineStatus {
    use StepRunStatus as S;
    match status {
        S::Unspecified => PipelineStatus::Unspecified,
        S::Pending | S::Queued => PipelineStatus::Pending,
        S::Running => PipelineStatus::Running,
        S::Success | S::Skipped => PipelineStatus::Success,
        S::Failed | S::Timeout => PipelineStatus::Failed,
        S::Cancelled => PipelineStatus::Cancelled,
    }
}

impl Jobs {
    fn entry(&self, (pipeline_id, run_id): (&str, &str), at: Millis, job: &JobRow) -> Option<Entry<pb::StreamJobStatusResponse>> {
        let job_id = format!("{pipeline_id}-{}", job.name);
        let wanted =
            lets(&self.0.job_ids, &job_id) && is(&self.0.pipeline_id, pipeline_id) && is(&self.0.pipeline_run_id, run_id);
        if !wanted {
            return None;
        }
        let status = as_run(job.status).into();
        // Its steps run one after the other.
        let running = job.status == StepRunStatus::Running && job.completed_steps < job.total_steps;
        let answer = pb::StreamJobStatusResponse {
            job_id,
            job_name: job.name.clone(),
            pipeline_id: pipeline_id.to_owned(),
            pipeline_run_id: run_id.to_owned(),
            status,
            previous_status: 0,
            timestamp: at / 1000,
            total_steps: whole(job.total_steps),
            completed_steps: whole(job.completed_steps - job.failed_steps),
            failed_steps: whole(job.failed_steps),
            running_steps: i32::from(running),
            current_step_index: whole(job.completed_steps.min(job.total_steps - 1).max(0)),
            duration: between(job.started, job.ended),
        };
        Some(Entry { key: job.job_run_id.clone(), status, previous: 0, over: is_over(job.status), answer })
    }

    fn read(&self, row: &AnyRow) -> Result<Option<Entry<pb::StreamJobStatusResponse>>, DbError> {
        let (pipeline_id, run_id) = (row.text("pipeline_id")?, row.text("pipeline_run_id")?);
        Ok(self.entry((&pipeline_id, &run_id), row.number("updated_at")?, &JobRow::read(row)?))
    }
}

impl Subject for Jobs {
    type Answer = pb::StreamJobStatusResponse;

    async fn snapshot(&self, read: &mut AnyConnection, open: &[String]) -> Result<Vec<Entry<Self::Answer>>, DbError> {
        const ONE: &str = "SELECT * FROM t_job_run WHERE job_run_id = $1";
        let rows = if self.0.pipeline_run_id.is_empty() {
            let text = "SELECT * FROM t_job_run WHERE status IN (1, 2, 3) AND ($1 = '' OR pipeline_id = $1) \
                        ORDER BY created_at, job_run_id LIMIT $2";
            sqlx::query(text).bind(&*self.0.pipeline_id).bind(MOST).fetch_all(&mut *read).await?
        } else {
            let text = "SELECT * FROM t_job_run WHERE pipeline_run_id = $1 ORDER BY job_index";
            sqlx::query(text).bind(&*self.0.pipeline_run_id).fetch_all(&mut *read).await?
        };
        with_open(read, ONE, rows, open, |row| self.read(row)).await
    }

    fn change(&self, update: &Update) -> Option<Entry<Self::Answer>> {
        let Moved::Job { from, job } = &update.what else { return None };
        let entry = self.entry((&update.pipeline_id, &update.run_id), update.at, job)?;
        let previous = i32::from(as_run(*from));
        // From pending to queued is nothing in these numbers.
        (entry.status != previous).then_some(Entry { previous, ..entry })
    }

    fn set_previous(answer: &mut Self::Answer, previous: i32) {
        answer.previous_status = previous;
    }
}

/// Runs.
pub(super) struct Runs(pub(super) pb::StreamPipelineStatusRequest);

impl Runs {
    fn entry(&self, namespace: &str, at: Millis, run: &RunRow) -> Option<Entry<pb::StreamPipelineStatusResponse>> {
        if !lets(&self.0.pipeline_ids, &run.pipeline_id) || !lets(&self.0.pipeline_run_ids, &run.run_id) {
            return None;
        }
        let status = run.status.into();
        let answer = pb::StreamPipelineStatusResponse {
            pipeline_id: run.pipeline_id.clone(),
            run_id: run.run_id.clone(),
            namespace: namespace.to_owned(),
            status,
            previous_status: 0,
            timestamp: at / 1000,
            total_jobs: whole(run.total_jobs),
            completed_jobs: whole(run.completed_jobs - run.failed_jobs),
            failed_jobs: whole(run.failed_jobs),
            running_jobs: whole(run.running_jobs),
            duration: between(run.started, run.ended),
        };
        Some(Entry { key: run.run_id.clone(), status, previous: 0, over: run_is_over(run.status), answer })
    }
}

impl Subject for Runs {
    type Answer = pb::StreamPipelineStatusResponse;

    async fn snapshot(&self, read: &mut AnyConnection, open: &[String]) -> Result<Vec<Entry<Self::Answer>>, DbError> {
        const ONE: &str = "SELECT * FROM t_pipeline_run WHERE run_id = $1";
        let rows = if self.0.pipeline_run_ids.is_empty() {
            let text = "SELECT * FROM t_pipeline_run WHERE status IN (1, 2, 6) ORDER BY created_at, run_id LIMIT $1";
            sqlx::query(text).bind(MOST).fetch_all(&mut *read).await?
        } else {
            by_ids(read, ONE, &self.0.pipeline_run_ids).await?
        };
        let mut namespaces = HashMap::new();
        for row in &rows {
            let id = row.text("definition_id")?;
            if let std::collections::hash_map::Entry::Vacant(place) = namespaces.entry(id) {
                let namespace = crate::engine::specs::load(read, place.key()).await?.namespace;
                place.insert(namespace);
            }
        }
        let read_row = |row: &AnyRow| {
            let namespace = namespaces.get(&row.text("definition_id")?).cloned().unwrap_or_default();
            Ok(self.entry(&namespace, row.number("updated_at")?, &RunRow::read(row)?))
        };
        with_open(read, ONE, rows, open, read_row).await
    }

    fn change(&self, update: &Update) -> Option<Entry<Self::Answer>> {
        let Moved::Run { from, run } = &update.what else { return None };
        let entry = self.entry(&update.namespace, update.at, run)?;
        Some(Entry { previous: i32::from(*from), ..entry })
    }

    fn set_previous(answer: &mut Self::Answer, previous: i32) {
        answer.previous_status = previous;
    }
}

/// Agents. None of them is ever over: it can come back.
pub(super) struct AgentsOf(pub(super) pb::StreamAgentStatusRequest);

impl AgentsOf {
    fn entry(&self, at: Millis, agent: &AgentRow) -> Option<Entry<pb::StreamAgentStatusResponse>> {
        if !lets(&self.0.agent_ids, &agent.agent_id) {
            return None;
        }
        let status = agent.status.into();
        let answer = pb::StreamAgentStatusResponse {
            agent_id: agent.agent_id.clone(),
            hostname: agent.name.clone(),
            ip: agent.address.clone(),
            status,
            previous_status: 0,
            timestamp: at / 1000,
            running_step_runs_count: whole(agent.running_step_runs),
            max_concurrent_step_runs: i32::try_from(agent.capacity()).unwrap_or(i32::MAX),
            metrics: None,
            last_heartbeat: agent.last_heartbeat.unwrap_or(0) / 1000,
            labels: agent.labels.clone(),
        };
        Some(Entry { key: agent.agent_id.clone(), status, previous: 0, over: false, answer })
    }
}

impl Subject for AgentsOf {
    type Answer = pb::StreamAgentStatusResponse;

    async fn snapshot(&self, read: &mut AnyConnection, open: &[String]) -> Result<Vec<Entry<Self::Answer>>, DbError> {
        const ONE: &str = "SELECT * FROM t_agent WHERE agent_id = $1";
        let rows = if self.0.agent_ids.is_empty() {
            let text = "SELECT * FROM t_agent ORDER BY created_at DESC, agent_id LIMIT $1";
            sqlx::query(text).bind(MOST).fetch_all(&mut *read).await?
        } else {
            by_ids(read, ONE, &self.0.agent_ids).await?
        };
        let read_row = |row: &AnyRow| Ok(self.entry(row.number("updated_at")?, &AgentRow::read(row)?));
        with_open(read, ONE, rows, open, read_row).await
    }

    fn change(&self, update: &Update) -> Option<Entry<Self::Answer>> {
        // New labels and another room are worth a message too; the status is then the one before.
        let Moved::Agent { from, agent, .. } = &update.what else { return None };
        let entry = self.entry(update.at, agent)?;
        Some(Entry { previous: i32::from(*from), ..entry })
    }

    fn set_previous(answer: &mut Self::Answer, previous: i32) {
        answer.previous_status = previous;
    }
}
