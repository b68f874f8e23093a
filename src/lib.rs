//! The parts of the `arcgate` binary, as a library so that tests and benches reach them too.
//!
//! [`cli`] reads the command line and hands over to one of the commands: [`serve`](mod@serve) (the gateway), [`push`] and
//! [`tail`] (its two clients), [`agent`] (executes what a control plane hands out), [`ctl`] (the control plane's commands), [`store`] (a
//! store that no gateway has open), [`deadletters`] (what sinks will never take), or the small ones that live in `cli` itself.
//! [`control`] is the control plane as `serve` runs it, joined to the data plane.
//! [`settings`] is the only place that reads settings' files and variables; [`ops`] is what an operator sees of a running gateway.

pub mod agent;
pub mod bearer;
pub mod cli;
pub mod control;
pub mod ctl;
pub mod deadletters;
pub mod json;
pub mod ops;
pub mod push;
pub mod serve;
pub mod settings;
pub mod store;
pub mod style;
pub mod tail;
pub mod time;
