//! ClickHouse as a sink: `count()` is exactly what was acked, without FINAL or DISTINCT, and the views' sums are too, whatever dies on
//! the way.

use serde_json::json;

use crate::harness::cursor;
use crate::harness::front::{Front, Way};
use crate::harness::services::ClickHouse;
use crate::harness::{ARRIVES, Launch, Outcome, Rig, SOON, binary, events, eventually, folder, logs, run, scaled, text};

/// A gateway that delivers to `url`, into a database of that name.
pub(crate) async fn rig(url: &str, database: &str, more: &[(&str, &str)]) -> Outcome<Rig> {
    let own = [
        ("ARCGATE_CLICKHOUSE__URL", url),
        ("ARCGATE_CLICKHOUSE__DATABASE", database),
        ("ARCGATE_CLICKHOUSE__BATCH_AGE", "100ms"),
        ("ARCGATE_CLICKHOUSE__TIMEOUT", "5s"),
    ];
    Rig::start_with(&[&own[..], more].concat()).await
}

/// The sink of lines.
const LINES: &str = "clickhouse-logs";

/// Pushes `lines` lines of one step run of a pipeline, and waits until they are on disk: then they are acked for good.
pub(crate) async fn push(rig: &Rig, step_run: &str, pipeline: &str, first: u64, lines: u64) -> Outcome<()> {
    let text: String = (first..first + lines).map(|number| format!("line {number} of {step_run}\n")).collect();
    let mut batch = logs::batch("agent", step_run, 1, text);
    batch.first_line = first;
    batch.meta.get_or_insert_default().pipeline_id = pipeline.to_owned();
    let ack = logs::push(rig.gateway.channel()?, "agent", [batch]).await?;
    assert_eq!((ack.taken, ack.dropped), (lines, 0));
    rig.settled(step_run, first + lines - 1).await
}

/// Waits until a statement answers with `expected`; says what it answered last.
pub(crate) async fn becomes(clickhouse: &ClickHouse, sql: &str, expected: u64) -> Outcome<()> {
    let mut last = None;
    let waited = eventually(ARRIVES, sql, async || {
        // A server that has just been killed does not answer.
        last = clickhouse.number(sql).await.ok();
        Ok((last == Some(expected)).then_some(()))
    });
    waited.await.map_err(|error| format!("{error}: {expected} was expected, {last:?} is there").into())
}

/// All that a table and its views say of the lines of a database.
pub(crate) async fn has_exactly(clickhouse: &ClickHouse, database: &str, lines: u64) -> Outcome<()> {
    becomes(clickhouse, &format!("SELECT count() FROM {database}.logs"), lines).await?;
    let sums = format!("SELECT (SELECT sum(lines) FROM {database}.log_hours), (SELECT sum(lines) FROM {database}.log_streams)");
    // A view gets its rows right after the table, not at the same instant.
    answers(clickhouse, &sums, &format!("{lines}\t{lines}")).await
}

/// Waits until a statement answers with `expected`; says what it answered last.
pub(crate) async fn answers(clickhouse: &ClickHouse, sql: &str, expected: &str) -> Outcome<()> {
    let mut last = None;
    let waited = eventually(ARRIVES, sql, async || {
        last = clickhouse.query(sql).await.ok();
        Ok((last.as_deref() == Some(expected)).then_some(()))
    });
    waited.await.map_err(|error| format!("{error}: {expected:?} was expected, {last:?} is there").into())
}

#[test]
fn clickhouse_has_exactly_what_was_acked_and_the_views_say_the_same() -> Outcome<()> {
    run(240, async {
        let clickhouse = ClickHouse::shared()?;
        let rig = rig(clickhouse.url(), "exact", &[]).await?;
        let lines = scaled(2_000, 100) as u64;
        for step in 0..10 {
            push(&rig, &format!("step-{step}"), &format!("pipeline-{}", step % 3), 1, lines).await?;
        }
        let kinds = ["arcentra.task.started", "arcentra.task.failed"];
        let all: Vec<_> = (1..=200u64)
            .map(|seq| {
                events::event("agent", format!("id-{seq}"), seq, kinds[seq as usize % 2], &json!({ "data": { "n": seq } }))
            })
            .collect();
        let ack = events::push(rig.gateway.channel()?, "agent", 0, all).await?;
        assert_eq!(ack.last_accepted_seq, 200);

        has_exactly(clickhouse, "exact", 10 * lines).await?;
        // The agent's own number of the batch that they came in.
        assert_eq!(clickhouse.query("SELECT min(seq), max(seq) FROM exact.logs").await?, "1\t1");
        let streams = "SELECT count() FROM (SELECT step_run_id FROM exact.log_streams GROUP BY step_run_id HAVING sum(lines) = max(next_line) - 1)";
        assert_eq!(clickhouse.number(streams).await?, 10);
        let of_pipeline = "SELECT sum(lines), sum(bytes) > 0 FROM exact.log_hours WHERE pipeline_id = 'pipeline-0'";
        assert_eq!(clickhouse.query(of_pipeline).await?, format!("{}\t1", 4 * lines));

        becomes(clickhouse, "SELECT count() FROM exact.events", 200).await?;
        answers(clickhouse, "SELECT sum(events), sum(errors) FROM exact.event_hours", "200\t100").await?;
        let distinct = "SELECT uniqExact(agent_id, event_id, digest), countIf(JSONExtractString(payload, 'specversion') = '1.0') FROM exact.events";
        assert_eq!(clickhouse.query(distinct).await?, "200\t200");
        Ok(())
    })
}

