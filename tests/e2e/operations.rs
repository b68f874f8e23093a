//! What an operator sees: metrics, health, a clean stop, one process a folder, a folder of another format.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use arcgate_load::process::Addresses;
use serde_json::json;

use crate::harness::{Outcome, Reader, Rig, Seen, events, http, logs, output, run, seconds, within};

/// Metrics that dashboards and alerts stand on, each with what it grows by in the test below.
const GROWING: &[&str] = &[
    "arcgate_lines_total",
    "arcgate_events_total",
    "arcgate_log_bytes_total",
    "arcgate_ack_seconds_count",
    "arcgate_sync_seconds_count",
];

#[test]
fn metrics_name_what_happened_and_no_step_run_or_agent() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let before = rig.gateway.metrics().await?;
        let mut reader = Reader::follow(rig.http(), "measured-run").await?;
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "measured-agent").await?;
        session.ask(logs::batch("measured-agent", "measured-run", 1, "one\ntwo\n")).await?;
        session.ask(logs::batch("measured-agent", "measured-run", 1, "one\ntwo\n")).await?;
        let event = || vec![events::event("measured-agent", "measured-event", 1, "t", &json!({}))];
        events::push(rig.gateway.channel()?, "measured-agent", 0, event()).await?;
        events::push(rig.gateway.channel()?, "measured-agent", 0, event()).await?;
        let mut seen = Seen::from(1);
        reader.read_to(2, &mut seen, Duration::from_secs(10)).await?;

        let after = rig.gateway.metrics().await?;
        for name in GROWING {
            assert!(after.sum(name) > before.sum(name), "{name} did not grow");
        }
        assert!((after.with("arcgate_lines_total", "taken") - 2.0).abs() < 0.5);
        assert!((after.with("arcgate_lines_total", "repeated") - 2.0).abs() < 0.5);
        assert!((after.with("arcgate_events_total", "taken") - 1.0).abs() < 0.5);
        assert!((after.with("arcgate_events_total", "repeated") - 1.0).abs() < 0.5);
        assert!((after.sum("arcgate_replay_readers") - 1.0).abs() < 0.5);
        for name in ["arcgate_store_bytes", "arcgate_dedup_window_seconds", "arcgate_push_to_reader_seconds_count"] {
            assert!(after.names().any(|known| known == name), "{name} is missing");
        }
        let text = http::get(rig.http(), "/metrics").await?;
        assert!(text.head.to_lowercase().contains("text/plain"), "{}", text.head);
        assert!(!text.body.contains("measured-"), "a step run, an agent or an event is a label");
        for name in after.names() {
            assert!(name.starts_with("arcgate_"), "{name}");
        }
        Ok(())
    })
}

#[test]
fn health_is_told_over_http_and_grpc_and_the_contract_by_reflection() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        assert_eq!(http::get(rig.http(), "/livez").await?.status, 200);
        assert_eq!(http::get(rig.http(), "/readyz").await?.status, 200);
        let mut health = tonic_health::pb::health_client::HealthClient::new(rig.gateway.channel()?);
        for service in ["", "gateway.v1.GatewayService"] {
            let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
            let answer = health.check(request).await?.into_inner();
            assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving, "{service:?}");
        }
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let mut reflection =
            tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(rig.gateway.channel()?);
        let request = tonic_reflection::pb::v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let answer = reflection.server_reflection_info(tokio_stream::iter([request])).await?.into_inner().message().await?;
        let Some(MessageResponse::ListServicesResponse(list)) = answer.and_then(|answer| answer.message_response) else {
            return Err("no list of services".into());
        };
        assert!(list.service.iter().any(|service| service.name == "gateway.v1.GatewayService"), "{list:?}");
        Ok(())
    })
}

