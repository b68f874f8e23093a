//! Each plugin: what it does, and what it says when it cannot.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use arcgate_api::agent::v1::PluginInfo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::shell::script;
use crate::agent::step::Ending;
use crate::agent::testing::{Bench, step};

fn failure(ending: Ending) -> String {
    let Ending::Failed { exit_code: -1, message } = ending else { panic!("{ending:?}") };
    message
}

fn plugin(bench: &Bench, name: &str, text: &str) -> String {
    let path = bench.folder.path().join("plugins").join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_script_may_be_spelled_in_four_ways() {
    let of = |args: &Value| script(args.as_object().unwrap());
    for args in [json!({"run": "a\nb"}), json!({"script": "a\nb"}), json!({"command": "a\nb"}), json!({"commands": ["a", "b"]})] {
        assert_eq!(of(&args).as_deref(), Some("a\nb"), "{args}");
    }
    assert_eq!(of(&json!({"commands": "b", "run": "a"})).as_deref(), Some("a"), "the first in that order");
    for nothing in [json!({}), json!({"run": " \n"}), json!({"commands": []}), json!({"run": 3})] {
        assert_eq!(of(&nothing), None, "{nothing}");
    }
}

#[tokio::test]
async fn an_unknown_plugin_and_an_unknown_action_are_named() {
    let bench = Bench::new();
    let said = failure(bench.run(&step("deploy@1.2.3", &json!({}))).await.0);
    assert!(said.contains("deploy@1.2.3 is not known") && said.contains("shell"), "{said}");
    let said = failure(bench.run(&step("../bin/sh", &json!({}))).await.0);
    assert!(said.contains("is no name"), "{said}");
    let mut wrong = step("artifacts", &json!({}));
    wrong.action = "bury".into();
    let said = failure(bench.run(&wrong).await.0);
    assert!(said.contains("no action \"bury\"") && said.contains("upload"), "{said}");
    let said = failure(bench.run(&step("shell", &json!({}))).await.0);
    assert!(said.contains("args.run"), "{said}");
}

#[tokio::test]
async fn a_plugin_is_found_by_name_and_version_and_given_its_args_on_stdin() {
    let bench = Bench::new();
    plugin(&bench, "deploy", "#!/bin/sh\necho any version; cat");
    plugin(&bench, "deploy@1.2.3", "#!/bin/sh\necho \"$1:\"; cat");
    let mut call = step("deploy@1.2.3", &json!({"to": "${{ secrets.HOST }}", "count": 3}));
    call.action = "push".into();
    call.secrets.insert("HOST".into(), "secret.example".into());
    let (ending, log) = bench.run(&call).await;
    assert_eq!((ending, &*log), (Ending::Succeeded, "push:\n{\"count\":3,\"to\":\"***\"}\n"));
    call.uses = "deploy".into();
    assert!(bench.run(&call).await.1.starts_with("any version\n"));
    call.uses = "deploy@9.9.9".into();
    assert!(failure(bench.run(&call).await.0).contains("no deploy@9.9.9 in its plugin folder"));
}

#[tokio::test]
async fn a_plugin_with_another_checksum_is_not_run() {
    let bench = Bench::new();
    let checksum = plugin(&bench, "deploy@1.2.3", "#!/bin/sh\ntouch ran");
    let mut call = step("deploy@1.2.3", &json!({}));
    let info = PluginInfo { name: "deploy".into(), version: "1.2.3".into(), ..PluginInfo::default() };
    call.plugins = vec![PluginInfo { checksum: format!("sha256:{}", "0".repeat(64)), ..info.clone() }];
    let said = failure(bench.run(&call).await.0);
    assert!(said.contains("deploy@1.2.3 is not the one") && said.contains(&checksum), "{said}");
    assert!(!bench.workspace(&call).join("ran").exists());
    call.plugins = vec![PluginInfo { checksum: checksum.to_uppercase(), ..info }];
    // The version may come from what is known of the plugin.
    call.uses = "deploy".into();
    assert_eq!(bench.run(&call).await.0, Ending::Succeeded);
    assert!(bench.workspace(&call).join("ran").exists());
}

#[tokio::test]
async fn messages_go_into_the_log() {
    let bench = Bench::new();
    let (ending, log) = bench.run(&step("stdout", &json!({"message": "hello"}))).await;
    assert_eq!((ending, &*log), (Ending::Succeeded, "hello\n"));
    assert!(failure(bench.run(&step("stdout", &json!({}))).await.0).contains("args.message"));
}

#[tokio::test]
async fn artifacts_of_one_job_are_found_by_another() {
    let bench = Bench::new();
    let mut up = step("artifacts", &json!({"name": "bin", "path": "out"}));
    let workspace = bench.workspace(&up);
    std::fs::create_dir_all(workspace.join("out/sub")).unwrap();
    std::fs::write(workspace.join("out/sub/tool"), "1").unwrap();
    std::fs::set_permissions(workspace.join("out/sub/tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", workspace.join("out/link")).unwrap();
    let (ending, log) = bench.run(&up).await;
    assert!(ending == Ending::Succeeded && log.contains("1 files with 1 bytes") && log.contains("1 links"), "{ending:?} {log}");
    // Again, as a second attempt does.
    std::fs::write(workspace.join("out/sub/tool"), "22").unwrap();
    assert_eq!(bench.run(&up).await.0, Ending::Succeeded);

    let mut down = step("artifacts", &json!({"name": "bin", "path": "got"}));
    (down.action, down.workspace) = ("download".into(), "job2".into());
    assert_eq!(bench.run(&down).await.0, Ending::Succeeded);
    let got = bench.workspace(&down).join("got/sub/tool");
    assert_eq!(std::fs::read_to_string(&got).unwrap(), "22");
    assert_eq!(std::fs::metadata(&got).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(std::fs::read_dir(bench.folder.path().join("artifacts/run1")).unwrap().count(), 1);

    down.pipeline_run_id = "run2".into();
    assert!(failure(bench.run(&down).await.0).contains("run run2 has no artifact bin"));
    for (path, said) in [("/etc", "not in the workspace"), ("../..", "not in the workspace"), ("nothing", "cannot be read")] {
        up.args = step("", &json!({"path": path})).args;
        let message = failure(bench.run(&up).await.0);
        assert!(message.contains(said), "{message}");
    }
    up.args = step("", &json!({"path": "out", "name": "../x"})).args;
    assert!(failure(bench.run(&up).await.0).contains("name"));
}

/// Answers one call with `answer`, and gives what was asked.
async fn server(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"}") {
            let mut some = [0; 4_096];
            let count = stream.read(&mut some).await.unwrap();
            assert!(count > 0);
            asked.extend_from_slice(&some[..count]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    (format!("http://{address}/hook?a=1"), asked)
}

#[tokio::test]
async fn a_webhook_is_called_and_its_answer_counts() {
    let bench = Bench::new();
    let (url, asked) = server("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
    let mut call =
        step("webhook", &json!({"url": url, "headers": {"x-token": "${{ secrets.T }}"}, "body": {"run": "${{ secrets.T }}"}}));
    call.secrets.insert("T".into(), "t0ken".into());
    assert_eq!(bench.run(&call).await, (Ending::Succeeded, "yes\n".into()));
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("POST /hook?a=1 HTTP/1.1\r\n") && asked.contains("x-token: t0ken"), "{asked}");
    assert!(asked.contains("content-type: application/json") && asked.ends_with("{\"run\":\"t0ken\"}"), "{asked}");

    let (url, _asked) = server("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await;
    let message = failure(bench.run(&step("webhook", &json!({"url": url, "body": {}}))).await.0);
    assert!(message.contains("500"), "{message}");
    let message = failure(bench.run(&step("webhook", &json!({"url": "http://127.0.0.1:1/"}))).await.0);
    assert!(message.contains("cannot call"), "{message}");
    for wrong in [json!({}), json!({"url": "ftp://x"}), json!({"url": "x"}), json!({"url": "http://x", "method": "a b"})] {
        assert!(failure(bench.run(&step("webhook", &wrong)).await.0).contains("args."), "{wrong}");
    }
}

fn git(folder: &Path, words: &[&str]) -> String {
    let config = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").current_dir(folder).args(config).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_repository_is_brought_and_brought_up_to_date() {
    let bench = Bench::new();
    let repo = bench.folder.path().join("repo");
    std::fs::create_dir(&repo).unwrap();
    git(&repo, &["init", "-q"]);
    let commit = |text: &str| {
        std::fs::write(repo.join("file"), text).unwrap();
        git(&repo, &["add", "."]);
        git(&repo, &["commit", "-q", "-m", text]);
        git(&repo, &["rev-parse", "HEAD"])
    };
    let first = commit("one");
    let clone = step("git", &json!({"repo": repo.display().to_string(), "branch": "main"}));
    let (ending, log) = bench.run(&clone).await;
    assert!(ending == Ending::Succeeded && log.contains(&first), "{ending:?} {log}");
    let file = bench.workspace(&clone).join("file");
    std::fs::write(&file, "changed by a step").unwrap();
    let second = commit("two");
    let (ending, log) = bench.run(&clone).await;
    assert!(ending == Ending::Succeeded && log.contains(&second), "{ending:?} {log}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
    let (ending, log) = bench.run(&step("git", &json!({"repo": repo.display().to_string(), "branch": "no-such"}))).await;
    assert!(matches!(ending, Ending::Failed { .. }) && log.contains("no-such"), "{ending:?} {log}");
    assert!(failure(bench.run(&step("git", &json!({}))).await.0).contains("args.repo"));
}
