//! `git`: brings a repository into the workspace, also into one that has it already, as at a second attempt. Where a job has a
//! `source`, that is brought in before the first of its steps.
//!
//! | argument | |
//! |---|---|
//! | `repo` (or `url`) | where it is |
//! | `branch` (or `ref`) | a branch, a tag or a commit; what the repository's HEAD is if absent |
//! | `depth` | how many commits; 1 if absent, 0 for all |
//! | `path` | the folder in the workspace; the workspace itself if absent |
//! | `username`, `password`, `token` | who asks; never on a command line, nor in a file |

use super::{Work, args};
use crate::agent::Input;
use crate::agent::step::Ending;
use crate::agent::stop::Stop;

/// All values come in variables, so that none of them is a program.
const SCRIPT: &str = r#"
git init -q -- "$GIT_PLUGIN_PATH"
cd -- "$GIT_PLUGIN_PATH"
if [ "$GIT_PLUGIN_DEPTH" = 0 ]; then
  git fetch -q --tags -- "$GIT_PLUGIN_REPO" "$GIT_PLUGIN_REF"
else
  git fetch -q --no-tags --depth "$GIT_PLUGIN_DEPTH" -- "$GIT_PLUGIN_REPO" "$GIT_PLUGIN_REF"
fi
git checkout -q --force --detach FETCH_HEAD
git --no-pager log -1 --format='%H %s'
"#;
/// Git asks this for names and passwords.
const ANSWERS: &str = r#"#!/bin/sh
case "$1" in
Username*) printf '%s\n' "$GIT_PLUGIN_USERNAME" ;;
*) printf '%s\n' "$GIT_PLUGIN_PASSWORD" ;;
esac
"#;

/// Where the sources of a step's job are, in its environment.
const SOURCE_REPO: &str = "ARCGATE_SOURCE_REPO";
const SOURCE_BRANCH: &str = "ARCGATE_SOURCE_BRANCH";

/// What is fetched, as which variables say it.
struct Fetch {
    repo: String,
    reference: Option<String>,
    depth: String,
    path: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// Brings the sources of the job into its workspace, unless they are there. An ending: that failed.
pub(in crate::agent) async fn sources(work: &Work<'_>, stop: &mut Stop) -> Option<Ending> {
    let given = |name: &str| work.step.env.get(name).filter(|text| !text.is_empty()).cloned();
    let repo = given(SOURCE_REPO).filter(|_| !work.folder.join(".git").exists())?;
    let fetch =
        Fetch { repo, reference: given(SOURCE_BRANCH), depth: "1".to_owned(), path: None, username: None, password: None };
    match fetch.run(work, stop).await {
        Ending::Succeeded => None,
        Ending::Failed { exit_code, .. } => {
            // Half a repository must not look like a whole one at the next attempt.
            let _gone = std::fs::remove_dir_all(work.folder.join(".git"));
            Some(Ending::failed(format!("the job's source cannot be fetched: git ended with {exit_code}; the log says why")))
        }
        stopped => Some(stopped),
    }
}

pub(super) async fn run(work: &Work<'_>, stop: &mut Stop) -> Ending {
    let given = |names: &[&str]| args::first_text(&work.args, names);
    let Some(repo) = given(&["repo", "url", "repository"]) else {
        return Ending::failed("there is no repository to clone; give args.repo");
    };
    let depth = given(&["depth"]).unwrap_or_else(|| "1".to_owned());
    if depth.parse::<u32>().is_err() {
        return Ending::failed(format!("args.depth is {depth:?}; write a number of commits, 0 for all"));
    }
    let token = given(&["token"]);
    // With a token alone, the name is what hosts of repositories take for it.
    let username = given(&["username"]).or_else(|| token.as_ref().map(|_| "oauth2".to_owned()));
    let (reference, path) = (given(&["branch", "ref", "commit"]), given(&["path"]));
    let password = token.or_else(|| given(&["password"]));
    Fetch { repo, reference, depth, path, username, password }.run(work, stop).await
}

impl Fetch {
    async fn run(self, work: &Work<'_>, stop: &mut Stop) -> Ending {
        let folder = work.shared.folder.inputs();
        let files = Input::write(&folder, SCRIPT.as_bytes()).and_then(|script| Ok((script, answers(&folder)?)));
        let (script, answers) = match files {
            Ok(files) => files,
            Err(error) => return Ending::failed(format!("this agent cannot prepare git: {error}")),
        };
        let variables = [
            ("GIT_PLUGIN_REPO", self.repo),
            ("GIT_PLUGIN_REF", self.reference.unwrap_or_else(|| "HEAD".to_owned())),
            ("GIT_PLUGIN_DEPTH", self.depth),
            ("GIT_PLUGIN_PATH", self.path.unwrap_or_else(|| ".".to_owned())),
            ("GIT_PLUGIN_USERNAME", self.username.unwrap_or_default()),
            ("GIT_PLUGIN_PASSWORD", self.password.unwrap_or_default()),
            ("GIT_ASKPASS", answers.0.display().to_string()),
            ("GIT_TERMINAL_PROMPT", "0".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let path = script.0.display().to_string();
        work.program(&["/bin/sh", "-e", &path], None, variables, stop).await
    }
}

/// A program, not only a file.
fn answers(folder: &std::path::Path) -> std::io::Result<Input> {
    use std::os::unix::fs::PermissionsExt;
    let input = Input::write(folder, ANSWERS.as_bytes())?;
    std::fs::set_permissions(&input.0, std::fs::Permissions::from_mode(0o700))?;
    Ok(input)
}
