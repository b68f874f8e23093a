#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connections;
mod frames;
mod protocol;
mod requests;
mod slow;
