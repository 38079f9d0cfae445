//! Container images as an OCI image layout, made without a container engine.
//!
//! Format: the OCI Image Specification 1.1 (`image-layout.md`, `config.md`, `manifest.md`). One
//! uncompressed layer per image: the file system that holds the layout compresses it, and
//! containerd unpacks it without inflating.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use kiln_base::calendar::{Civil, Precision};
use serde::Serialize;

use super::tar;
use crate::digest::Digest;
use crate::tree::{Content, Node, Tree};

const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MEDIA_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// containerd's annotation for the whole name; its importer takes an image's name from here.
const ANNOTATION_NAME: &str = "io.containerd.image.name";

/// The specification's annotation. It often has the tag alone, which here would name every image
/// `latest`.
const ANNOTATION_REF: &str = "org.opencontainers.image.ref.name";

/// The content of the file that marks a folder as an image layout.
const LAYOUT_MARK: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The largest image; far above what a node should carry in memory.
const IMAGE_BYTES_MAX: u64 = 1 << 30;

/// An image to be made.
#[derive(Debug, Clone)]
pub struct Image {
    /// Whole name with tag, `kiln.local/dhcp:latest`.
    pub name: String,
    /// The package that it belongs to.
    pub owner: String,
    /// The one layer.
    pub files: Tree,
    /// The program, absolute, and its first arguments.
    pub entrypoint: Vec<String>,
    /// `uid:gid` in numbers, because an image need not have an `/etc/passwd`.
    pub user: String,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// Labels of the configuration.
    pub labels: BTreeMap<String, String>,
}

/// The properties of all images of one layout.
#[derive(Debug, Clone, Copy)]
pub struct Platform<'a> {
    /// The architecture by Go's name: `amd64`, `arm64`.
    pub architecture: &'a str,
    /// Creation time of images and files, in seconds since 1970.
    pub created: u32,
}

/// An image layout as files, and its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Path below the layout's folder, without a leading slash → file.
    pub files: BTreeMap<String, File>,
    /// Manifest digest of each image, by its name.
    pub manifests: BTreeMap<String, Digest>,
}

/// One file of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its bytes.
    pub bytes: Arc<[u8]>,
    /// The package whose image has it, the first one if several have; `images` for the index.
    pub owner: String,
}

impl Layout {
    /// Puts the layout's files into a tree, below `prefix` (absolute, no slash at its end).
    pub fn add_to(&self, tree: &mut Tree, prefix: &str) -> Result<()> {
        for (path, file) in &self.files {
            let node = Node::File(0o444, Content::Bytes(Arc::clone(&file.bytes)));
            tree.add(&format!("{prefix}/{path}"), &file.owner, node)?;
        }
        Ok(())
    }

    /// Returns name and manifest's digest of the only image.
    pub fn only(&self) -> Result<(&str, Digest)> {
        let (name, digest) = self.manifests.first_key_value().context("the layout has no image")?;
        ensure!(self.manifests.len() == 1, "the layout has {} images", self.manifests.len());
        Ok((name, *digest))
    }

    /// Returns the layout as a tar file for `ctr images import`; `time` is in seconds since 1970.
    pub fn archive(&self, time: u64) -> Result<Vec<u8>> {
        let mut tree = Tree::default();
        self.add_to(&mut tree, "")?;
        let mut out = Vec::new();
        tar::write(&tree, time, &mut out)?;
        Ok(out)
    }

    /// Writes the layout as a folder; blobs of an older layout there stay.
    pub fn write(&self, folder: &Path) -> Result<()> {
        for (path, file) in &self.files {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, &file.bytes))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn add_blob(&mut self, bytes: Vec<u8>, media_type: &'static str, owner: &str) -> Descriptor {
        let digest = Digest::of_bytes(&bytes);
        let size = bytes.len() as u64;
        let file = File { bytes: bytes.into(), owner: owner.to_owned() };
        self.files.entry(format!("blobs/sha256/{digest}")).or_insert(file);
        Descriptor {
            annotations: BTreeMap::new(),
            digest: format!("sha256:{digest}"),
            media_type,
            size,
        }
    }

    fn add_shared(&mut self, path: &str, bytes: Vec<u8>) {
        self.files
            .insert(path.to_owned(), File { bytes: bytes.into(), owner: "images".to_owned() });
    }
}

