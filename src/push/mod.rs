//! `arcgate push`.
pub mod event;
pub mod lines;
pub mod outbox;
pub mod shared;
pub mod spool;
