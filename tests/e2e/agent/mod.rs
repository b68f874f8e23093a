//! The reference agent against the gateway: both are the real binary.

mod place;
mod plain;
mod rounds;
mod survivals;
