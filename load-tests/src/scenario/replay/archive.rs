//! What is read: lines that the engine makes itself, in the gateway's tables, as the gateway would have written them.

use std::time::Duration;

use arcgate_load::{Outcome, eventually};
use clickhouse::Client;

use crate::scenario::stored_in_clickhouse;

/// Lines of a step run.
pub(super) const LINES: u64 = 20_000;
/// Step runs that go on at the same time: their lines lie in the same inserts, in turns of 1,000.
const AT_A_TIME: u64 = 64;
/// The days on which the lines came: a partition each.
const DAYS: u64 = 5;
/// The gateway makes its tables within this time, and the engine's merges come to rest.
const REST: Duration = Duration::from_secs(120);

/// The tables of a gateway, filled.
pub(super) struct Archive {
    /// To its database.
    pub(super) client: Client,
    /// All lines.
    pub(super) lines: u64,
    groups: u64,
}

impl Archive {
    /// Has the engine make at least `lines` lines, and one step run of `long` lines, once the gateway has made the tables.
    pub(super) async fn make(client: Client, lines: u64, long: u64) -> Outcome<Self> {
        let groups = lines.saturating_sub(long).div_ceil(LINES * AT_A_TIME * DAYS) * DAYS;
        let archive = Self { client, lines: groups * LINES * AT_A_TIME + long, groups };
        let version = "SELECT toUInt64(max(version)) FROM arcgate_schema";
        let ready = async || Ok(archive.number(version).await.ok().filter(|version| *version >= 3));
        eventually(REST, "the gateway's tables", ready).await?;
        if archive.number("SELECT count() FROM logs").await? >= archive.lines {
            return Ok(archive);
        }
        let of_a_day = groups / DAYS * LINES * AT_A_TIME;
        for day in 0..DAYS {
            eprintln!("  {} of {} lines are there", day * of_a_day, archive.lines);
            let run = format!("intDiv(n, {}) * {AT_A_TIME} + batch % {AT_A_TIME}", LINES * AT_A_TIME);
            let line = format!("intDiv(batch, {AT_A_TIME}) % {} * 1000 + n % 1000 + 1", LINES / 1000);
            archive.insert(day * of_a_day, of_a_day, day, &run, &line).await?;
        }
        archive.insert(0, long, 0, &archive.step_runs().to_string(), "n + 1").await?;
        let merges = "SELECT count() FROM system.merges WHERE database = currentDatabase()";
        let at_rest = async || Ok((archive.number(merges).await? == 0).then_some(()));
        eventually(REST, "the end of the engine's merges", at_rest).await?;
        Ok(archive)
    }

    async fn insert(&self, first: u64, count: u64, days_ago: u64, run: &str, line: &str) -> Outcome<()> {
        let sql = include_str!("lines.sql")
            .replace("{first}", &first.to_string())
            .replace("{count}", &count.to_string())
            .replace("{days_ago}", &days_ago.to_string())
            .replace("{run}", run)
            .replace("{line}", line);
        Ok(self.client.query(&sql).execute().await?)
    }

    /// The ids of that many step runs, from all over the time.
    pub(super) async fn some(&self, count: u64) -> Outcome<Vec<String>> {
        let sql = "SELECT lower(hex(MD5(toString(intDiv(number * ?, ?))))) FROM numbers(?)";
        Ok(self.client.query(sql).bind(self.step_runs()).bind(count).bind(count).fetch_all().await?)
    }

    /// How many step runs there are beside the long one, numbered from 0: it has the next number.
    fn step_runs(&self) -> u64 {
        self.groups * AT_A_TIME
    }

    /// The id of the long step run.
    pub(super) async fn long(&self) -> Outcome<String> {
        Ok(self.client.query("SELECT lower(hex(MD5(toString(?))))").bind(self.step_runs()).fetch_one().await?)
    }

    /// What a line takes on disk.
    pub(super) async fn bytes_per_line(&self) -> Outcome<f64> {
        stored_in_clickhouse(&self.client, "logs").await
    }

    async fn number(&self, sql: &str) -> Outcome<u64> {
        Ok(self.client.query(sql).fetch_one().await?)
    }
}