#[test]
fn an_engine_killed_with_9_loses_and_doubles_nothing() -> Outcome<()> {
    run(300, async {
        let mut clickhouse = ClickHouse::start()?;
        let rig = rig(clickhouse.url(), "killed", &[]).await?;
        let lines = scaled(3_000, 200) as u64;
        for round in 0..6 {
            push(&rig, "step", "pipeline", round * lines + 1, lines).await?;
            if round % 2 == 0 {
                clickhouse.kill()?;
                push(&rig, "while it is away", "pipeline", round / 2 * lines + 1, lines).await?;
                clickhouse.restart()?;
            }
        }
        has_exactly(&clickhouse, "killed", 9 * lines).await
    })
}

/// Before what a gateway is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The server has nothing of an insert yet.
    Send,
    /// The server has it, and its answer is on its way.
    Confirmation,
    /// The gateway has the answer, and has not been able to save its cursor.
    Cursor,
}

/// Kills the gateway in a phase of a delivery, then counts.
async fn killed(phase: Before, database: &str, window: Option<u32>) -> Outcome<(u64, u64)> {
    let clickhouse = ClickHouse::shared()?;
    let front = Front::before(clickhouse.url()).await?;
    let mut rig = rig(front.url(), database, &[]).await?;
    push(&rig, "before", "pipeline", 1, 100).await?;
    let before = cursor::has_noted(&rig, LINES, 100).await?;
    // What a merge would take away is to be seen.
    clickhouse.query(&format!("SYSTEM STOP MERGES {database}.logs")).await?;
    if let Some(window) = window {
        for table in ["logs", "log_hours", "log_streams"] {
            let sql = format!("ALTER TABLE {database}.{table} MODIFY SETTING non_replicated_deduplication_window = {window}");
            clickhouse.query(&sql).await?;
        }
    }
    let (way, there) = if phase == Before::Send { (Way::HoldRequests, 100) } else { (Way::HoldAnswers, 600) };
    front.set(way);
    push(&rig, "killed", "pipeline", 1, 500).await?;
    front.holds().await?;
    becomes(clickhouse, &format!("SELECT count() FROM {database}.logs"), there).await?;
    if phase == Before::Cursor {
        cursor::takes_no_more(&rig, LINES).await?;
        front.set(Way::Pass);
        rig.has_delivered(LINES, 600).await?;
    }
    rig.gateway.kill9()?;
    let noted = cursor::saved(&rig, LINES)?;
    assert!(noted.is_under_way_since(before), "where the batch ends, and not that it has arrived: {noted:?}");
    front.cut();
    front.set(Way::Pass);
    rig.gateway.restart().await?;
    push(&rig, "after", "pipeline", 1, 50).await?;
    // The cursor is behind all of it, what was sent again as well: nothing more comes.
    cursor::has_noted(&rig, LINES, 550).await?;
    becomes(clickhouse, &format!("SELECT uniqExact(step_run_id, line_number) FROM {database}.logs"), 650).await?;
    let lines = clickhouse.number(&format!("SELECT count() FROM {database}.logs")).await?;
    Ok((lines, clickhouse.number(&format!("SELECT sum(lines) FROM {database}.log_hours")).await?))
}

#[test]
fn a_gateway_killed_before_the_send_delivers_once() -> Outcome<()> {
    run(180, async {
        assert_eq!(killed(Before::Send, "before_send", None).await?, (650, 650));
        Ok(())
    })
}

#[test]
fn a_gateway_killed_after_the_send_and_before_the_confirmation_delivers_once() -> Outcome<()> {
    run(180, async {
        assert_eq!(killed(Before::Confirmation, "before_confirmation", None).await?, (650, 650));
        Ok(())
    })
}

