//! The folder of one cluster.
//!
//! ```text
//! pki/          keys and certificates
//! etcd/         the cluster's objects
//! logs/         output of the programs, and the nodes' consoles
//! nodes/        the nodes' credentials
//! registry/     the images that nodes pull
//! add-ons/      the manifests of the cluster network, for `kubectl apply -k`
//! pages/        the git server and the manifests of the pages service
//! kubeconfig    for kubectl
//! token         the token that nodes join with
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::pki::{self, Pki};
use crate::credential::token::Token;

/// The file that says that the next run goes on with this state.
const KEPT: &str = "kept";

/// The file that is locked while a cluster uses the folder.
const LOCK: &str = "lock";

/// Everything that a run writes into the folder, so that it can be deleted again.
const PARTS: [&str; 18] = [
    KEPT,
    "pki",
    "pki.new",
    "token",
    "kubeconfig",
    "controller-manager.kubeconfig",
    "scheduler.kubeconfig",
    "egress.json",
    "audit.json",
    "audit.log",
    "objects.json",
    "etcd",
    "logs",
    "nodes",
    "cache",
    "registry",
    "add-ons",
    "pages",
];

/// The folder of one cluster, which no other cluster uses meanwhile.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    /// Keys and certificates.
    pub pki: Pki,
    /// The token that nodes join with.
    pub token: Token,
    lock: File,
}

impl Drop for State {
    /// Closing the lock's file is not enough: another thread's child shares it until its execve(2).
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl State {
    /// Opens the folder of an earlier run that kept it, or begins a new one.
    pub fn open(folder: &Path) -> Result<Self> {
        create(folder)?;
        let lock = lock(folder)?;
        if !folder.join(KEPT).exists() {
            clear(folder)?;
        }
        for part in ["logs", "nodes"] {
            let part = folder.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("cannot create {}", part.display()))?;
        }
        let pki = Pki::prepare(&folder.join("pki"))?;
        let token = token(&folder.join("token"))?;
        Ok(Self { folder: folder.to_owned(), pki, token, lock })
    }

    /// Lets the next run go on with this state.
    pub fn keep(&self) -> Result<()> {
        let path = self.folder.join(KEPT);
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))
    }

    /// Deletes everything but the lock.
    pub fn delete(&self) -> Result<()> {
        clear(&self.folder)
    }

    /// The path of one of the parts of the folder.
    pub fn path(&self, part: &str) -> PathBuf {
        debug_assert!(PARTS.contains(&part), "{part} would outlive the run");
        self.folder.join(part)
    }

    /// The file with the requests to an API server without nodes.
    pub fn audit(&self) -> PathBuf {
        self.path("audit.log")
    }

    /// The folder for logs.
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// Writes a kubeconfig that uses one of the certificates, and returns its path.
    pub fn kubeconfig(&self, name: &str, user: &str, server: &str) -> Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "kiln", "cluster": {
                "server": server, "certificate-authority": self.pki.certificate(pki::CA),
            }}],
            "users": [{ "name": user, "user": {
                "client-certificate": self.pki.certificate(user), "client-key": self.pki.key(user),
            }}],
            "contexts": [{ "name": "kiln", "context": { "cluster": "kiln", "user": user } }],
            "current-context": "kiln",
        });
        let path = self.path(name);
        // JSON is valid YAML, and its writer quotes paths.
        fs::write(&path, format!("{config:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!(
            "another cluster uses {}; stop it, or choose another folder with --state",
            folder.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Creates the folder for its owner only: it has keys and the token.
fn create(folder: &Path) -> Result<()> {
    let context = || format!("cannot create {}", folder.display());
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).with_context(context)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(_) if folder.is_dir() => Ok(()),
        result => result.with_context(context),
    }
}

/// Deletes the parts of a state, and nothing else that the folder may have.
fn clear(folder: &Path) -> Result<()> {
    for part in PARTS {
        let path = folder.join(part);
        let deleted = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(_) => continue,
        };
        deleted.with_context(|| format!("cannot delete {}", path.display()))?;
    }
    Ok(())
}

/// Writes a file that only its owner can read.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the token that nodes join with, or makes one.
fn token(path: &Path) -> Result<Token> {
    if let Ok(text) = fs::read_to_string(path) {
        let token = text.trim().parse();
        return token.with_context(|| format!("cannot read {}; delete the file", path.display()));
    }
    let token = Token::random()?;
    write_secret(path, &token.reveal())?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_state_is_kept_only_if_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let token = |keep: bool| {
            let state = State::open(folder.path()).unwrap();
            if keep {
                state.keep().unwrap();
            }
            state.token.clone()
        };
        let (first, second) = (token(false), token(true));
        assert_ne!(first, second);
        assert_eq!(token(true), second);
    }

    #[test]
    fn a_folder_belongs_to_one_cluster_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let used = State::open(folder.path()).unwrap();
        let error = State::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another cluster uses"), "{error}");
        drop(used);
        assert!(State::open(folder.path()).is_ok());
    }

    #[test]
    fn other_files_in_the_folder_stay_and_all_parts_go() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "x").unwrap();
        let state = State::open(folder.path()).unwrap();
        state.keep().unwrap();
        for part in PARTS {
            let path = state.path(part);
            if !path.exists() {
                fs::write(path, "").unwrap();
            }
        }
        state.delete().unwrap();
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [LOCK, "mine"]);
    }

    #[test]
    fn only_the_owner_reads_a_state() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new/state");
        let state = State::open(&folder).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&state.path("token"))), (0o700, 0o600));
    }
}
