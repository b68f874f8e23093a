//! A run of a pipeline as a state machine: no I/O, no clock of its own, everything it does is an answer to an [`Input`].
//!
//! A [`Plan`] is what does not change: the definition, the variables and what began the run. A [`Run`] is the plan with the states
//! of the run, its jobs and its steps. [`Run::apply`] takes one input at a time and gives the [`Change`]s that follow, in order; an
//! input that is impossible or comes too late is refused and changes nothing. The state is plain data ([`Record`]), so that a run
//! can be kept in rows and built again from them.
//!
//! # The rules
//!
//! **Jobs.** A job waits until all jobs in its `dependsOn` have ended. Then its `when` decides; without one it is `success()`.
//! - If the condition holds, the job waits for its approval if it needs one, then for its concurrency key if it has one, then runs.
//! - If it does not hold, the job is *skipped*. If a job that it depends on ended badly, it is *blocked*: also skipped, but for jobs
//!   that depend on it this counts as a bad end. So a failure goes on to all descendants, until a job whose condition uses
//!   `failure()` or `always()` takes it up. A job that is skipped because of its own condition counts as a good end.
//! - If it can not be computed, the job fails.
//!
//! A job ends badly if it fails, times out, is cancelled or is blocked. Other jobs go on.
//!
//! **Steps** of a job run one after the other. A step's `when` decides like a job's, where `success()` and `failure()` ask for the
//! earlier steps of the same job. After a bad end of a step the others are skipped, except those whose condition uses `failure()`
//! or `always()`; the job then ends as the first bad step did: *failed*, or *cancelled* if it was cancelled. A step that fails or
//! times out with `continue_on_error` counts as good.
//!
//! **Retry.** `retry.max_attempts` is the number of attempts of each step in all, the first included, with `retry.delay` between. What
//! fails, and what is lost with its agent, is tried again; what timed out or was cancelled is not. Each attempt has an id of its own.
//! An attempt that was handed out and never started is given back: another one takes its place and no try is counted.
//!
//! **Timeouts.** A step's timeout begins with its first attempt's start and covers all its attempts and the delays between. A job's
//! begins with the start of its first step; waiting for agents before that does not count. Time in which the run is paused counts
//! neither for jobs nor for steps that wait. A step that is running when its time is over is told to stop; a job whose time is over
//! ends *timed out*, its running step is told to stop, and no further step of it runs, `always()` or not. If both times are over at
//! once, the job's decides.
//!
//! **Approval.** A job with `approval.required` waits until somebody approves. Rejected, it fails; after 24 hours it times out.
//!
//! **Concurrency.** Of jobs with one `concurrency` key (variables are filled in) one runs at a time, over all runs. The machine only
//! says that it wants the key and that it no longer needs it; whoever drives it says when it is granted.
//!
//! **Pause.** While a run is paused, no step becomes ready, no job begins. What is running ends; what was handed out just before may
//! still start. Approvals are taken, and expire.
//!
//! **Cancel** of a step, a job or the run: what waits is cancelled at once; a step that is running is told to stop, and is cancelled
//! when its end is reported, or after [`STOP_GRACE`] without a report. If it succeeds before it can be stopped, it has succeeded.
//! After the cancel of a job or a run no step of it starts, `always()` or not. After the cancel of one step the job goes on as after
//! a failure. A cancelled job is a bad end for those that depend on it.
//!
//! **The end.** A run ends when all its jobs have: *cancelled* if the run was cancelled; else *failed* if a job failed or timed out; else
//! *cancelled* if a job was cancelled; else *succeeded*.
//!
//! **Again.** After the end of a run that failed or was cancelled, a step that ended badly can be run again, if the steps before it
//! ended well. It gets a new round of attempts; the steps behind it wait again, and so do all jobs behind its job that never began.
//! A job that never began begins with its dependencies and its approval anew.

mod definition;
mod input;
mod run;
pub mod state;
#[cfg(test)]
mod tests;

pub use self::definition::{Cause, Plan, PlanError, PlannedJob, PlannedStep};
pub use self::input::{Change, Impossible, Input, Outcome, StepIndex, What};
pub use self::run::{Corrupt, Run};
pub use self::state::{Job, JobEnd, JobState, Record, RunEnd, RunState, Step, StepEnd, StepState};

use crate::Millis;

/// How long a step that was told to stop is waited for.
pub const STOP_GRACE: Millis = 60_000;
/// How long an approval is waited for.
pub const APPROVAL_EXPIRY: Millis = 24 * 3_600_000;
