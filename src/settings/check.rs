//! What must fit together, and fit the machine, before a gateway starts. `arcgate validate` and `arcgate serve` ask the same.

use std::path::Path;

use arcgate_gateway::access::Tokens;

use super::{Ack, Loaded, Place, Problem, SettingsError, control, kafka, value};

/// The least `limits.memory` with sinks, in bytes: what their libraries hold beside what is counted does not shrink with the limit.
const LEAST_WITH_SINKS: u64 = 128 << 20;

/// Checks the files and folders that the settings name, that bounds fit together, and that only loopback listeners go without
/// tokens.
///
/// # Errors
/// Everything that would keep a gateway from starting, or would make it unsafe, together.
pub fn check(loaded: &Loaded) -> Result<(), SettingsError> {
    let settings = &loaded.settings;
    let mut problems = Vec::new();
    let mut complain = |key: &str, what: String| {
        let place = loaded.given.get(key).map_or(Place::Default, |given| given.place.clone());
        problems.push(Problem::new(place, what));
    };

    let open = !settings.auth_required() && !settings.auth.allow_unauthenticated_on_public_addresses;
    for (key, listen) in [("grpc.listen", settings.grpc.listen), ("http.listen", settings.http.listen)] {
        if open && !listen.0.ip().is_loopback() {
            complain(
                key,
                format!(
                    "{key} = \"{}\" can be reached by others, and nothing asks them for a token; set auth.token_file or auth.required = true, or listen on \
                 127.0.0.1, or, if you know what you do, set auth.allow_unauthenticated_on_public_addresses = true",
                    listen.0
                ),
            );
        }
    }
    if let Some(path) = &settings.auth.token_file
        && let Err(what) = Tokens::read(path)
    {
        complain("auth.token_file", what.to_string());
    }
    for (key, bytes) in [
        ("grpc.max_message", settings.grpc.max_message),
        ("logs.max_batch", settings.logs.max_batch),
        ("events.max_event", settings.events.max_event),
    ] {
        if bytes > settings.limits.memory {
            let (bytes, memory) = (value::show_bytes(&bytes), value::show_bytes(&settings.limits.memory));
            complain(key, format!("{key} = \"{bytes}\" is more than limits.memory = \"{memory}\"; raise that, or lower this"));
        }
    }
    let with_sinks = !settings.kafka.brokers.is_empty() || !settings.clickhouse.url.is_empty();
    if with_sinks && settings.limits.memory < LEAST_WITH_SINKS {
        let (memory, least) = (value::show_bytes(&settings.limits.memory), value::show_bytes(&LEAST_WITH_SINKS));
        let what =
            format!("limits.memory = \"{memory}\" is too little for delivery to Kafka or ClickHouse; set at least \"{least}\"");
        complain("limits.memory", what);
    }
    if settings.events.max_event > settings.grpc.max_message {
        complain("events.max_event", "events.max_event is more than grpc.max_message; no such event could arrive".into());
    }
    for (key, what) in control::problems(settings) {
        complain(key, what);
    }
    for (key, what) in kafka::problems(&settings.kafka) {
        complain(key, what);
    }
    let clickhouse = &settings.clickhouse;
    if let Some(path) = &clickhouse.tls_ca_file {
        let key = "clickhouse.tls_ca_file";
        if !clickhouse.url.starts_with("https:") {
            complain(key, format!("{key} is set, but clickhouse.url does not begin with https://; let it, or leave {key} out"));
        } else if let Err(error) = std::fs::File::open(path) {
            complain(key, format!("{key} = \"{}\" cannot be read: {error}", path.display()));
        }
    }
    if settings.events.ack == Ack::Kafka && (settings.kafka.brokers.is_empty() || !settings.kafka.events) {
        complain(
            "events.ack",
            "events.ack = \"kafka\", but no events go to Kafka; set kafka.brokers and kafka.events = true".into(),
        );
    }
    if let Err(what) = writable(&settings.store.path) {
        complain("store.path", format!("store.path = \"{}\" {what}", settings.store.path.display()));
    }
    let level = &settings.log.level;
    let filter = |()| tracing_subscriber::EnvFilter::try_new(level).map_err(|error| format!("is no list of levels: {error}"));
    if let Err(what) = value::log_level(level).and_then(filter) {
        complain("log.level", format!("log.level = \"{level}\" {what}"));
    }
    let (grpc, http) = (settings.grpc.listen.0, settings.http.listen.0);
    let overlap = grpc.ip() == http.ip() || grpc.ip().is_unspecified() || http.ip().is_unspecified();
    if overlap && grpc.port() == http.port() && grpc.port() != 0 {
        complain("http.listen", format!("http.listen = \"{http}\" and grpc.listen = \"{grpc}\" are one port; give each its own"));
    }
    if problems.is_empty() { Ok(()) } else { Err(SettingsError(problems)) }
}

/// Whether `path`, or the nearest folder above it that exists, can be written.
fn writable(path: &Path) -> Result<(), String> {
    let absolute = std::path::absolute(path).map_err(|error| format!("is no path: {error}"))?;
    let Some(nearest) = absolute.ancestors().find(|folder| folder.exists()) else {
        return Err("has no folder above it that exists".into());
    };
    if !nearest.is_dir() {
        return Err(format!("cannot be used: {} is not a folder", nearest.display()));
    }
    rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK)
        .map_err(|error| format!("cannot be written: {}: {error}", nearest.display()))
}
