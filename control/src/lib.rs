//! The control plane: pipelines, runs, step runs, agents, HTTP.
//!
//! Pure: no clock, no file, no socket.
//!
//! | module | what it answers |
//! |---|---|
//! | [`cron`] | when a schedule fires |
//! | [`duration`] | how long `1h30m` is |
//! | [`labels`] | whether an agent may execute a step |
//! | [`plan`] | what a run does next, and how it ends |
//! | [`spec`] | what a pipeline's text says, and what is wrong with it |
//! | [`template`] | what `${{ NAME }}` in a text becomes |
//! | [`trigger`] | what begins runs of a pipeline |
//! | [`when`] | whether a condition holds |
//!
//! Around it:
//!
//! | module | what it does |
//! |---|---|
//! | [`agents`] | agents: who is there, what they are given, what they say |
//! | [`db`] | SQLite or PostgreSQL, one text of SQL |
//! | [`engine`] | drives runs: each request one transaction, with its events |
//! | [`pipelines`] | pipelines and the revisions of their definitions, here or in git repositories |
//! | [`grpc`] | the calls |
//! | [`status`] | one step run's status, for those who watch it |

pub mod agents;
pub mod cron;
pub mod db;
pub mod duration;
pub mod engine;
mod git;
mod glob;
mod graph;
pub mod grpc;
pub mod labels;
pub mod pipelines;
pub mod plan;
pub mod spec;
pub mod status;
pub mod template;
mod text;
pub mod trigger;
pub mod when;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;
