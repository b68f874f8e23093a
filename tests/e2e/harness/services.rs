//! Kafka and ClickHouse: real ones, each on a folder and a port of its own, that end with this process, however it ends.
//!
//! `tests/services/hold.sh` runs a service as long as the pipe to it is open. A test that kills or stops a service has one of its
//! own; the others share one, and take topics and databases of their own names.

#![allow(dead_code, reason = "each service has the same verbs, whether or not a test needs every one of them")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use tokio::task::block_in_place;

use super::authority::Authority;
use super::{Outcome, http};

/// A service as such: started, killed, stopped, started again on its folder and port.
#[derive(Debug)]
struct Service {
    name: &'static str,
    folder: PathBuf,
    holder: Child,
    /// Closed to end it.
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What it said at its start: `pid=… name=value …`.
    line: String,
}

impl Service {
    /// Starts it with these variables for its `up.sh`.
    fn start(name: &'static str, variables: &[(&str, &str)]) -> Outcome<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target"));
        // The holder removes it, also if this process has no chance to.
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(env!("CARGO_TARGET_TMPDIR"))?.keep();
        let mut holder = Command::new("tests/services/hold.sh")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([name.as_ref(), folder.as_os_str()])
            .env("CARGO_TARGET_DIR", target)
            .envs(variables.iter().copied())
            // Not among those that a signal to the tests' process group ends: it has to clean up after them.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let words = holder.stdin.take();
        let answers = BufReader::new(holder.stdout.take().ok_or("no pipe from the holder")?);
        let mut service = Self { name, folder, holder, words, answers, line: String::new() };
        service.restart(&[])?;
        Ok(service)
    }

    /// Tells the holder a word and waits for what it answers. Blocks for seconds.
    fn ask(&mut self, word: &str) -> Outcome<String> {
        let mut answer = String::new();
        writeln!(self.words.as_mut().ok_or("the service has ended")?, "{word}")?;
        self.answers.read_line(&mut answer)?;
        match answer.strip_prefix("ok ") {
            Some(answer) => Ok(answer.trim_end().to_owned()),
            None => Err(format!("{}: {word} failed; what it said stands above", self.name).into()),
        }
    }

    /// Starts it, with these variables for its `up.sh` beside those of [`Service::start`].
    fn restart(&mut self, variables: &[(&str, &str)]) -> Outcome<()> {
        let words = variables.iter().fold(String::from("start"), |words, (name, value)| format!("{words} {name}={value}"));
        self.line = self.ask(&words)?;
        Ok(())
    }

    /// A value of what it said at its start.
    fn value(&self, name: &str) -> &str {
        self.line.split(' ').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.words = None;
        let _ = self.holder.wait();
    }
}

/// A Kafka broker of one node. It creates no topics by itself.
#[derive(Debug)]
pub(crate) struct Kafka(Service);

impl Kafka {
    /// One of its own, that takes anyone.
    pub(crate) fn start() -> Outcome<Self> {
        block_in_place(|| Service::start("kafka", &[])).map(Self)
    }

    /// One that asks for a name and a password (`name=password …`, SASL/PLAIN or SCRAM); all but the first may only do what
    /// [`Kafka::allow`] says.
    pub(crate) fn start_with_users(users: &str) -> Outcome<Self> {
        block_in_place(|| Service::start("kafka", &[("KAFKA_USERS", users)])).map(Self)
    }

    /// One that takes only who comes over TLS, shows a certificate of that authority, and logs in (`name=password …`, with SASL/PLAIN
    /// or SCRAM) if users are given.
    pub(crate) fn start_with_tls(authority: &Authority, users: &str) -> Outcome<Self> {
        let own = authority.sign("broker")?.to_string_lossy().into_owned();
        let clients = authority.certificate().to_string_lossy().into_owned();
        let variables = [("KAFKA_TLS", own.as_str()), ("KAFKA_CLIENTS_CA", clients.as_str()), ("KAFKA_USERS", users)];
        block_in_place(|| Service::start("kafka", &variables)).map(Self)
    }

    /// One that tells its clients to come to `front`.
    pub(crate) fn start_behind(front: &str) -> Outcome<Self> {
        block_in_place(|| Service::start("kafka", &[("KAFKA_ADVERTISED", front)])).map(Self)
    }

    /// One whose data lie on a disk of this size (`64m`), which is gone when it goes.
    pub(crate) fn start_with_disk(size: &str) -> Outcome<Self> {
        block_in_place(|| Service::start("kafka", &[("SERVICE_DISK", size)])).map(Self)
    }

