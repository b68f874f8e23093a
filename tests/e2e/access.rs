//! Who may do what: the loopback rule, bearer tokens, and the calls that existing agents make without one.

use std::fs;

use arcgate_api::gateway::v1::gateway_service_client::GatewayServiceClient;
use serde_json::json;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use crate::harness::{Launch, Outcome, Reader, Rig, binary, events, folder, logs, output, run};

/// Starts a gateway that wants one of the tokens `good` and `other`.
async fn with_tokens(stock_agents: &str) -> Outcome<Rig> {
    let folder = folder()?;
    let tokens = folder.path().join("tokens");
    fs::write(&tokens, "# for the tests\ngood\n\nother\n")?;
    let launch = Launch::new(binary(), folder.path().join("data"))
        .with("ARCGATE_AUTH__TOKEN_FILE", &tokens.display().to_string())
        .with("ARCGATE_AUTH__STOCK_AGENTS", stock_agents);
    Rig::launch(launch, folder).await
}

fn with_token<T>(message: T, token: Option<&str>) -> Outcome<Request<T>> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(token)?);
    }
    Ok(request)
}

async fn push_logs(rig: &Rig, token: Option<&str>) -> Outcome<Result<(), Status>> {
    let messages = tokio_stream::iter([logs::message(logs::batch("a", "s", 1, "x\n"))]);
    let mut client = GatewayServiceClient::new(rig.gateway.channel()?);
    Ok(client.push_logs(with_token(messages, token)?).await.map(drop))
}

async fn push_events(rig: &Rig, token: Option<&str>) -> Outcome<Result<(), Status>> {
    let event = events::event("a", "evt-1", 1, "outbox", &json!({}));
    let messages = tokio_stream::iter([events::handshake("a", 0), events::message(vec![event])]);
    let mut client = GatewayServiceClient::new(rig.gateway.channel()?);
    Ok(client.push_events(with_token(messages, token)?).await.map(drop))
}

#[test]
fn calls_and_readers_need_a_token_and_existing_agents_only_where_they_never_send_one() -> Outcome<()> {
    run(60, async {
        for (stock_agents, exempt) in [("true", true), ("false", false)] {
            let rig = with_tokens(stock_agents).await?;
            for token in ["Bearer good", "bearer other"] {
                push_logs(&rig, Some(token)).await?.map_err(|status| format!("{token}: {status}"))?;
                push_events(&rig, Some(token)).await?.map_err(|status| format!("{token}: {status}"))?;
            }
            for token in [None, Some("Bearer bad"), Some("Bearer "), Some("Basic good"), Some("good")] {
                let refused = push_logs(&rig, token).await?.err().map(|status| status.code());
                assert_eq!(refused, Some(Code::Unauthenticated), "{token:?}");
            }
            let refused = push_events(&rig, None).await?.err().map(|status| status.code());
            assert_eq!(refused, if exempt { None } else { Some(Code::Unauthenticated) }, "stock_agents = {stock_agents}");

            assert!(Reader::connect(rig.http(), None).await.is_err());
            assert!(Reader::connect(rig.http(), Some("bad")).await.is_err());
            assert!(Reader::connect(rig.http(), Some("good")).await.is_ok());
            // A token is told to nobody.
            assert!(!rig.gateway.stderr().contains("good"), "{}", rig.gateway.stderr());
        }
        Ok(())
    })
}

#[test]
fn only_loopback_goes_without_a_token_file() -> Outcome<()> {
    run(60, async {
        for listener in ["ARCGATE_GRPC__LISTEN", "ARCGATE_HTTP__LISTEN"] {
            let folder = folder()?;
            let launch = Launch::new(binary(), folder.path().join("data")).with(listener, "0.0.0.0:0");
            let mut command = launch.command();
            command.arg("serve");
            let refused = output(command, std::time::Duration::from_secs(20)).await?;
            assert!(!refused.status.success());
            let words = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(words.contains("auth.token_file"), "the message does not say what to do: {words}");
        }
        // The setting whose name says the danger.
        let folder = folder()?;
        let launch = Launch::new(binary(), folder.path().join("data"))
            .with("ARCGATE_GRPC__LISTEN", "0.0.0.0:0")
            .with("ARCGATE_AUTH__ALLOW_UNAUTHENTICATED_ON_PUBLIC_ADDRESSES", "true");
        launch.start().await?.stop().await?;
        Ok(())
    })
}