/// The tests above would see a doubled insert: this one makes the server forget its tokens.
#[test]
fn with_no_deduplication_window_the_repeat_is_seen() -> Outcome<()> {
    run(180, async {
        let counted = killed(Before::Confirmation, "no_window", Some(0)).await?;
        assert_eq!(counted, (1150, 1150), "the 500 lines of the repeated insert must be there twice");
        Ok(())
    })
}

#[test]
fn a_gateway_killed_after_the_confirmation_and_before_the_cursor_is_saved_delivers_once() -> Outcome<()> {
    run(180, async {
        assert_eq!(killed(Before::Cursor, "before_cursor", None).await?, (650, 650));
        Ok(())
    })
}

#[test]
fn a_gateway_killed_once_its_cursor_is_saved_sends_nothing_again() -> Outcome<()> {
    run(180, async {
        let clickhouse = ClickHouse::shared()?;
        let mut rig = rig(clickhouse.url(), "after_cursor", &[]).await?;
        push(&rig, "before", "pipeline", 1, 100).await?;
        cursor::has_noted(&rig, LINES, 100).await?;
        rig.crash().await?;
        push(&rig, "after", "pipeline", 1, 50).await?;
        cursor::has_noted(&rig, LINES, 50).await?;
        assert_eq!(rig.of_sink("arcgate_sink_delivered_total", LINES).await?, 50.0);
        has_exactly(clickhouse, "after_cursor", 150).await
    })
}

#[test]
fn refusals_for_want_of_memory_disk_or_rights_delay_and_lose_nothing() -> Outcome<()> {
    run(300, async {
        let clickhouse = ClickHouse::shared()?;
        let front = Front::before(clickhouse.url()).await?;
        let rig = rig(front.url(), "refused", &[]).await?;
        push(&rig, "step-0", "pipeline", 1, 10).await?;
        becomes(clickhouse, "SELECT count() FROM refused.logs", 10).await?;
        let refusals = [
            (241, "MEMORY_LIMIT_EXCEEDED", "transient"),
            (243, "NOT_ENOUGH_SPACE", "transient"),
            (497, "ACCESS_DENIED", "not_ready"),
            (516, "AUTHENTICATION_FAILED", "not_ready"),
        ];
        for (round, (code, name, kind)) in refusals.into_iter().enumerate() {
            front.set(Way::Refuse(code, name));
            let kind = format!("kind=\"{kind}\"");
            let before = rig.gateway.metrics().await?.with("arcgate_sink_errors_total", &kind);
            push(&rig, &format!("step-{}", round + 1), "pipeline", 1, 10).await?;
            let errors = async || Outcome::Ok(rig.gateway.metrics().await?.with("arcgate_sink_errors_total", &kind));
            eventually(ARRIVES, &kind, async || Ok((errors().await? > before).then_some(()))).await?;
            front.set(Way::Pass);
            becomes(clickhouse, "SELECT count() FROM refused.logs", 10 * (round as u64 + 2)).await?;
            assert!(rig.gateway.stderr().contains(&format!("Code: {code}")), "{}", rig.gateway.stderr());
        }
        has_exactly(clickhouse, "refused", 50).await
    })
}

#[test]
fn an_engine_out_of_disk_gets_everything_once_there_is_room() -> Outcome<()> {
    run(300, async {
        let clickhouse = ClickHouse::start_with_disk("96m")?;
        let rig = rig(clickhouse.url(), "full", &[]).await?;
        push(&rig, "before", "pipeline", 1, 10).await?;
        becomes(&clickhouse, "SELECT count() FROM full.logs", 10).await?;
        // Fills the disk until an insert no longer fits.
        clickhouse.query("CREATE TABLE ballast (bytes String CODEC(NONE)) ENGINE = MergeTree ORDER BY tuple()").await?;
        clickhouse.query("SYSTEM STOP MERGES ballast").await?;
        for bytes in [1_000_000, 100_000, 4_000] {
            let more = format!("INSERT INTO ballast SELECT randomString({bytes})");
            let mut inserts = 0;
            while clickhouse.query(&more).await.is_ok() {
                inserts += 1;
                assert!(inserts < 500, "the disk never is full");
            }
        }
        let lines = scaled(20_000, 2_000) as u64;
        push(&rig, "while it is full", "pipeline", 1, lines).await?;
        let errors = async || Outcome::Ok(rig.gateway.metrics().await?.with("arcgate_sink_errors_total", "clickhouse-logs"));
        eventually(ARRIVES, "a refusal", async || Ok((errors().await? > 0.0).then_some(()))).await?;
        clickhouse.query("DROP TABLE ballast SYNC").await?;
        has_exactly(&clickhouse, "full", lines + 10).await
    })
}

