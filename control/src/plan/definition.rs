//! What of a run does not change: its definition, compiled.

use std::collections::{HashMap, HashSet};

use arcgate_api::pipeline::v1 as pb;

use crate::when::{Scope, Values, When, WhenError};
use crate::{Millis, duration, graph, template};

/// Why a definition can not be run. A valid one can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline can not be run: {0}; validate the definition")]
pub struct PlanError(String);

/// What a run is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// Variables that the trigger gave: they win over the definition's.
    pub variables: HashMap<String, String>,
    /// The branch, or empty.
    pub branch: String,
    /// `manual`, `cron`, or the kind of event, as `push`.
    pub event: String,
}

/// A definition that can be run.
#[derive(Debug)]
pub struct Plan {
    /// The jobs, in the definition's order.
    pub jobs: Vec<PlannedJob>,
    /// The jobs by index, each after those it depends on.
    pub(super) order: Vec<usize>,
    variables: HashMap<String, String>,
    branch: String,
    event: String,
}

/// A job that can be run.
#[derive(Debug)]
pub struct PlannedJob {
    /// Its name.
    pub name: String,
    /// Its concurrency key, filled in.
    pub key: Option<String>,
    /// The jobs that it depends on, by index.
    pub before: Vec<usize>,
    /// Its steps in order.
    pub steps: Vec<PlannedStep>,
    pub(super) when: When,
    pub(super) timeout: Option<Millis>,
    pub(super) approval: bool,
    pub(super) max_attempts: u32,
    pub(super) delay: Millis,
    /// Whether somebody is to be told of a good end, and of a bad one.
    pub(super) notify: (bool, bool),
    description: String,
}

/// A step that can be run.
#[derive(Debug)]
pub struct PlannedStep {
    /// Its name.
    pub name: String,
    /// The plugin.
    pub uses: String,
    pub(super) when: When,
    pub(super) timeout: Option<Millis>,
    pub(super) continue_on_error: bool,
}

impl Plan {
    /// Compiles a definition for one run.
    ///
    /// # Errors
    /// What validation refuses too: unknown names, circles, conditions and durations that are none.
    pub fn new(spec: &pb::Spec, cause: &Cause) -> Result<Self, PlanError> {
        let mut variables = spec.variables.clone();
        variables.extend(cause.variables.clone());
        let names: HashSet<String> = variables.keys().cloned().collect();
        let (branch, event) = (cause.branch.clone(), cause.event.clone());
        let mut plan = Self { jobs: Vec::new(), order: Vec::new(), variables, branch, event };
        let index_of: HashMap<&str, usize> =
            spec.jobs.iter().enumerate().map(|(index, job)| (job.name.as_str(), index)).collect();
        for job in &spec.jobs {
            let planned = plan.job(job, &index_of, &names).map_err(|why| PlanError(format!("job '{}': {why}", job.name)))?;
            plan.jobs.push(planned);
        }
        let before: Vec<Vec<usize>> = plan.jobs.iter().map(|job| job.before.clone()).collect();
        plan.order = graph::order(&before).map_err(|_| PlanError("jobs depend on one another in a circle".into()))?;
        Ok(plan)
    }

    fn job(&self, job: &pb::Job, index_of: &HashMap<&str, usize>, names: &HashSet<String>) -> Result<PlannedJob, String> {
        if job.steps.is_empty() {
            return Err("it has no steps".into());
        }
        let index = |name: &String| {
            index_of.get(name.as_str()).copied().ok_or_else(|| format!("dependsOn names the unknown job '{name}'"))
        };
        let key = template::fill(&job.concurrency, &|name| self.value_of(name)).map_err(|error| error.to_string())?;
        let notify =
            job.notify.as_ref().map_or((false, false), |notify| (notify.on_success.is_some(), notify.on_failure.is_some()));
        let retry = job.retry.clone().unwrap_or_default();
        Ok(PlannedJob {
            name: job.name.clone(),
            description: job.description.clone(),
            key: Some(key.into_owned()).filter(|key| !key.is_empty()),
            before: job.depends_on.iter().map(index).collect::<Result<_, _>>()?,
            when: compile(&job.when, names, false)?,
            timeout: timeout(&job.timeout)?,
            approval: job.approval.as_ref().is_some_and(|approval| approval.required),
            max_attempts: u32::try_from(retry.max_attempts).unwrap_or(1).max(1),
            delay: timeout(&retry.delay)?.unwrap_or(0),
            notify,
            steps: job.steps.iter().map(|step| planned_step(step, names)).collect::<Result<_, _>>()?,
        })
    }

    /// Gives a step another time limit; one that is no duration is none.
    pub fn limit(&mut self, step: super::StepIndex, limit: &str) {
        if let Some(step) = self.jobs.get_mut(step.job).and_then(|job| job.steps.get_mut(step.step)) {
            step.timeout = timeout(limit).ok().flatten();
        }
    }

    /// The run's variables: the definition's and the trigger's.
    #[must_use]
    pub fn variables(&self) -> &HashMap<String, String> {
        &self.variables
    }

    /// What `${{ name }}` stands for in this run: a variable, also as `env.NAME` or `variables.NAME`; `branch`; `event`.
    #[must_use]
    pub fn value_of(&self, name: &str) -> Option<String> {
        let variable = name.strip_prefix("env.").or_else(|| name.strip_prefix("variables.")).unwrap_or(name);
        let value = self.variables.get(name).or_else(|| self.variables.get(variable)).map(String::as_str);
        value
            .or(match name {
                "branch" => Some(&self.branch),
                "event" => Some(&self.event),
                _ => None,
            })
            .map(str::to_owned)
    }

    /// Whether a job's condition holds, or a step's.
    pub(super) fn holds(&self, job: usize, step: Option<usize>, failed: bool) -> Result<bool, WhenError> {
        let planned = &self.jobs[job];
        let step = step.map(|step| &planned.steps[step]);
        let values = Values {
            variables: &self.variables,
            branch: &self.branch,
            event: &self.event,
            job: (&planned.name, &planned.description),
            step: step.map(|step| (step.name.as_str(), step.uses.as_str())),
            failed,
        };
        step.map_or(&planned.when, |step| &step.when).holds(&values)
    }
}

fn planned_step(step: &pb::Step, names: &HashSet<String>) -> Result<PlannedStep, String> {
    let fail = |why: String| format!("step '{}': {why}", step.name);
    Ok(PlannedStep {
        name: step.name.clone(),
        uses: step.uses.clone(),
        when: compile(&step.when, names, true).map_err(fail)?,
        timeout: timeout(&step.timeout).map_err(fail)?,
        continue_on_error: step.continue_on_error,
    })
}

fn compile(text: &str, variables: &HashSet<String>, step: bool) -> Result<When, String> {
    When::compile(text, &Scope { variables, step }).map_err(|error| format!("when: {error}"))
}

fn timeout(text: &str) -> Result<Option<Millis>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    duration::parse(text).map(|timeout| Some(duration::millis(timeout))).map_err(|error| error.to_string())
}
