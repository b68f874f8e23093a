//! A gateway with its control plane, and agents that reach it at an address that stays the same over restarts.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use arcgate_api::pipeline::v1::pipeline_service_client::PipelineServiceClient;
use arcgate_api::pipeline::v1::{self as pb, PipelineStatus};
use arcgate_api::steprun::v1::step_run_service_client::StepRunServiceClient;
use arcgate_api::steprun::v1::{ListStepRunsRequest, StepRunDetail, StepRunStatus};
use arcgate_control::agents::NewRegistrationToken;
use arcgate_control::db::{Database, Location};
use arcgate_control::spec::{Format, read};
use tempfile::TempDir;

use crate::harness::wire::Wire;
use crate::harness::{Launch, Outcome, Rig, binary, eventually, folder, text};

/// A run is over within this, on a busy machine too.
pub(super) const OVER: Duration = Duration::from_secs(90);

/// See the module.
pub(super) struct Place {
    pub(super) rig: Rig,
    /// Where agents connect to.
    wire: Wire,
    /// For files of agents and of their steps.
    pub(super) folder: TempDir,
    token: String,
}

/// An agent's process, killed when dropped.
pub(super) struct Agent {
    child: Child,
    log: PathBuf,
}

impl Place {
    pub(super) async fn start() -> Outcome<Self> {
        Self::start_with(&[]).await
    }

    /// With these settings of the gateway.
    pub(super) async fn start_with(settings: &[(&str, &str)]) -> Outcome<Self> {
        let home = folder()?;
        let data = home.path().join("data");
        let token = registration_token(&data).await?;
        let mut launch = Launch::new(binary(), data);
        for (name, value) in settings {
            launch = launch.with(name, value);
        }
        let place = Self { rig: Rig::launch(launch, home).await?, wire: Wire::new().await?, folder: folder()?, token };
        place.lead();
        Ok(place)
    }

    fn lead(&self) {
        self.wire.lead_to(&self.rig.gateway.addresses.grpc);
    }

    /// SIGKILL for the gateway, then a new start.
    pub(super) async fn crash(&mut self) -> Outcome<()> {
        self.rig.crash().await?;
        self.lead();
        Ok(())
    }

    /// Starts the gateway again after it was killed.
    pub(super) async fn restart(&mut self) -> Outcome<()> {
        self.rig.gateway.restart().await?;
        self.lead();
        Ok(())
    }

    /// Cuts the agents' connections.
    pub(super) fn cut(&self) {
        self.wire.cut();
    }

