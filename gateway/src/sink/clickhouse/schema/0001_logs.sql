-- Lines, one row each. `count()` is exactly the lines that were delivered: what stands for missing lines is in log_marks.
-- origin: who counted the line: 0 its agent, else the gateway's store. With (step_run_id, line_number) it names a line, so that
-- a line which several gateways had from its agent is one row after a merge.
CREATE TABLE IF NOT EXISTS logs{on_cluster}
(
    step_run_id  LowCardinality(String),
    line_number  UInt64 CODEC(DoubleDelta, LZ4),
    origin       UInt64 CODEC(ZSTD(1)),
    timestamp    DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)) COMMENT 'timestamp_ms in seconds, held within 1970 to 2106',
    timestamp_ms Int64 CODEC(DoubleDelta, ZSTD(1)) COMMENT 'when the line was written, by the clock of the build, in Unix milliseconds',
    level        LowCardinality(String),
    content      String CODEC(ZSTD(1)),
    stream       LowCardinality(String) COMMENT 'stdout, stderr, or empty',
    plugin_name  LowCardinality(String),
    agent_id     LowCardinality(String),
    pipeline_id  LowCardinality(String) COMMENT 'empty if not known',
    job_id       LowCardinality(String) COMMENT 'empty if not known',
    seq          UInt64 CODEC(DoubleDelta, ZSTD(1)) COMMENT 'the agent''s own number of the batch, 0 if not known',
    epoch        UInt32 CODEC(ZSTD(1)) COMMENT 'the epoch of the gateway''s store',
    truncated    Bool COMMENT 'the line was longer than the limit and has been cut',
    received     DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)) COMMENT 'when the gateway had it'
)
ENGINE = {replacing}
PARTITION BY toDate(received)
ORDER BY (step_run_id, line_number, origin)
TTL toDateTime(received) + INTERVAL {ttl_days} DAY
SETTINGS {dedup}, ttl_only_drop_parts = 1;

-- What is no line: gaps (lines that the gateway did not get or could not keep) and the ends of logs.
CREATE TABLE IF NOT EXISTS log_marks{on_cluster}
(
    step_run_id  String CODEC(ZSTD(1)),
    first_line   UInt64 COMMENT 'the first missing number; of an end, the number after the last line',
    kind         LowCardinality(String) COMMENT 'gap or end',
    origin       UInt64 COMMENT 'as in logs',
    store        UInt64 COMMENT 'the store of the gateway that noted it',
    position     UInt64 COMMENT 'where it lies in that store''s line log: the order of marks that share a number',
    lines        UInt64 COMMENT 'how many are missing; 0 if not known, then they have no numbers either',
    reason       LowCardinality(String) COMMENT 'of a gap: queue_full, unreadable, damaged, dropped_by_sender, …',
    timestamp_ms Int64,
    pipeline_id  LowCardinality(String),
    epoch        UInt32,
    received     DateTime64(3, 'UTC')
)
ENGINE = {replacing}
PARTITION BY toDate(received)
ORDER BY (step_run_id, first_line, kind, origin, store, position)
TTL toDateTime(received) + INTERVAL {ttl_days} DAY
SETTINGS {dedup}, ttl_only_drop_parts = 1;
