INSERT INTO logs (step_run_id, origin, timestamp, timestamp_ms, level, stream, plugin_name, agent_id, pipeline_id, job_id, seq, epoch,
                  truncated, received, line_number, content)
WITH
    number + {first} AS n,
    intDiv(n, 1000) AS batch,
    {run} AS run,
    {line} AS line,
    sipHash64(n) AS random,
    ['serde_derive', 'tokio-util', 'hyper', 'regex-automata', 'syn', 'proc-macro2', 'tracing-core', 'rustls', 'h2', 'indexmap', 'http-body', 'futures-channel'][random % 12 + 1] AS krate,
    ['Resolver', 'TaskQueue', 'HttpClient', 'ArtifactStore', 'Scheduler', 'Session', 'Parser', 'Cache'][bitShiftRight(random, 8) % 8 + 1] AS class,
    ['compiled', 'resolved', 'downloaded', 'linked', 'checked', 'verified', 'packaged', 'uploaded'][bitShiftRight(random, 16) % 8 + 1] AS verb,
    bitShiftRight(random, 24) % 10 AS kind,
    bitShiftRight(random, 32) AS some,
    bitShiftRight(random, 44) AS more,
    toDateTime64(toStartOfDay(now('UTC')), 3, 'UTC') - toIntervalDay({days_ago}) + toIntervalMillisecond(batch % 1000000 * 80) AS time,
    formatDateTime(time, '%H:%i:%S') AS clock
SELECT
    lower(hex(MD5(toString(run)))), 0, time, toUnixTimestamp64Milli(time), '', if(batch % 50 = 0, 'stderr', 'stdout'), 'shell',
    concat('agent-', toString(run % 40)), concat('pipeline-', toString(run % 30)), '', 0, 1, false, time, line,
    multiIf(
        kind < 5, concat('[', clock, '] rustc --crate-name ', krate, ' --edition=2021 -C metadata=', lower(hex(random)), ' --out-dir target/debug/deps (', toString(some % 400), ' ms)'),
        kind < 8, concat(clock, ' INFO  [worker-', toString(some % 16), '] org.example.build.', class, ' - ', verb, ' ', krate, ' in ', toString(more % 90000), ' ms src/', krate, '/', verb, '.rs'),
        kind = 8, concat('test ', krate, '::', class, '::tests::', verb, '_when_case_', toString(some % 5000), ' ... ok src/', krate, '/', class, '.rs src/', verb, '.rs'),
        concat('   ✔ ', verb, ' ', class, ' (', krate, '@1.', toString(some % 90), '.', toString(more % 30), ') src/', krate, '/', class, '.rs src/', verb, '.rs'))
FROM numbers({count})
