//! What the sinks promise, on a real Kafka and a real ClickHouse.

mod clickhouse_tls;
mod consumer;
mod dead_letters;
mod kafka;
mod kafka_limits;
mod kafka_outages;
mod kafka_refusals;
mod kafka_rights;
mod kafka_tls;
mod letters;
mod services;
mod undelivered;
