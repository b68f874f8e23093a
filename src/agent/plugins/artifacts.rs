//! `artifacts`: keeps files of a run for its later jobs, in the folder that the agent was started with.
//!
//! | argument | |
//! |---|---|
//! | `name` | the artifact's name; the step's if absent |
//! | `path` | upload: the file or folder in the workspace. download: the folder to put it in; the workspace itself if absent |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::copy::{Copied, copy};
use super::{Work, args};
use crate::agent::step::Ending;
use crate::agent::stop::Stop;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) enum Action {
    Upload,
    Download,
}

pub(super) async fn run(action: Action, work: &Work<'_>, stop: &mut Stop) -> Ending {
    let Some(store) = &work.shared.options.artifacts else {
        return Ending::failed("this agent keeps no artifacts; start it with --artifacts DIR");
    };
    let name = args::text(&work.args, "name").unwrap_or_else(|| work.step.step_name.clone());
    let plain = |text: &str| {
        !text.is_empty() && text.len() <= 200 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    let run = &work.step.pipeline_run_id;
    if ![&name, run].into_iter().all(|text| plain(text) && !text.starts_with('.')) {
        return Ending::failed(format!("an artifact's name has letters, digits, '-', '_' and '.'; {name:?} does not"));
    }
    let kept = store.join(run).join(&name);
    let path = args::text(&work.args, "path");
    let (from, to) = match (action, path) {
        (Action::Upload, None) => return Ending::failed("there is nothing to upload; give args.path"),
        (Action::Upload, Some(path)) => (inside(work.folder, &path), Ok(kept.clone())),
        (Action::Download, path) => (Ok(kept.clone()), place(work.folder, path.as_deref().unwrap_or("."))),
    };
    let (from, to) = match (from, to) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(why), _) | (_, Err(why)) => return Ending::failed(why),
    };
    if action == Action::Download && !kept.is_dir() {
        return Ending::failed(format!(
            "run {run} has no artifact {name} here; upload it in a job before, at an agent with the same --artifacts"
        ));
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let (seen, target) = (stopped.clone(), to.clone());
    let mut copying = tokio::task::spawn_blocking(move || match action {
        Action::Upload => replace(&from, &target, &seen),
        Action::Download => copy(&from, &target, &seen),
    });
    let done = tokio::select! {
        done = &mut copying => done,
        why = stop.told() => {
            stopped.store(true, Ordering::Relaxed);
            let _ = copying.await;
            return Ending::Stopped(why);
        }
    };
    match done.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Err(error) => Ending::failed(format!("artifact {name} cannot be copied: {error}")),
        Ok(copied) => {
            tell(action, work, &name, &to, copied);
            Ending::Succeeded
        }
    }
}

fn tell(action: Action, work: &Work<'_>, name: &str, to: &Path, copied: Copied) {
    let Copied { files, bytes, others } = copied;
    let verb = if action == Action::Upload { "kept" } else { "brought" };
    let left_out = if others > 0 { format!("; {others} links and special files are left out") } else { String::new() };
    work.log.say(&format!("artifact {name}: {files} files with {bytes} bytes {verb}{left_out}"));
    if action == Action::Upload {
        let path = args::text(&work.args, "path").unwrap_or_default();
        work.shared.courier.send(work.about.artifact(name, &path, bytes, files, &format!("file://{}", to.display())));
    }
}

/// Copies beside, then takes the place of what may be there: nobody finds half an artifact.
fn replace(from: &Path, to: &Path, stop: &AtomicBool) -> io::Result<Copied> {
    let beside = |what: &str| to.with_file_name(format!(".{what}-{}", uuid::Uuid::new_v4()));
    let (new, old) = (beside("new"), beside("old"));
    let copied = copy(from, &new, stop).and_then(|copied| {
        match std::fs::rename(to, &old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::rename(&new, to)?;
        Ok(copied)
    });
    for rest in [new, old] {
        // Most often there is none.
        let _ = std::fs::remove_dir_all(rest);
    }
    copied
}

/// Something that is there, in the workspace.
fn inside(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let whole = folder.join(path).canonicalize().map_err(|error| format!("args.path {path:?} cannot be read: {error}"))?;
    let root = folder.canonicalize().map_err(|error| format!("the workspace cannot be read: {error}"))?;
    if whole.starts_with(root) { Ok(whole) } else { Err(outside(path)) }
}

/// A place in the workspace, which may not be there yet.
fn place(folder: &Path, path: &str) -> Result<PathBuf, String> {
    use std::path::Component;
    let fits = Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !fits {
        return Err(outside(path));
    }
    let whole = folder.join(path);
    std::fs::create_dir_all(&whole).map_err(|error| format!("args.path {path:?} cannot be made: {error}"))?;
    inside(folder, path)
}

fn outside(path: &str) -> String {
    format!("args.path {path:?} is not in the workspace; name a path below it")
}
