//! The helper `kiln-late-pods`: gives kubelet the pods that wait for the network.
//!
//! A pod asks for this with an annotation ([`kiln_contract::pod`]), and the builder puts its
//! manifest into a folder of its own. If such pods started earlier, they would take CPU time from
//! the pods that bring the network up.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use kiln_base::replace::{self, Durability};
use kiln_contract::path;

use crate::console::kmsg;
use crate::kernel::network;

/// The longest wait. A node that never gets a network starts these pods too, because some of them
/// are useful without one.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for a default route and copies the manifests. A manifest that cannot be copied is a
/// warning.
#[must_use]
pub fn run() -> i32 {
    let (from, to) = (Path::new(path::LATE_MANIFESTS), Path::new(path::MANIFESTS));
    if fs::read_dir(from).map_or(true, |mut files| files.next().is_none()) {
        return 0;
    }
    kmsg::open();
    if !kmsg::warn_on_error(network::wait_for_default_route(PATIENCE)).unwrap_or_default() {
        let seconds = PATIENCE.as_secs();
        kmsg::notice(format_args!("no default route after {seconds} s, starting the other pods"));
    }
    i32::from(kmsg::warn_on_error(give(from, to)).is_none())
}

/// Copies the manifests, except those whose name exists: a pod from a credential wins.
///
/// The copy is renamed into place, because kubelet reads every file without a leading dot.
fn give(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let name = entry.with_context(|| format!("cannot list {}", from.display()))?.file_name();
        let file = to.join(&name);
        if file.exists() {
            continue;
        }
        replace::copy(&from.join(&name), &file, Durability::None)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::give;

    #[test]
    fn an_existing_pod_is_kept() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["a.yaml", "b.yaml"] {
            fs::write(from.path().join(name), "baked").unwrap();
        }
        fs::write(to.path().join("b.yaml"), "credential's").unwrap();
        give(from.path(), to.path()).unwrap();
        let text = |name: &str| fs::read_to_string(to.path().join(name)).unwrap();
        assert_eq!((text("a.yaml"), text("b.yaml")), ("baked".into(), "credential's".into()));
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 2, "no temporary file is left");
    }
}
