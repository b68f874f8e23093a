-- Events, one row each. digest tells events apart that share agent and id: agents whose own log was reset use ids again.
CREATE TABLE IF NOT EXISTS events{on_cluster}
(
    agent_id    String CODEC(ZSTD(1)),
    event_id    String CODEC(ZSTD(1)),
    digest      UInt64 COMMENT 'of type and payload',
    seq         UInt64 CODEC(DoubleDelta, ZSTD(1)) COMMENT 'the agent''s own number',
    type        LowCardinality(String) COMMENT 'as arcentra.task.finished',
    subject     String CODEC(ZSTD(1)),
    source      LowCardinality(String),
    time        DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)) COMMENT 'when it happened, by the agent''s clock; 1970 if not known',
    pipeline_id LowCardinality(String),
    step_id     String CODEC(ZSTD(1)) COMMENT 'as the agent names it; empty if it does not',
    received    DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)) COMMENT 'when the gateway had it',
    payload     String CODEC(ZSTD(3)) COMMENT 'the CloudEvent, as JSON; over 8 MiB, its content is cut and marked'
)
ENGINE = {replacing}
PARTITION BY toDate(received)
ORDER BY (agent_id, event_id, digest)
TTL toDateTime(received) + INTERVAL {ttl_days} DAY
SETTINGS {dedup}, ttl_only_drop_parts = 1;