#[test]
fn sigterm_finishes_what_was_begun_and_leaves_nothing_behind() -> Outcome<()> {
    run(120, async {
        let mut rig = Rig::start().await?;
        let mut reader = Reader::follow(rig.http(), "stopped").await?;
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        let text: String = (1..=500).map(|line| format!("line {line}\n")).collect();
        assert_eq!(session.ask(logs::batch("a", "stopped", 1, text)).await?.taken, 500);
        let begin = Instant::now();
        rig.gateway.signal("TERM")?;
        // The reader gets all its lines, and is told to come back.
        let mut seen = Seen::from(1);
        let closed = within(Duration::from_secs(20), "the reader's end", async {
            loop {
                match reader.next().await {
                    Ok(message) => message.entries()?.into_iter().try_for_each(|entry| seen.take(entry))?,
                    Err(error) => return Ok(error.to_string()),
                }
            }
        })
        .await?;
        assert!(closed.contains("1012"), "{closed}");
        let status = rig.gateway.wait().await?;
        assert!(status.success(), "{status}");
        assert!(seconds(begin) < 15.0, "{} s", seconds(begin));
        assert!(Addresses::read(rig.data()).is_none(), "addresses.json is still there");
        rig.gateway.restart().await?;
        assert_eq!(rig.history("stopped", 500).await?.lines, 500);
        Ok(())
    })
}

#[test]
fn a_second_signal_stops_at_once() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start_with(&[("ARCGATE_SHUTDOWN__GRACE", "1h")]).await?;
        // A session that does not end by itself keeps the first stop waiting, if anything does.
        let _session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        let begin = Instant::now();
        rig.gateway.signal("TERM")?;
        // Sooner, it would be an echo of the first.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if rig.gateway.exit()?.is_none() {
            rig.gateway.signal("TERM")?;
        }
        rig.gateway.wait().await?;
        assert!(seconds(begin) < 5.0, "{} s", seconds(begin));
        Ok(())
    })
}

#[test]
fn a_signal_told_twice_at_once_is_one_wish_to_stop() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        session.ask(logs::batch("a", "s", 1, "one\n")).await?;
        // As `timeout` does: to the process, then to its group.
        let pid = rig.gateway.pid();
        Command::new("sh").args(["-c", &format!("kill -TERM {pid}; kill -TERM {pid}")]).status()?;
        let status = rig.gateway.wait().await?;
        assert!(status.success(), "{status}");
        assert!(Addresses::read(rig.data()).is_none(), "addresses.json is still there");
        Ok(())
    })
}

#[test]
fn a_second_process_on_the_same_folder_gets_a_clear_error() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let mut second = rig.gateway.launch().command();
        second.arg("serve");
        let refused = output(second, Duration::from_secs(20)).await?;
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success());
        assert!(words.contains(&rig.data().display().to_string()) && words.contains(&rig.gateway.pid().to_string()), "{words}");
        // The first is not disturbed.
        assert_eq!(logs::push(rig.gateway.channel()?, "a", [logs::batch("a", "s", 1, "x\n")]).await?.taken, 1);
        Ok(())
    })
}

#[test]
fn a_folder_of_an_unknown_format_is_refused() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        logs::push(rig.gateway.channel()?, "a", [logs::batch("a", "s", 1, "x\n")]).await?;
        rig.gateway.stop().await?;
        // As store/segment/format.rs says: the format stands behind the magic, a checksum at the header's end.
        let mut changed = 0;
        for folder in fs::read_dir(rig.data())?.filter_map(Result::ok).filter(|entry| entry.path().is_dir()) {
            for file in fs::read_dir(folder.path())?.filter_map(Result::ok) {
                if file.path().extension().is_some_and(|extension| extension == "seg") {
                    let mut bytes = fs::read(file.path())?;
                    assert_eq!(&bytes[..8], b"ARCGATE\0");
                    bytes[8] = 99;
                    let checksum = crc32c::crc32c(&bytes[..60]).to_le_bytes();
                    bytes[60..64].copy_from_slice(&checksum);
                    fs::write(file.path(), bytes)?;
                    changed += 1;
                }
            }
        }
        assert!(changed > 0);
        let mut command = rig.gateway.launch().command();
        command.arg("serve");
        let refused = output(command, Duration::from_secs(20)).await?;
        assert!(!refused.status.success());
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(words.contains("99"), "the message does not name the format: {words}");
        Ok(())
    })
}
