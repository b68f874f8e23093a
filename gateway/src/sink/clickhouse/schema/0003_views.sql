-- What is known of each step run's log, without reading its lines. Aggregate when you read: sum(lines), max(next_line).
CREATE TABLE IF NOT EXISTS log_streams{on_cluster}
(
    step_run_id    String CODEC(ZSTD(1)),
    origin         UInt64,
    pipeline_id    SimpleAggregateFunction(max, String),
    first_line     SimpleAggregateFunction(min, UInt64),
    next_line      SimpleAggregateFunction(max, UInt64),
    lines          SimpleAggregateFunction(sum, UInt64),
    bytes          SimpleAggregateFunction(sum, UInt64),
    first_received SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_received  SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = {aggregating}
ORDER BY (step_run_id, origin)
TTL toDateTime(last_received) + INTERVAL {ttl_days} DAY
SETTINGS {dedup};

CREATE MATERIALIZED VIEW IF NOT EXISTS log_streams_view{on_cluster} TO log_streams AS
SELECT
    step_run_id,
    origin,
    max(logs.pipeline_id) AS pipeline_id,
    min(line_number) AS first_line,
    max(line_number) + 1 AS next_line,
    count() AS lines,
    sum(length(content)) AS bytes,
    min(received) AS first_received,
    max(received) AS last_received
FROM logs
GROUP BY step_run_id, origin;

-- Lines and bytes of text by pipeline and hour of arrival: SELECT hour, sum(lines), sum(bytes) … GROUP BY hour.
CREATE TABLE IF NOT EXISTS log_hours{on_cluster}
(
    pipeline_id LowCardinality(String),
    hour        DateTime('UTC'),
    lines       UInt64,
    bytes       UInt64
)
ENGINE = {summing}
PARTITION BY toYYYYMM(hour)
ORDER BY (pipeline_id, hour)
SETTINGS {dedup};

CREATE MATERIALIZED VIEW IF NOT EXISTS log_hours_view{on_cluster} TO log_hours AS
SELECT pipeline_id, toDateTime(toStartOfHour(received), 'UTC') AS hour, count() AS lines, sum(length(content)) AS bytes
FROM logs
GROUP BY pipeline_id, hour;

-- Events by type and hour of arrival; errors are those whose type ends in .failed.
CREATE TABLE IF NOT EXISTS event_hours{on_cluster}
(
    type   LowCardinality(String),
    hour   DateTime('UTC'),
    events UInt64,
    errors UInt64
)
ENGINE = {summing}
PARTITION BY toYYYYMM(hour)
ORDER BY (type, hour)
SETTINGS {dedup};

CREATE MATERIALIZED VIEW IF NOT EXISTS event_hours_view{on_cluster} TO event_hours AS
SELECT
    type,
    toDateTime(toStartOfHour(received), 'UTC') AS hour,
    count() AS events,
    countIf(endsWith(type, '.failed')) AS errors
FROM events
GROUP BY type, hour;
