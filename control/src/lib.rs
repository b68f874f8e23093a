//! The control plane: pipelines, runs, step runs, agents, HTTP. So far its pure part; nothing here reads a clock, a file or a
//! socket.
//!
//! | module | what it answers |
//! |---|---|
//! | [`spec`] | what a pipeline's text says, and what is wrong with it |

pub mod spec;
mod text;
