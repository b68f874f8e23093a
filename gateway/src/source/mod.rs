//! Where batches and events come in: the gRPC services.
//!
//! [`server`] accepts connections, [`announce`] bounds the memory of messages before they are read, [`logs`] and [`events`] are
//! the streams of the two kinds, [`service`] ties them to `gateway.v1.GatewayService`.

pub mod announce;
pub mod events;
pub mod logs;
pub mod server;
pub mod service;
