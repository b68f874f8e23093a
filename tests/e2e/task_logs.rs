//! Existing agents deliver their logs as `arcentra.task.log` events: each becomes lines, once, across crashes.

use std::time::Duration;

use serde_json::json;

use crate::harness::stock_agent::StockAgent;
use crate::harness::{Outcome, Reader, Rig, SOON, Seen, events, run, within};

#[test]
fn a_task_log_event_becomes_lines_of_its_step_run() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let mut reader = Reader::follow(rig.http(), "p-build-stock").await?;
        let mut agent = StockAgent::new("stock");
        agent.append("arcentra.task.started", &json!({ "status": "running" }));
        agent.append("arcentra.task.log", &json!({ "stream": "stdout", "content": "one\ntwo\r\nthree" }));
        agent.append("arcentra.task.log", &json!({ "stream": "stderr", "content": "four\n" }));
        within(SOON, "the agent", agent.run(&rig.gateway.channel()?)).await?;
        let mut seen = Seen::from(1);
        reader.read_to(4, &mut seen, SOON).await?;
        let lines: Vec<_> = seen
            .entries
            .iter()
            .map(|entry| (entry.stream.as_str(), entry.content.as_str(), entry.plugin_name.as_str()))
            .collect();
        let expected =
            [("stdout", "one", "shell"), ("stdout", "two", "shell"), ("stdout", "three", "shell"), ("stderr", "four", "shell")];
        assert_eq!(lines, expected);
        Ok(())
    })
}

#[test]
fn meta_step_id_names_the_step_run_where_it_is_set() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let payload = json!({ "type": "arcentra.task.log", "data": { "stream": "stdout", "content": "named\n" } });
        let mut event = events::event("a", "u-1", 1, "outbox", &payload);
        event.meta.get_or_insert_default().step_id = "named-run".into();
        events::push(rig.gateway.channel()?, "a", 0, vec![event]).await?;
        let mut reader = Reader::follow(rig.http(), "named-run").await?;
        let mut seen = Seen::from(1);
        reader.read_to(1, &mut seen, SOON).await?;
        assert_eq!(seen.contents(), ["named"]);
        Ok(())
    })
}

#[test]
fn a_crash_neither_loses_nor_doubles_lines_of_events() -> Outcome<()> {
    run(180, async {
        let mut rig = Rig::start().await?;
        let mut agent = StockAgent::new("stock");
        let mut expected = Vec::new();
        for round in 0..8_u64 {
            for event in 0..150_u64 {
                let number = round * 150 + event;
                agent.append(
                    "arcentra.task.log",
                    &json!({ "stream": "stdout", "content": format!("event {number} a\nevent {number} b\n") }),
                );
                expected.extend([format!("event {number} a"), format!("event {number} b")]);
            }
            let channel = rig.gateway.channel()?;
            within(SOON, "the agent", agent.run(&channel)).await?;
            // At different distances from the ack: before, while and after the lines are made.
            tokio::time::sleep(Duration::from_millis(round * 40)).await;
            rig.crash().await?;
        }
        let seen = rig.history("p-build-stock", expected.len() as u64).await?;
        assert_eq!(seen.contents(), expected);
        let mut reader = Reader::follow_with(rig.http(), "p-build-stock", json!({ "fromLine": expected.len() + 1 })).await?;
        assert_eq!([reader.soon().await?.kind, reader.soon().await?.kind], ["subscribed", "history_done"]);
        crate::harness::silence(&mut reader, Duration::from_millis(500)).await
    })
}