    /// Starts an agent, or the same one again. Its files lie in the folder of its name.
    pub(super) fn agent(&self, name: &str, words: &[&str]) -> Outcome<Agent> {
        let log = self.folder.path().join(format!("{name}.log"));
        let mut command = Command::new(binary());
        for (variable, _) in std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("ARCGATE_")) {
            command.env_remove(variable);
        }
        let state = self.folder.path().join(name);
        let child = command
            .args(["agent", "--server", self.wire.address(), "--name", name, "--state"])
            .arg(state)
            .args(words)
            .env("ARCGATE_REGISTRATION_TOKEN", &self.token)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .spawn()?;
        Ok(Agent { child, log })
    }

    /// Makes a pipeline of these jobs and triggers it. The run.
    pub(super) async fn run(&self, jobs: &str) -> Outcome<String> {
        let mut calls = PipelineServiceClient::new(self.rig.gateway.channel()?);
        let draft = pb::CreatePipelineRequest {
            project_id: "p".into(),
            name: format!("test {}", rand::random::<u64>()),
            pipeline_file_path: "ci.yaml".into(),
            ..Default::default()
        };
        let created = calls.create_pipeline(draft).await?.into_inner();
        assert!(created.success, "{created:?}");
        let pipeline_id = created.pipeline_id;
        let text = format!("namespace: test\njobs:\n{jobs}");
        let spec = read(&text, Format::Yaml).map_err(|problems| format!("{problems:?}"))?.spec;
        let save = pb::SavePipelineSpecRequest { pipeline_id: pipeline_id.clone(), spec: Some(spec), ..Default::default() };
        let saved = calls.save_pipeline_spec(save).await?.into_inner();
        assert!(saved.success, "{saved:?}");
        let trigger = pb::TriggerPipelineRequest { pipeline_id, request_id: "once".into(), ..Default::default() };
        let triggered = calls.trigger_pipeline(trigger).await?.into_inner();
        assert!(triggered.success, "{triggered:?}");
        Ok(triggered.run_id)
    }

    pub(super) async fn stop(&self, run_id: &str) -> Outcome<()> {
        let mut calls = PipelineServiceClient::new(self.rig.gateway.channel()?);
        let run = calls.get_pipeline_run(pb::GetPipelineRunRequest { run_id: run_id.into() }).await?.into_inner().run;
        let pipeline_id = run.ok_or("no run")?.pipeline_id;
        let stop = pb::StopPipelineRequest { pipeline_id, run_id: run_id.into(), reason: "enough".into() };
        let stopped = calls.stop_pipeline(stop).await?.into_inner();
        assert!(stopped.success, "{stopped:?}");
        Ok(())
    }

    /// Waits until a run is over. How it ended.
    pub(super) async fn ended(&self, run_id: &str) -> Outcome<PipelineStatus> {
        eventually(OVER, "the run's end", async || {
            let mut calls = PipelineServiceClient::new(self.rig.gateway.channel()?);
            let run = calls.get_pipeline_run(pb::GetPipelineRunRequest { run_id: run_id.into() }).await?.into_inner().run;
            let status = run.ok_or("no run")?.status();
            Ok(Some(status).filter(|status| !matches!(status, PipelineStatus::Pending | PipelineStatus::Running)))
        })
        .await
    }

    /// The step runs of a run, all attempts, in the order in which they were made.
    pub(super) async fn steps(&self, run_id: &str) -> Outcome<Vec<StepRunDetail>> {
        let mut calls = StepRunServiceClient::new(self.rig.gateway.channel()?);
        let list = ListStepRunsRequest { pipeline_run_id: run_id.into(), page_size: 100, ..Default::default() };
        let mut steps = calls.list_step_runs(list).await?.into_inner().step_runs;
        steps.sort_by(|a, b| (a.created_at, &a.step_run_id).cmp(&(b.created_at, &b.step_run_id)));
        Ok(steps)
    }

    /// The step run of a name, once it has this status.
    pub(super) async fn step(&self, run_id: &str, name: &str, status: StepRunStatus) -> Outcome<StepRunDetail> {
        eventually(OVER, &format!("step {name} {status:?}"), async || {
            Ok(self.steps(run_id).await?.into_iter().find(|step| step.step_name == name && step.status() == status))
        })
        .await
    }

    /// The lines of a step run, to the end of its log.
    pub(super) async fn log(&self, step_run: &str) -> Outcome<String> {
        let server = format!("http://{}", self.rig.http());
        text(&self.rig.arcgate(&["tail", "--server", &server, step_run]).await?, 0)
    }

    /// Its lines as they are there now.
    pub(super) async fn log_now(&self, step_run: &str) -> Outcome<String> {
        let server = format!("http://{}", self.rig.http());
        text(&self.rig.arcgate(&["tail", "--no-follow", "--server", &server, step_run]).await?, 0)
    }

    /// A path for files of steps.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Agent {
    pub(super) fn kill9(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and its end.
    pub(super) async fn end(&mut self) -> Outcome<ExitStatus> {
        Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status()?;
        eventually(OVER, "the agent's end", async || Ok(self.child.try_wait()?)).await
    }

    /// What it said.
    pub(super) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- standard error of the agent {}:\n{}", self.log.display(), self.said());
        }
    }
}

/// A token for any number of agents, put into the database before the gateway starts.
async fn registration_token(data: &Path) -> Outcome<String> {
    std::fs::create_dir_all(data)?;
    let database = Database::open(&Location::File(data.join("control.db"))).await?;
    let token = database.new_registration_token(NewRegistrationToken::default(), 0).await?;
    database.close().await;
    Ok(token)
}

/// How many of the listed events are agents' own.
pub(super) fn of_agents(events: &str) -> usize {
    events.lines().filter(|event| !event.contains("\"agent_id\":\"arcgate\"")).count()
}

/// Waits until a file is there.
pub(super) async fn appears(path: &Path) -> Outcome<String> {
    eventually(OVER, &format!("{}", path.display()), async || {
        Ok(std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n')))
    })
    .await
}

/// Waits until the process of the number in this file does not run any more.
pub(super) async fn is_gone(pid_file: &Path) -> Outcome<()> {
    let pid = appears(pid_file).await?;
    let status = format!("/proc/{}/status", pid.trim());
    eventually(OVER, "the process's end", async || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let runs = status.lines().any(|line| line.starts_with("State:") && !line.contains('Z') && !line.contains('X'));
        Ok((!runs).then_some(()))
    })
    .await
}