#[test]
fn a_wrong_password_is_said_and_mended_without_a_restart() -> Outcome<()> {
    run(180, async {
        let clickhouse = ClickHouse::start_with_user("arc=secret")?;
        let folder = folder()?;
        let file = folder.path().join("password");
        std::fs::write(&file, "wrong\n")?;
        let password = file.display().to_string();
        let more = [("ARCGATE_CLICKHOUSE__USER", "arc"), ("ARCGATE_CLICKHOUSE__PASSWORD_FILE", password.as_str())];
        let rig = rig(clickhouse.url(), "guarded", &more).await?;
        push(&rig, "step", "pipeline", 1, 10).await?;
        let said = async || Ok(rig.gateway.stderr().contains("clickhouse.password_file").then_some(()));
        eventually(SOON, "a word about the password", said).await?;
        std::fs::write(&file, "secret\n")?;
        let headers = [("X-ClickHouse-User", "arc"), ("X-ClickHouse-Key", "secret")];
        let arrived = async || {
            let count = clickhouse.query_as(&headers, "SELECT count() FROM guarded.logs").await;
            Ok((count.ok().as_deref() == Some("10")).then_some(()))
        };
        eventually(ARRIVES, "ten lines", arrived).await
    })
}

#[test]
fn a_schema_of_an_older_version_is_brought_up_to_date_and_keeps_its_rows() -> Outcome<()> {
    run(180, async {
        let clickhouse = ClickHouse::shared()?;
        let script = schema(&["--from", "0"])?;
        // Version 1, as a gateway of that version left it.
        clickhouse.query("CREATE DATABASE older").await?;
        let of_one = script
            .split(";\n\n")
            .skip(2)
            .map(|one| one.replace("CREATE TABLE IF NOT EXISTS ", "CREATE TABLE IF NOT EXISTS older."));
        for statement in of_one {
            if statement.contains("INSERT INTO arcgate_schema") {
                clickhouse.query("INSERT INTO older.arcgate_schema (version, name) VALUES (1, 'logs')").await?;
                break;
            }
            clickhouse.query(&statement).await?;
        }
        clickhouse.query("INSERT INTO older.logs (step_run_id, line_number, received) VALUES ('old', 1, now64(3))").await?;

        let strict = rig(clickhouse.url(), "older", &[("ARCGATE_CLICKHOUSE__APPLY_SCHEMA", "false")]).await?;
        push(&strict, "new", "pipeline", 1, 10).await?;
        let said = async || Ok(strict.gateway.stderr().contains("arcgate clickhouse schema --from 1").then_some(()));
        eventually(SOON, "a word about the schema", said).await?;
        assert_eq!(clickhouse.number("SELECT count() FROM older.logs").await?, 1);

        let rig = rig(clickhouse.url(), "older", &[]).await?;
        push(&rig, "new", "pipeline", 1, 10).await?;
        becomes(clickhouse, "SELECT count() FROM older.logs", 11).await?;
        assert_eq!(
            clickhouse
                .query("SELECT groupArray(version) FROM (SELECT DISTINCT version FROM older.arcgate_schema ORDER BY version)")
                .await?,
            "[1,2,3]"
        );
        Ok(())
    })
}

#[test]
fn the_printed_schema_is_what_the_gateway_needs() -> Outcome<()> {
    run(120, async {
        let clickhouse = ClickHouse::shared()?;
        let script = schema(&["--set", "clickhouse.database=printed"])?;
        for statement in script.split(";\n\n").filter(|one| !one.trim().is_empty() && !one.starts_with("USE ")) {
            let address = clickhouse.url().strip_prefix("http://").ok_or("no address")?;
            let database = if statement.contains("CREATE DATABASE") { "default" } else { "printed" };
            let answer =
                crate::harness::http::post(address, &format!("/?database={database}&wait_end_of_query=1"), &[], statement)
                    .await?;
            assert_eq!(answer.status, 200, "{statement}: {}", answer.body);
        }
        let rig = rig(clickhouse.url(), "printed", &[("ARCGATE_CLICKHOUSE__APPLY_SCHEMA", "false")]).await?;
        push(&rig, "step", "pipeline", 1, 10).await?;
        has_exactly(clickhouse, "printed", 10).await
    })
}

/// What `arcgate clickhouse schema` prints.
fn schema(arguments: &[&str]) -> Outcome<String> {
    let folder = folder()?;
    let mut command = Launch::new(binary(), folder.path().join("data")).command();
    command.args(["clickhouse", "schema"]).args(arguments);
    text(&command.output()?, 0)
}
