//! What the sinks promise, on a real Kafka and a real ClickHouse.

mod apart;
mod clickhouse_backlog;
mod clickhouse_tls;
mod clickhouse_views;
mod consumer;
mod dead_letters;
mod kafka;
mod kafka_backlog;
mod kafka_limits;
mod kafka_lines;
mod kafka_outages;
mod kafka_phases;
mod kafka_refusals;
mod kafka_rights;
mod kafka_tls;
mod letters;
mod services;
mod undelivered;
