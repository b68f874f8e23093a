//! Definitions in git repositories: one file on one branch, read and written by the program `git`, without a working tree.
//!
//! Each operation clones the branch's newest commit, without its files, into a folder of its own and leaves nothing behind. A write makes
//! the commit out of the tree that it found and pushes it without force: if the branch has moved meanwhile, the push fails, and nothing
//! is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

mod command;
#[cfg(test)]
pub(crate) mod tests;

use self::command::Clone;
pub(crate) use self::command::without_password;

/// How many operations may be under way; more wait.
const AT_ONCE: usize = 16;
/// How long an operation may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a push is tried that others came before.
const TRIES: usize = 3;
/// The largest definition, in bytes.
const LARGEST: usize = 1 << 20;

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GitError {
    /// The place is none that may be used.
    #[error("{0}")]
    Setting(String),
    /// The file is not there.
    #[error("{path} is not on branch {branch} of {url}; save the definition, or mend the path")]
    NoFile {
        /// The repository.
        url: String,
        /// The branch.
        branch: String,
        /// The file.
        path: String,
    },
    /// The branch is another than was expected.
    #[error("the branch has moved on to {0}")]
    Stale(String),
    /// What `git` said.
    #[error("git: {0}")]
    Failed(String),
    /// It took too long.
    #[error("the repository {0} does not answer within 60 s; try again")]
    Slow(String),
}

/// Where a definition lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The repository: `https://…`, `ssh://…`, `user@host:path`, `file:///…` or an absolute path.
    pub(crate) url: String,
    /// The branch.
    pub(crate) branch: String,
    /// The file, without a leading `/`.
    pub(crate) path: String,
}

/// A file at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// What it says.
    pub(crate) text: String,
    /// The commit, its SHA-1 or SHA-256 in hexadecimal digits.
    pub(crate) commit: String,
}

/// A change of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// What it is to say.
    pub(crate) text: String,
    /// The commit that the editor began with; empty: whatever it is.
    pub(crate) expected: String,
    /// Why, for the commit.
    pub(crate) message: String,
    /// By whom.
    pub(crate) author: String,
    /// The branch that is made for it, or made anew; absent: it goes to the place's own.
    pub(crate) onto: Option<String>,
}

/// Reads and writes definitions in repositories. Cloning shares the bound on how many operations are under way.
#[derive(Debug, Clone)]
pub(crate) struct Git(Arc<Semaphore>);

impl Default for Git {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Place {
    /// Checks that it can be used, and is no option or command to `git`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), GitError> {
        let wrong = |what: String| Err(GitError::Setting(what));
        let Self { url, branch, path } = self;
        let is_known = ["https://", "http://", "ssh://", "git://", "file:///", "/"].iter().any(|start| url.starts_with(start));
        let is_short =
            !url.contains("://") && url.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'));
        if !(is_known || is_short) || url.starts_with('-') || url.contains(char::is_control) {
            return wrong(format!(
                "repo_url: {} is no repository that can be used; write https://…, ssh://…, user@host:path, or an absolute path",
                crate::text::quoted(url)
            ));
        }
        let bad = |part: &str| part.is_empty() || part.starts_with(['-', '.']) || part.ends_with(".lock");
        let odd = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
        if branch.contains(odd) || branch.contains("..") || branch.split('/').any(bad) {
            return wrong(format!("default_branch: {} is no branch's name", crate::text::quoted(branch)));
        }
        let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part == ".git";
        if path.contains(char::is_control) || path.split('/').any(bad) {
            return wrong(format!("pipeline_file_path: {} is no file in a repository", crate::text::quoted(path)));
        }
        Ok(())
    }
}

impl Git {
    /// The newest commit of the branch, without its content.
    ///
    /// # Errors
    /// If there is none, or the repository cannot be reached.
    pub(crate) async fn head(&self, place: &Place) -> Result<String, GitError> {
        place.check()?;
        self.bounded(place, command::head(place)).await
    }

    /// The file as it is on the branch.
    ///
    /// # Errors
    /// If it is not there, or the repository cannot be reached.
    pub(crate) async fn read(&self, place: &Place) -> Result<Found, GitError> {
        place.check()?;
        self.bounded(place, async {
            let clone = Clone::of(place).await?;
            let commit = clone.commit().await?;
            Ok(Found { text: clone.file(&place.path).await?, commit })
        })
        .await
    }

    /// Changes the file, in a commit of its own, and says which that is. A file that says so already needs none.
    ///
    /// # Errors
    /// [`GitError::Stale`] if the branch is another than was expected; if the repository cannot be reached or takes no change.
    pub(crate) async fn write(&self, place: &Place, change: &Change) -> Result<String, GitError> {
        place.check()?;
        if let Some(onto) = &change.onto {
            Place { branch: onto.clone(), ..place.clone() }.check()?;
        }
        self.bounded(place, async {
            let mut tries = 1;
            loop {
                match write_once(place, change).await {
                    // Somebody else was faster. What they wrote is looked at, and kept.
                    Err(GitError::Failed(_)) if tries < TRIES && command::head(place).await.is_ok() => tries += 1,
                    done => return done,
                }
            }
        })
        .await
    }

    async fn bounded<T>(&self, place: &Place, work: impl Future<Output = Result<T, GitError>>) -> Result<T, GitError> {
        let slow = || GitError::Slow(command::without_password(&place.url));
        // Whoever waits for others is not slow itself.
        let _place = self.0.acquire().await.map_err(|_| slow())?;
        tokio::time::timeout(PATIENCE, work).await.map_err(|_| slow())?
    }
}

async fn write_once(place: &Place, change: &Change) -> Result<String, GitError> {
    let clone = Clone::of(place).await?;
    let head = clone.commit().await?;
    // Also what was pushed before, though nobody heard of it.
    if change.onto.is_none() && clone.file(&place.path).await.is_ok_and(|text| text == change.text) {
        return Ok(head);
    }
    if !change.expected.is_empty() && change.expected != head {
        return Err(GitError::Stale(head));
    }
    let commit = clone.commit_file(&place.path, &head, change).await?;
    clone.push(&commit, change.onto.as_ref().unwrap_or(&place.branch), change.onto.is_some()).await?;
    Ok(commit)
}
