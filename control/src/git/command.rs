//! The program `git`: asks nobody for a password, runs no hook, reads no configuration but the repository's, ends with its caller.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::{Change, GitError, LARGEST, Place};

/// Of what `git` says on failure, at most so much is told.
const TOLD: usize = 1_000;

/// A clone of one commit, without files.
pub(super) struct Clone<'p> {
    folder: TempDir,
    place: &'p Place,
}

/// The branch's newest commit.
pub(super) async fn head(place: &Place) -> Result<String, GitError> {
    let mut git = git();
    git.args(["ls-remote", "--exit-code", "--", &place.url, &format!("refs/heads/{}", place.branch)]);
    let text = run(git, place, b"").await.map_err(|why| no_branch(why, place))?;
    text.split_whitespace().next().map(str::to_owned).ok_or_else(|| GitError::Failed("ls-remote said nothing".into()))
}

impl<'p> Clone<'p> {
    pub(super) async fn of(place: &'p Place) -> Result<Self, GitError> {
        let folder = tempfile::tempdir().map_err(|error| GitError::Failed(format!("no folder for a clone: {error}")))?;
        let mut git = git();
        git.args(["clone", "--quiet", "--depth=1", "--single-branch", "--no-tags", "--no-checkout", "--bare"])
            .args(["--branch", &place.branch, "--", &source(&place.url)])
            .arg(folder.path().join("clone"));
        run(git, place, b"").await.map_err(|why| no_branch(why, place))?;
        Ok(Self { folder, place })
    }

    pub(super) async fn commit(&self) -> Result<String, GitError> {
        self.git(&["rev-parse", "--verify", "HEAD"], b"").await
    }

    /// What a file says.
    pub(super) async fn file(&self, path: &str) -> Result<String, GitError> {
        let Place { url, branch, .. } = self.place;
        let missing = || GitError::NoFile { url: without_password(url), branch: branch.clone(), path: path.to_owned() };
        let object = format!("HEAD:{path}");
        let kind = self.git(&["cat-file", "-t", &object], b"").await.map_err(|_| missing())?;
        let size = self.git(&["cat-file", "-s", &object], b"").await?;
        if kind != "blob" || size.parse::<usize>().is_ok_and(|size| size > LARGEST) {
            return Err(GitError::Setting(format!(
                "{path} is a {kind} of {size} bytes; a definition is a file of at most {LARGEST}"
            )));
        }
        let mut show = self.command(&["cat-file", "blob", &object]);
        show.stdin(Stdio::null());
        run_whole(show, self.place, b"").await
    }

    /// A commit on `parent` in which the file says what it is to say.
    pub(super) async fn commit_file(&self, path: &str, parent: &str, change: &Change) -> Result<String, GitError> {
        let blob = self.git(&["hash-object", "-w", "--stdin"], change.text.as_bytes()).await?;
        self.git(&["read-tree", parent], b"").await?;
        self.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{path}")], b"").await?;
        let tree = self.git(&["write-tree"], b"").await?;
        let mut commit = self.command(&["commit-tree", &tree, "-p", parent, "-F", "-"]);
        let author = if change.author.is_empty() { "arcgate" } else { &change.author };
        // What makes no name in a commit is left out of it.
        let author: String = author.chars().filter(|c| !c.is_control() && !"<>".contains(*c)).collect();
        commit.env("GIT_AUTHOR_NAME", author);
        let message = if change.message.is_empty() { "Change the pipeline's definition" } else { &change.message };
        run(commit, self.place, message.as_bytes()).await
    }

    /// Puts the branch to a commit: only if it follows what is there, unless `is_ours`.
    pub(super) async fn push(&self, commit: &str, branch: &str, is_ours: bool) -> Result<(), GitError> {
        let force = if is_ours { "+" } else { "" };
        let what = format!("{force}{commit}:refs/heads/{branch}");
        self.git(&["push", "--quiet", "--no-verify", "origin", &what], b"").await.map(|_| ())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut git = git();
        git.arg("--git-dir").arg(self.folder.path().join("clone")).args(args);
        git
    }

    async fn git(&self, args: &[&str], input: &[u8]) -> Result<String, GitError> {
        run(self.command(args), self.place, input).await
    }
}

/// A path as an address: else `git` would link to a repository on the same machine instead of copying the one commit.
fn source(url: &str) -> String {
    if url.starts_with('/') { format!("file://{url}") } else { url.to_owned() }
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.args(["-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "safe.directory=*"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .env_remove("GIT_OBJECT_DIRECTORY")
        .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
        .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
        .env("GIT_AUTHOR_NAME", "arcgate")
        .env("GIT_AUTHOR_EMAIL", "arcgate@localhost")
        .env("GIT_COMMITTER_NAME", "arcgate")
        .env("GIT_COMMITTER_EMAIL", "arcgate@localhost")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    git
}

/// What it says, without the newline at the end.
async fn run(git: Command, place: &Place, input: &[u8]) -> Result<String, GitError> {
    run_whole(git, place, input).await.map(|text| text.trim_end_matches('\n').to_owned())
}

async fn run_whole(mut git: Command, place: &Place, input: &[u8]) -> Result<String, GitError> {
    let broken = |error: std::io::Error| GitError::Failed(format!("cannot be run: {error}; install it on the gateway's machine"));
    let mut child = git.spawn().map_err(broken)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // Who ends without reading says why by itself.
            let _ignored = stdin.write_all(input).await;
        }
    };
    let bound = LARGEST as u64 + 1;
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let out = async {
        if let Some(stdout) = stdout {
            let _read = stdout.take(bound).read_to_end(&mut said).await;
        }
    };
    let err = async {
        if let Some(stderr) = stderr {
            let _read = stderr.take(bound).read_to_end(&mut complained).await;
        }
    };
    tokio::join!(write, out, err);
    let status = child.wait().await.map_err(broken)?;
    if status.success() {
        return String::from_utf8(said).map_err(|_| GitError::Setting(format!("{} is not UTF-8", place.path)));
    }
    let why = String::from_utf8_lossy(&complained).trim().replace(&place.url, &without_password(&place.url));
    let end = why.floor_char_boundary(TOLD);
    let why = if why.is_empty() { status.to_string() } else { why[..end].to_owned() };
    Err(GitError::Failed(why))
}

fn no_branch(why: GitError, place: &Place) -> GitError {
    match why {
        GitError::Failed(why) => {
            GitError::Failed(format!("branch {} of {} cannot be read: {why}", place.branch, without_password(&place.url)))
        }
        other => other,
    }
}

/// The address without what is between `//` and `@`.
pub(crate) fn without_password(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (user, rest))) if !user.contains('/') => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}
