use std::path::Path;
use std::process::Command;

use super::*;

/// A repository with a branch `main` and a definition.
pub(crate) struct Origin(tempfile::TempDir);

impl Origin {
    pub(crate) fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "origin"], "");
        let origin = Self(folder);
        origin.change(text);
        origin
    }

    /// A commit by somebody else: `p.yaml` says this.
    pub(crate) fn change(&self, text: &str) {
        let blob = self.git(&["hash-object", "-w", "--stdin"], text);
        let tree = self.git(&["mktree"], &format!("100644 blob {blob}\tp.yaml\n"));
        let commit = self.git(&["commit-tree", &tree, "-m", "change"], "");
        self.git(&["update-ref", "refs/heads/main", &commit], "");
    }

    pub(crate) fn url(&self) -> String {
        self.0.path().join("origin").display().to_string()
    }

    pub(crate) fn git(&self, args: &[&str], input: &str) -> String {
        run(&self.0.path().join("origin"), args, input)
    }

    fn place(&self) -> Place {
        Place { url: self.url(), branch: "main".into(), path: "p.yaml".into() }
    }
}

fn run(folder: &Path, args: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut git = Command::new("git");
    git.current_dir(folder).args(["-c", "user.name=t", "-c", "user.email=t@localhost"]).args(args);
    let mut child = git.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn change(text: &str) -> Change {
    Change { text: text.into(), message: "why".into(), author: "somebody <x>".into(), ..Change::default() }
}

#[tokio::test]
async fn a_file_is_read_and_changed_in_a_commit_of_its_own() {
    let origin = Origin::new("one\n");
    let (git, place) = (Git::default(), origin.place());
    let found = git.read(&place).await.unwrap();
    assert_eq!((found.text.as_str(), &found.commit), ("one\n", &origin.git(&["rev-parse", "main"], "")));
    assert_eq!(git.head(&place).await.unwrap(), found.commit);

    let commit = git.write(&place, &change("two\n")).await.unwrap();
    assert_eq!(git.read(&place).await.unwrap(), Found { text: "two\n".into(), commit: commit.clone() });
    assert_eq!(origin.git(&["log", "-1", "--format=%an %s %P", "main"], ""), format!("somebody x why {}", found.commit));
    assert_eq!(git.write(&place, &change("two\n")).await.unwrap(), commit, "it says so already");

    let nested = Place { path: "ci/deep/p.yaml".into(), ..place.clone() };
    assert!(matches!(git.read(&nested).await, Err(GitError::NoFile { .. })));
    git.write(&nested, &change("three")).await.unwrap();
    assert_eq!(origin.git(&["ls-tree", "-r", "--name-only", "main"], ""), "ci/deep/p.yaml\np.yaml", "nothing else is touched");
}

#[tokio::test]
async fn a_branch_that_moved_is_told_and_nothing_is_overwritten() {
    let origin = Origin::new("one");
    let (git, place) = (Git::default(), origin.place());
    let first = git.head(&place).await.unwrap();
    let second = git.write(&place, &Change { expected: first.clone(), ..change("two") }).await.unwrap();
    let stale = git.write(&place, &Change { expected: first, ..change("other") }).await.unwrap_err();
    assert_eq!(stale, GitError::Stale(second));
    assert_eq!(git.read(&place).await.unwrap().text, "two");
}

#[tokio::test]
async fn editors_at_the_same_time_lose_nothing() {
    let origin = Origin::new("one");
    let git = Git::default();
    let mut editors = tokio::task::JoinSet::new();
    for editor in 0..3 {
        let (git, place) = (git.clone(), Place { path: format!("{editor}.yaml"), ..origin.place() });
        editors.spawn(async move { git.write(&place, &change(&editor.to_string())).await });
    }
    let mut done = 0;
    while let Some(written) = editors.join_next().await {
        match written.unwrap() {
            Ok(_) => done += 1,
            Err(why) => assert!(matches!(why, GitError::Failed(_)), "{why}"),
        }
    }
    let files = origin.git(&["ls-tree", "--name-only", "main"], "");
    assert!(done >= 1 && files.lines().count() == done + 1, "{done} were told that they are done: {files}");
}

#[tokio::test]
async fn a_change_can_go_to_a_branch_of_its_own() {
    let origin = Origin::new("one");
    let (git, place) = (Git::default(), origin.place());
    let before = git.head(&place).await.unwrap();
    let commit = git.write(&place, &Change { onto: Some("arcgate/change".into()), ..change("two") }).await.unwrap();
    assert_eq!(git.head(&place).await.unwrap(), before);
    assert_eq!(origin.git(&["rev-parse", "arcgate/change"], ""), commit);
    assert_eq!(origin.git(&["show", "arcgate/change:p.yaml"], ""), "two");
}

#[tokio::test]
async fn what_is_wrong_is_named_and_no_password_is_told() {
    let origin = Origin::new("one");
    let git = Git::default();
    let no_branch = git.read(&Place { branch: "other".into(), ..origin.place() }).await.unwrap_err().to_string();
    assert!(no_branch.contains("branch other of /"), "{no_branch}");
    let url = "file:///user:secret@nowhere/at/all".to_owned();
    let nowhere = git.read(&Place { url, ..origin.place() }).await.unwrap_err().to_string();
    assert!(nowhere.contains("nowhere"), "{nowhere}");
    assert_eq!(command::without_password("https://me:secret@host/x"), "https://…@host/x");
    for (url, branch, path) in [
        ("-u", "main", "p"),
        ("ext::sh -c id", "main", "p"),
        ("relative", "main", "p"),
        ("/x", "--upload-pack=id", "p"),
        ("/x", "a..b", "p"),
        ("/x", "main", "../p"),
        ("/x", "main", ".git/config"),
    ] {
        let place = Place { url: url.into(), branch: branch.into(), path: path.into() };
        assert!(matches!(git.read(&place).await, Err(GitError::Setting(_))), "{place:?}");
    }
}
