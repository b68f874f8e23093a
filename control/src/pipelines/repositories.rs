//! Definitions in repositories: read into revisions, written as commits.

use std::time::Duration;

use arcgate_api::pipeline::v1 as pb;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};

use super::{Pipelines, Save, Write};
use crate::engine::{Answer, Command, Engine, EngineError, specs};
use crate::git::{Change, Git, GitError, Place};
use crate::spec::{self, Format, Spec};

/// How often all of them are looked at.
const EVERY: Duration = Duration::from_secs(60);
/// So many are read from the database at a time.
const AT_ONCE: i64 = 1_000;
/// How long what was pushed is waited for before it begins runs.
const SOON: Duration = Duration::from_secs(5);
/// How many of those at a time.
const TOGETHER: usize = 4;

/// Keeps revisions up to what repositories have. Cloning shares the bound on how many are asked at a time.
#[derive(Debug, Clone)]
pub struct Repositories {
    engine: Engine,
    pipelines: Pipelines,
    git: Git,
}

/// Why a definition could not be taken from its repository.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSynced {
    #[error("load definition failed: {0}")]
    Git(#[from] GitError),
    #[error("spec parse failed: {0}")]
    Parse(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What became of a change.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) commit: String,
    /// The branch that was made for it; absent: it is on the pipeline's own.
    pub(crate) branch: Option<String>,
}

fn place(pipeline: &pb::PipelineDetail) -> Place {
    let pb::PipelineDetail { repo_url, default_branch, pipeline_file_path, .. } = pipeline;
    Place { url: repo_url.clone(), branch: default_branch.clone(), path: pipeline_file_path.clone() }
}

impl Repositories {
    /// Those of an engine's pipelines.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { pipelines: Pipelines::new(engine.database().clone()), engine, git: Git::default() }
    }

    /// Takes the definition of a pipeline as it is in its repository; nothing to do for one that has none.
    pub(crate) async fn sync(&self, pipeline: &pb::PipelineDetail) -> Result<(), NotSynced> {
        if pipeline.repo_url.is_empty() {
            return Ok(());
        }
        match self.read(pipeline).await {
            Ok(save) => self.write(Write::Sync(Box::new(save))).await,
            Err(why) => {
                let pipeline_id = pipeline.pipeline_id.clone();
                self.write(Write::SyncFailed { pipeline_id, why: why.to_string() }).await?;
                Err(why)
            }
        }
    }

    async fn read(&self, pipeline: &pb::PipelineDetail) -> Result<Save, NotSynced> {
        let found = self.git.read(&place(pipeline)).await?;
        let format = Format::of(&pipeline.pipeline_file_path, &found.text);
        let problems = |all: Vec<spec::Problem>| {
            let all: Vec<&str> = all.iter().map(|problem| &*problem.message).collect();
            NotSynced::Parse(format!("{} at {}: {}", pipeline.pipeline_file_path, found.commit, all.join("; ")))
        };
        let document = spec::read(&found.text, format).map_err(problems)?;
        let invalid = document.validate().problems;
        if !invalid.is_empty() {
            return Err(problems(invalid));
        }
        let number = if format == Format::Json { pb::SpecFormat::Json } else { pb::SpecFormat::Yaml };
        Ok(Save {
            pipeline_id: pipeline.pipeline_id.clone(),
            spec: document.spec,
            format: i64::from(i32::from(number)),
            message: "from the repository".into(),
            commit: found.commit,
            ..Save::default()
        })
    }

    /// Writes a definition into its repository: onto the pipeline's branch, or onto one that is made for it.
    pub(crate) async fn push(&self, pipeline: &pb::PipelineDetail, spec: &Spec, save: &Save) -> Result<Pushed, GitError> {
        let text = spec::write(spec, Format::of(&pipeline.pipeline_file_path, ""));
        let mut place = place(pipeline);
        let mut onto = None;
        if pipeline.save_mode() == pb::PipelineSaveMode::Pr {
            if !pipeline.pr_target_branch.is_empty() {
                place.branch.clone_from(&pipeline.pr_target_branch);
            }
            // The same change has the same branch, however often it is saved.
            onto = Some(format!("arcgate/{}-{}", pipeline.pipeline_id, &specs::hex(&Sha256::digest(text.as_bytes()))[..12]));
        }
        let change = Change {
            text,
            expected: save.expected_head.clone(),
            message: save.message.clone(),
            author: save.editor.clone(),
            onto: onto.clone(),
        };
        Ok(Pushed { commit: self.git.write(&place, &change).await?, branch: onto })
    }

    /// Takes the definitions of a project's pipelines; of all, if none is named. What cannot be read now stays as it was.
    pub(crate) async fn sync_all(&self, project_id: &str) {
        let mut after = String::new();
        loop {
            let pipelines = match self.pipelines.in_repositories(project_id, &after, AT_ONCE).await {
                Ok(pipelines) => pipelines,
                Err(why) => return tracing::warn!(%why, "which definitions lie in repositories cannot be read"),
            };
            let Some(last) = pipelines.last() else { return };
            after.clone_from(&last.pipeline_id);
            self.sync_these(pipelines).await;
        }
    }

    /// As [`Self::sync_all`], but not for long: what does not answer in time stays as it was, until it is looked at again.
    pub(crate) async fn sync_soon(&self, project_id: &str) {
        if tokio::time::timeout(SOON, self.sync_all(project_id)).await.is_err() {
            tracing::warn!(project = project_id, "a repository does not answer in time; what begins now is as it was last read");
        }
    }

    async fn sync_these(&self, pipelines: Vec<pb::PipelineDetail>) {
        let synced = futures_util::stream::iter(pipelines).for_each_concurrent(TOGETHER, async |pipeline| {
            let synced = match self.git.head(&place(&pipeline)).await {
                Ok(head) if head == pipeline.last_commit_sha => Ok(()),
                Ok(_) => self.sync(&pipeline).await,
                Err(why) => Err(why.into()),
            };
            if let Err(why) = synced {
                tracing::warn!(pipeline = pipeline.pipeline_id, %why, "a definition stays as it was last read from its repository");
            }
        });
        synced.await;
    }

    /// Looks at all of them now and then, until the engine ends: the caller spawns it.
    pub async fn follow(self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => self.sync_all("").await,
                () = self.engine.ended() => return,
            }
        }
    }

    async fn write(&self, write: Write) -> Result<(), NotSynced> {
        match self.engine.ask(Command::Pipeline(write)).await? {
            Answer::Pipeline(_) => Ok(()),
            other => Err(crate::engine::unexpected(&other).into()),
        }
    }
}
