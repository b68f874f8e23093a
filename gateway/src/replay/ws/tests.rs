#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ahead;
mod connections;
mod frames;
mod look_ups;
mod protocol;
mod requests;
mod slow;
