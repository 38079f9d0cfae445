//! A pod with an NFS volume, and what the host's `mount` says to mistakes.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use anyhow::{Context, Result};
use kiln_contract::path;

use crate::host;
use crate::node::ROOT;

/// The server's name, which the node finds in its `/etc/hosts`.
const SERVER: &str = "files.test";

/// QEMU's address of the host.
const ADDRESS: &str = "10.0.2.2";

const MANIFEST: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: nfs
  namespace: kube-system
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  hostNetwork: true
  terminationGracePeriodSeconds: 2
  containers:
    - name: nfs
      image: kiln.local/probe:latest
      imagePullPolicy: Never
      args: [write-file]
      volumeMounts:
        - name: share
          mountPath: /data
  volumes:
    - name: share
      nfs:
        server: files.test
        path: /share
";

/// The calls of `mount` that must fail, by their options and source.
const MISTAKES: [(&str, &str); 4] = [
    ("nfsvers=4.2", "files.test:/missing"),
    ("nfsvers=3", "files.test:/share"),
    ("nfsvers=4.2", "no-such-server.test:/share"),
    ("nfsvers=4.2,port=1", "files.test:/share"),
];

/// Starts the pod.
pub(crate) fn start() -> Result<String> {
    let mut hosts = OpenOptions::new().append(true).open(format!("{ROOT}/etc/hosts"))?;
    writeln!(hosts, "{ADDRESS} {SERVER}").context("cannot write /etc/hosts")?;
    fs::write(manifest(), MANIFEST).context("cannot write the manifest")?;
    Ok("a pod writes through NFS\n".to_owned())
}

/// Removes the pod.
pub(crate) fn stop() -> Result<String> {
    fs::remove_file(manifest()).context("cannot remove the manifest")?;
    Ok("no pod writes through NFS\n".to_owned())
}

fn manifest() -> String {
    format!("{ROOT}{}/nfs.yaml", path::MANIFESTS)
}

/// The work of the pod: writes a file on its volume, and stays.
pub(crate) fn write_file() -> Result<()> {
    let termination = kiln_daemon::signal::Termination::new()?;
    fs::write("/data/file", "written through NFS\n").context("cannot write to the volume")?;
    while !termination.wait(None)? {}
    Ok(())
}

/// Lists the host's NFS mounts by type and source, and the file that the pod wrote.
pub(crate) fn list() -> Result<String> {
    let mounts = fs::read_to_string("/proc/1/mounts").context("cannot read the host's mounts")?;
    let mut lines = Vec::new();
    for line in mounts.lines() {
        if let [source, target, kind @ ("nfs" | "nfs4"), options, ..] =
            line.split(' ').collect::<Vec<_>>()[..]
        {
            let version = options.split(',').find(|option| option.starts_with("vers="));
            let file = fs::read_to_string(format!("{ROOT}{target}/file")).unwrap_or_default();
            lines.push(format!("{kind} {source} {} {file}", version.unwrap_or_default()));
        }
    }
    Ok(lines.concat())
}

/// Mounts with each mistake and shows the error texts.
pub(crate) fn mistakes() -> Result<String> {
    let mut texts = Vec::new();
    for (options, source) in MISTAKES {
        let words = ["run", "/usr/bin/mount", "-t", "nfs", "-o", options, source, "/mnt"];
        let output = host::ask(&words)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        texts.push(format!("{}: {text}", output.status.code().unwrap_or(-1)));
    }
    Ok(texts.concat())
}
