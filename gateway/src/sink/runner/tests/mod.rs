#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fake;
mod letters;
mod property;
mod rig;
mod trouble;
