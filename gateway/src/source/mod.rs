//! Where logs and events come in: the gRPC services.

pub mod events;
