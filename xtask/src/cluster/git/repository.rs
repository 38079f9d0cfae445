//! Repositories of the server, and pushes to them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::layout::Layout;
use crate::process::Command;

/// One push: all files of a branch.
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    /// The repository's name, without `.git`.
    pub repository: &'a str,
    /// The branch.
    pub branch: &'a str,
    /// Paths with their contents; other files of the branch go away.
    pub files: &'a [(&'a str, &'a str)],
}

/// Creates an empty repository.
pub(super) fn create(server: &Layout, name: &str) -> Result<()> {
    let path = server.path("repositories").join(format!("{name}.git"));
    git(server).args(["init", "--quiet", "--bare"]).arg(path).output().map(drop)
}

/// Makes a commit and pushes it to a URL, also where it does not follow the branch's last one. Returns
/// its name.
pub(super) fn push(server: &Layout, commit: Commit<'_>, base: &str) -> Result<String> {
    let Commit { repository, branch, files } = commit;
    let work = work(server, repository)?;
    let git = |arguments: &[&str]| git(server).dir(&work).args(arguments).read();
    git(&["rm", "-r", "--quiet", "--force", "--ignore-unmatch", "."])?;
    for (path, content) in files {
        write(&work.join(path), content)?;
    }
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--allow-empty", "--message", "A change of a test"])?;
    let url = format!("{base}/{repository}.git");
    git(&["push", "--quiet", "--force", &url, &format!("HEAD:refs/heads/{branch}")])?;
    Ok(git(&["rev-parse", "HEAD"])?.trim().to_owned())
}

/// Returns the commit of a branch.
pub(super) fn head(server: &Layout, repository: &str, branch: &str) -> Result<String> {
    let folder = server.path("repositories").join(format!("{repository}.git"));
    // Git writes a branch to a file of its own, until its garbage collection packs all branches.
    if let Ok(commit) = fs::read_to_string(folder.join("refs/heads").join(branch)) {
        return Ok(commit.trim().to_owned());
    }
    let commit = git(server).arg("--git-dir").arg(&folder).args(["rev-parse", branch]).read()?;
    Ok(commit.trim().to_owned())
}

/// A command of the locked git, with a configuration of its own.
fn git(server: &Layout) -> Command {
    Command::new(server.program("git")).env("HOME", server.path("home"))
}

/// Returns the folder of a clone to work in.
fn work(server: &Layout, repository: &str) -> Result<PathBuf> {
    let folder = server.path("work").join(repository);
    if !folder.exists() {
        git(server).args(["init", "--quiet"]).arg(&folder).output()?;
    }
    Ok(folder)
}

fn write(path: &Path, content: &str) -> Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