    /// The one that tests share that do it no harm.
    pub(crate) fn shared() -> Outcome<&'static Self> {
        static SHARED: OnceLock<Result<Kafka, String>> = OnceLock::new();
        let shared = block_in_place(|| SHARED.get_or_init(|| Self::start().map_err(|error| error.to_string())));
        shared.as_ref().map_err(|error| error.as_str().into())
    }

    /// Where clients connect to: `address:port`.
    pub(crate) fn bootstrap(&self) -> &str {
        self.0.value("bootstrap")
    }

    /// Where it takes anyone, in clear text, and lets them do anything: `address:port`.
    pub(crate) fn internal(&self) -> &str {
        self.0.value("internal")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        block_in_place(|| self.0.ask("kill")).map(drop)
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) -> Outcome<()> {
        block_in_place(|| self.0.ask("stop")).map(drop)
    }

    /// Starts it again, on the same folder and port, once it has been killed or stopped.
    pub(crate) fn restart(&mut self) -> Outcome<()> {
        block_in_place(|| self.0.restart(&[]))
    }

    /// Its disk has this size (`128m`) from now on.
    pub(crate) fn make_room(&mut self, size: &str) -> Outcome<()> {
        block_in_place(|| self.0.ask(&format!("room {size}"))).map(drop)
    }

    /// Lets a user do something (`Write`, `Describe`, `Create`) with topics.
    pub(crate) fn allow(&self, user: &str, operation: &str, topics: &[&str]) -> Outcome<()> {
        let (_, port) = self.internal().rsplit_once(':').ok_or("no port")?;
        let mut command = Command::new("tests/services/kafka/ask.py");
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args([port, "allow", user, operation]).args(topics);
        let status = block_in_place(|| command.status())?;
        if status.success() { Ok(()) } else { Err(format!("the rights could not be given: {status}").into()) }
    }
}

/// A ClickHouse engine behind its HTTP interface.
#[derive(Debug)]
pub(crate) struct ClickHouse(Service);

impl ClickHouse {
    /// One of its own, that takes anyone.
    pub(crate) fn start() -> Outcome<Self> {
        block_in_place(|| Service::start("clickhouse", &[])).map(Self)
    }

    /// One that asks for `name=password`.
    pub(crate) fn start_with_user(user: &str) -> Outcome<Self> {
        block_in_place(|| Service::start("clickhouse", &[("CLICKHOUSE_USER", user)])).map(Self)
    }

    /// One that takes anyone, also over TLS, where that authority vouches for it.
    pub(crate) fn start_with_tls(authority: &Authority) -> Outcome<Self> {
        let own = authority.sign("clickhouse")?.to_string_lossy().into_owned();
        block_in_place(|| Service::start("clickhouse", &[("CLICKHOUSE_TLS", &own)])).map(Self)
    }

    /// One of its own that tells all of an error, as a server does: it keeps a log of queries.
    pub(crate) fn start_with_log() -> Outcome<Self> {
        let config = [("CLICKHOUSE_CONFIG", "tests/services/clickhouse/config.xml")];
        block_in_place(|| Service::start("clickhouse", &config)).map(Self)
    }

    /// One whose data lie on a disk of this size (`64m`), which is gone when it goes.
    pub(crate) fn start_with_disk(size: &str) -> Outcome<Self> {
        block_in_place(|| Service::start("clickhouse", &[("SERVICE_DISK", size)])).map(Self)
    }

    /// The one that tests share that do it no harm.
    pub(crate) fn shared() -> Outcome<&'static Self> {
        static SHARED: OnceLock<Result<ClickHouse, String>> = OnceLock::new();
        let shared = block_in_place(|| SHARED.get_or_init(|| Self::start().map_err(|error| error.to_string())));
        shared.as_ref().map_err(|error| error.as_str().into())
    }

    /// Where clients connect to: `http://address:port`.
    pub(crate) fn url(&self) -> &str {
        self.0.value("url")
    }

    /// Where clients connect to over TLS: `https://address:port`.
    pub(crate) fn tls_url(&self) -> &str {
        self.0.value("tls")
    }

    /// Its data folder, for what only the file system can do to it.
    pub(crate) fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        block_in_place(|| self.0.ask("kill")).map(drop)
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) -> Outcome<()> {
        block_in_place(|| self.0.ask("stop")).map(drop)
    }

    /// Starts it again, on the same folder and port, once it has been killed or stopped.
    pub(crate) fn restart(&mut self) -> Outcome<()> {
        block_in_place(|| self.0.restart(&[]))
    }

    /// As [`ClickHouse::restart`]; from now on it asks for `name=password`.
    pub(crate) fn restart_with_user(&mut self, user: &str) -> Outcome<()> {
        block_in_place(|| self.0.restart(&[("CLICKHOUSE_USER", user)]))
    }

    /// Runs a statement and gives its answer as tab-separated text, without the last newline.
    pub(crate) async fn query(&self, sql: &str) -> Outcome<String> {
        self.query_as(&[], sql).await
    }

    /// As [`ClickHouse::query`], with headers of one's own (`X-ClickHouse-User`, `X-ClickHouse-Key`).
    pub(crate) async fn query_as(&self, headers: &[(&str, &str)], sql: &str) -> Outcome<String> {
        let address = self.url().strip_prefix("http://").ok_or("no address")?;
        // Waiting for the end makes the answer come in one piece, which is all that the client can read.
        let answer = http::post(address, "/?wait_end_of_query=1&enable_http_compression=0", headers, sql).await?;
        if answer.status == 200 { Ok(answer.body.trim_end().to_owned()) } else { Err(format!("{sql}: {}", answer.body).into()) }
    }

    /// The number that a statement answers with.
    pub(crate) async fn number(&self, sql: &str) -> Outcome<u64> {
        Ok(self.query(sql).await?.parse()?)
    }
}