/// Makes the layout that holds all of `images`.
pub fn layout(images: &[Image], platform: Platform<'_>) -> Result<Layout> {
    let mut layout = Layout { files: BTreeMap::new(), manifests: BTreeMap::new() };
    let mut manifests = Vec::new();
    let mut seen = BTreeSet::new();
    for image in images {
        ensure!(seen.insert(&image.name), "two images have the name `{}`", image.name);
        let manifest = add_image(&mut layout, image, platform)
            .with_context(|| format!("cannot make the image `{}`", image.name))?;
        manifests.push(manifest);
    }
    let index = Index { manifests, media_type: MEDIA_INDEX, schema_version: 2 };
    layout.add_shared("index.json", serde_json::to_vec(&index)?);
    layout.add_shared("oci-layout", LAYOUT_MARK.into());
    Ok(layout)
}

/// Adds layer, configuration and manifest; returns the manifest's entry for the index.
fn add_image(layout: &mut Layout, image: &Image, platform: Platform<'_>) -> Result<Descriptor> {
    check(image)?;
    let mut layer = Vec::new();
    tar::write(&image.files, platform.created.into(), &mut layer)?;
    let layer = layout.add_blob(layer, MEDIA_LAYER, &image.owner);
    // The layer is not compressed, so its digest as a blob is also its `diff_id`.
    let config = serde_json::to_vec(&ImageConfig::new(image, platform, &layer.digest))?;
    let config = layout.add_blob(config, MEDIA_CONFIG, &image.owner);
    let manifest =
        Manifest { config, layers: [layer], media_type: MEDIA_MANIFEST, schema_version: 2 };
    let manifest = serde_json::to_vec(&manifest)?;
    layout.manifests.insert(image.name.clone(), Digest::of_bytes(&manifest));
    let mut manifest = layout.add_blob(manifest, MEDIA_MANIFEST, &image.owner);
    manifest.annotations.insert(ANNOTATION_NAME, image.name.clone());
    manifest.annotations.insert(ANNOTATION_REF, image.name.clone());
    Ok(manifest)
}

/// Refuses an image without a valid name or entrypoint.
fn check(image: &Image) -> Result<()> {
    let tagged = image.name.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'));
    ensure!(tagged, "the name has no tag: write `{}:latest`", image.name);
    let numeric = |id: &str| id.parse::<u32>().is_ok();
    ensure!(
        image.user.split_once(':').is_some_and(|(uid, gid)| numeric(uid) && numeric(gid)),
        "the user `{}` must be `uid:gid` in numbers, for example `65532:65532`",
        image.user
    );
    let program = image.entrypoint.first().context("there is no entrypoint")?;
    match image.files.get(program).map(|entry| &entry.node) {
        Some(Node::File(mode, _)) if mode & 0o111 != 0 => {}
        Some(Node::Link(_)) => {}
        _ => bail!("the entrypoint `{program}` is not an executable file of the image"),
    }
    let size: u64 = image.files.iter().map(|(_, entry)| size(&entry.node)).sum();
    ensure!(size <= IMAGE_BYTES_MAX, "its files have {size} bytes, at most {IMAGE_BYTES_MAX} fit");
    Ok(())
}

fn size(node: &Node) -> u64 {
    if let Node::File(_, content) = node { content.len() } else { 0 }
}

/// An entry in an index or manifest. Fields of all these structs are in the order of their names.
#[derive(Serialize)]
struct Descriptor {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
    digest: String,
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    manifests: Vec<Descriptor>,
    media_type: &'static str,
    schema_version: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Descriptor,
    layers: [Descriptor; 1],
    media_type: &'static str,
    schema_version: u32,
}

#[derive(Serialize)]
struct ImageConfig<'a> {
    architecture: &'a str,
    config: Process<'a>,
    created: String,
    os: &'static str,
    rootfs: RootFs<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Process<'a> {
    entrypoint: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    env: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    user: &'a str,
}

#[derive(Serialize)]
struct RootFs<'a> {
    diff_ids: [&'a str; 1],
    #[serde(rename = "type")]
    kind: &'static str,
}

impl<'a> ImageConfig<'a> {
    fn new(image: &'a Image, platform: Platform<'a>, diff_id: &'a str) -> Self {
        let config = Process {
            entrypoint: &image.entrypoint,
            env: &image.env,
            labels: &image.labels,
            user: &image.user,
        };
        Self {
            architecture: platform.architecture,
            config,
            created: Civil::from_seconds(platform.created.into())
                .rfc3339(Precision::Seconds)
                .to_string(),
            os: "linux",
            rootfs: RootFs { diff_ids: [diff_id], kind: "layers" },
        }
    }
}

#[cfg(test)]
mod tests;
