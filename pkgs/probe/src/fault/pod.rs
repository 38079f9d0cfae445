//! A static pod that takes all memory, added and removed while the node runs.

use std::fs;

use anyhow::{Context, Result};
use kiln_contract::path;

use crate::node::ROOT;

/// The bytes of one allocation.
const CHUNK: usize = 16 << 20;

/// The pod's manifest. It has no limit, so that the pod takes all the memory that pods may have together.
const MANIFEST: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: hog
  namespace: kube-system
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
    - name: hog
      image: kiln.local/probe:latest
      imagePullPolicy: Never
      args: [hog]
";

fn manifest() -> String {
    format!("{ROOT}{}/hog.yaml", path::MANIFESTS)
}

pub(super) fn start_hog() -> Result<String> {
    fs::write(manifest(), MANIFEST).context("cannot write the manifest")?;
    Ok("a pod takes all memory\n".to_owned())
}

pub(super) fn stop_hog() -> Result<String> {
    fs::remove_file(manifest()).context("cannot remove the manifest")?;
    Ok("no pod takes all memory\n".to_owned())
}

/// Takes memory until it is killed.
pub(crate) fn hog() -> ! {
    let mut taken = Vec::new();
    loop {
        taken.push(vec![1_u8; CHUNK]);
        std::hint::black_box(&taken);
    }
}
