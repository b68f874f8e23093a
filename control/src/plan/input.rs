//! What can happen to a run, what follows, and why something can not happen.

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;

use crate::Millis;

/// A step of a run: the index of its job, and its own in the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepIndex {
    /// The job.
    pub job: usize,
    /// The step.
    pub step: usize,
}

/// How an attempt ended, as its executor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
    /// Its executor ended it because its time was over.
    TimedOut,
    /// Its executor stopped it.
    Cancelled,
    /// Its agent is gone, nobody knows how far it came.
    Lost,
}

/// What is to be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The whole run.
    Run,
    /// One job.
    Job(usize),
    /// One step.
    Step(StepIndex),
}

/// Something that happened, or that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The run is to begin.
    Begin,
    /// An attempt was started.
    StepStarted {
        /// The step.
        step: StepIndex,
        /// The attempt's id.
        attempt: String,
    },
    /// An attempt ended.
    StepEnded {
        /// The step.
        step: StepIndex,
        /// The attempt's id.
        attempt: String,
        /// How.
        outcome: Outcome,
        /// Why, in words; may be empty.
        reason: String,
    },
    /// An attempt was handed out, but will not be started: its executor is gone.
    StepReturned {
        /// The step.
        step: StepIndex,
        /// The attempt's id.
        attempt: String,
        /// Why, in words.
        reason: String,
    },
    /// A time that was due has come: see [`super::Run::due`].
    Tick,
    /// A job's approval was given.
    Approve {
        /// The job.
        job: usize,
        /// By whom.
        by: String,
    },
    /// A job's approval was denied.
    Reject {
        /// The job.
        job: usize,
        /// By whom, and why.
        reason: String,
    },
    /// A job's concurrency key is its own until [`Change::KeyReleased`].
    KeyGranted {
        /// The job.
        job: usize,
    },
    /// Nothing new is to start.
    Pause {
        /// By whom, and why.
        reason: String,
    },
    /// New steps may start again.
    Resume {
        /// By whom, and why.
        reason: String,
    },
    /// Something is no longer wanted.
    Cancel {
        /// What.
        what: What,
        /// By whom, and why.
        reason: String,
    },
    /// A step that ended badly is to run again.
    RetryStep {
        /// The step.
        step: StepIndex,
        /// By whom, and why.
        reason: String,
    },
}

/// What follows from an input. Statuses are those that the world sees; a job's are numbered as a step's. The record of a job or a
/// step changes only if a change names it, even where its status stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The run moved.
    Run {
        /// From this status.
        from: PipelineStatus,
        /// To this one.
        to: PipelineStatus,
        /// Why; may be empty.
        reason: String,
    },
    /// A job moved; its status may be the same.
    Job {
        /// The job.
        job: usize,
        /// From this status.
        from: StepRunStatus,
        /// To this one.
        to: StepRunStatus,
        /// Why; may be empty.
        reason: String,
    },
    /// An attempt of a step moved; its status may be the same. To `QUEUED`: it may be handed out.
    Step {
        /// The step.
        step: StepIndex,
        /// The attempt's id.
        attempt: String,
        /// From this status.
        from: StepRunStatus,
        /// To this one.
        to: StepRunStatus,
        /// Why; may be empty.
        reason: String,
    },
    /// A step has a new attempt, which is `PENDING`. The one before has ended.
    NewAttempt {
        /// The step.
        step: StepIndex,
        /// The new attempt's id.
        attempt: String,
        /// Its number, from 1 for the step's first.
        number: u32,
    },
    /// An attempt that is running is to be stopped by its executor.
    Stop {
        /// The step.
        step: StepIndex,
        /// The attempt's id.
        attempt: String,
        /// Why.
        reason: String,
    },
    /// A job waits for approval.
    ApprovalWanted {
        /// The job.
        job: usize,
        /// Until then.
        expires: Millis,
    },
    /// A job waits for a concurrency key.
    KeyWanted {
        /// The job.
        job: usize,
        /// The key.
        key: String,
    },
    /// A job no longer needs its key, or no longer waits for it.
    KeyReleased {
        /// The job.
        job: usize,
        /// The key.
        key: String,
    },
    /// Somebody is to be told how a job ended.
    Notify {
        /// The job.
        job: usize,
        /// Whether well.
        succeeded: bool,
    },
    /// [`Input::Tick`] is wanted at another time than before.
    Due {
        /// Then; absent: never.
        at: Option<Millis>,
    },
}

/// Why an input can not be. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// There is no such job or step.
    #[error("the run has no such job or step")]
    Unknown,
    /// The run, job or step is not in a state for it.
    #[error("{what} is {state}, so that it can not be {wanted}")]
    State {
        /// Which run, job or step.
        what: String,
        /// Its state.
        state: &'static str,
        /// What was wanted of it.
        wanted: &'static str,
    },
    /// The attempt is not the step's current one.
    #[error("attempt {attempt} is not the current one of {step}: it has ended, or never was")]
    OldAttempt {
        /// The step.
        step: String,
        /// The attempt that was named.
        attempt: String,
    },
    /// No time has come.
    #[error("nothing is due yet")]
    NothingDue,
    /// A step before it must run again first.
    #[error("{step} can not run again before {first}, which ended badly too")]
    NotFirst {
        /// The step.
        step: String,
        /// The one before it.
        first: String,
    },
}
