//! What the tests of steps and plugins stand on: an agent without a control plane, whose logs go nowhere.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arcgate_api::agent::v1::StepRun;
use tempfile::TempDir;
use tokio::sync::watch;

use super::courier::Courier;
use super::diary::Diary;
use super::events::About;
use super::mask::Mask;
use super::plugins::{Work, find};
use super::state::{Own, StateFolder};
use super::step::{Ending, StepLog};
use super::stop::{Stop, Why};
use super::workspaces::Workspaces;
use super::{Options, Shared};
use crate::json::to_struct;
use crate::push::outbox::Shelf;
use crate::push::target::Target;

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";

/// See the module.
pub(super) struct Bench {
    pub(super) shared: Arc<Shared>,
    pub(super) folder: TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for below in ["plugins", "artifacts"] {
            std::fs::create_dir(folder.path().join(below)).unwrap();
        }
        let options = Options {
            server: NOBODY.into(),
            labels: HashMap::new(),
            name: None,
            registration_token_file: None,
            state: None,
            max_step_runs: 4,
            plugins: Some(folder.path().join("plugins")),
            artifacts: Some(folder.path().join("artifacts")),
        };
        let state = StateFolder::take(&folder.path().join("state")).unwrap();
        let target = Target::new(NOBODY, None).unwrap();
        let diary = Diary::default();
        let shelf = Shelf::new(state.outbox(), NOBODY);
        let (courier, _) = Courier::start("a", target.clone(), &shelf, diary.clone()).unwrap();
        let workspaces = Workspaces::new(state.workspaces(), state.trash());
        let own = Own { agent_id: "a".into(), token: "a:t".into() };
        let (connected, _) = watch::channel(true);
        let shared = Shared { options, own, target, folder: state, workspaces, courier, diary, connected };
        Self { shared: Arc::new(shared), folder }
    }

    /// The workspace of a step's job.
    pub(super) fn workspace(&self, step: &StepRun) -> PathBuf {
        self.shared.workspaces.enter(&step.workspace).unwrap().path().to_owned()
    }

    /// Runs a step to its end. How it ended, and its log.
    pub(super) async fn run(&self, step: &StepRun) -> (Ending, String) {
        let (_told, stop) = watch::channel(None);
        self.run_until(step, stop, None).await
    }

    /// Runs a step until it ends, or must.
    pub(super) async fn run_until(
        &self,
        step: &StepRun,
        told: watch::Receiver<Option<Why>>,
        limit: Option<Duration>,
    ) -> (Ending, String) {
        let log = StepLog::unsent(Mask::new(step.secrets.values().map(String::as_str)));
        let about = About::new("a", step);
        let workspace = self.workspace(step);
        let ending = match find(step, self.shared.options.plugins.as_deref()) {
            Err(why) => Ending::failed(why),
            Ok(plugin) => {
                let work = Work::new(&self.shared, step, &workspace, &about, &log).unwrap();
                plugin.run(&work, &mut Stop::new(told, limit)).await
            }
        };
        (ending, log.text())
    }
}

/// A step with these arguments.
pub(super) fn step(uses: &str, args: &serde_json::Value) -> StepRun {
    StepRun {
        step_run_id: "s1".into(),
        pipeline_run_id: "run1".into(),
        step_name: "step".into(),
        workspace: "job1".into(),
        uses: uses.into(),
        args: to_struct(args),
        ..StepRun::default()
    }
}

/// A step that runs a script.
pub(super) fn script(text: &str) -> StepRun {
    step("shell", &serde_json::json!({ "run": text }))
}
