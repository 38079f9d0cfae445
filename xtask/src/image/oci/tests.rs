use serde_json::Value;

use super::super::tests::{listed, read_tar, sample};
use super::*;

const PLATFORM: Platform<'_> = Platform { architecture: "amd64", created: 86_400 };

fn image(name: &str) -> Image {
    Image {
        name: name.into(),
        owner: "dhcp".into(),
        files: sample(),
        entrypoint: vec!["/init".into(), "--serve".into()],
        user: "65532:65532".into(),
        env: vec!["A=b".into()],
        labels: BTreeMap::from([("org.opencontainers.image.licenses".into(), "Apache-2.0".into())]),
    }
}

/// Returns a blob after checking its digest and size against its descriptor.
fn blob<'a>(layout: &'a Layout, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = &layout.files[&format!("blobs/sha256/{digest}")].bytes;
    assert_eq!(Digest::of_bytes(bytes).to_string(), digest);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn every_digest_leads_to_its_bytes_and_the_layer_is_the_tree() {
    let made = layout(&[image("kiln.local/dhcp:latest")], PLATFORM).unwrap();
    let index = json(&made.files["index.json"].bytes);
    let descriptor = &index["manifests"][0];
    assert_eq!(descriptor["annotations"]["io.containerd.image.name"], "kiln.local/dhcp:latest");
    assert_eq!(
        descriptor["annotations"]["org.opencontainers.image.ref.name"],
        "kiln.local/dhcp:latest"
    );
    let manifest = json(blob(&made, descriptor));
    let config = json(blob(&made, &manifest["config"]));
    let layer = &manifest["layers"][0];
    assert_eq!(config["rootfs"]["diff_ids"][0], layer["digest"]);
    assert_eq!(read_tar(blob(&made, layer)), listed(&sample(), 86_400));
    assert_eq!(config["created"], "1970-01-02T00:00:00Z");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/init", "--serve"]));
    assert_eq!((&config["architecture"], &config["os"]), (&"amd64".into(), &"linux".into()));
}

#[test]
fn blobs_that_images_share_are_stored_once() {
    let images = [image("kiln.local/a:1"), image("kiln.local/b:1")];
    let one = layout(&images[..1], PLATFORM).unwrap();
    let two = layout(&images, PLATFORM).unwrap();
    assert_eq!(one.files.len(), two.files.len());
    assert_eq!(two.manifests["kiln.local/a:1"], two.manifests["kiln.local/b:1"]);
}

#[test]
fn keys_are_sorted_and_equal_input_gives_equal_bytes() {
    let make = || layout(&[image("kiln.local/a:1")], PLATFORM).unwrap();
    assert_eq!(make(), make());
    for (path, file) in &make().files {
        if let Ok(value) = serde_json::from_slice::<Value>(&file.bytes) {
            // The map of serde_json is sorted.
            assert_eq!(serde_json::to_vec(&value).unwrap(), &file.bytes[..], "{path}");
        }
    }
}

#[test]
fn a_layout_goes_into_a_tree_below_its_prefix() {
    let made = layout(&[image("kiln.local/a:1")], PLATFORM).unwrap();
    let mut tree = Tree::default();
    made.add_to(&mut tree, "/images").unwrap();
    assert!(tree.get("/images/oci-layout").is_some() && tree.get("/images/index.json").is_some());
    let blob = format!("/images/blobs/sha256/{}", made.manifests["kiln.local/a:1"]);
    assert_eq!(tree.get(&blob).unwrap().owner, "dhcp");
}

#[test]
fn an_image_that_could_not_be_started_is_refused() {
    let refused = |change: fn(&mut Image)| {
        let mut image = image("kiln.local/a:1");
        change(&mut image);
        format!("{:#}", layout(&[image], PLATFORM).unwrap_err())
    };
    let check = |change, message: &str| {
        let error = refused(change);
        assert!(error.contains(message), "{error}");
    };
    check(|image| image.name = "localhost:5000/a".into(), "has no tag");
    check(|image| image.user = "root".into(), "`uid:gid`");
    check(|image| image.entrypoint.clear(), "no entrypoint");
    check(|image| image.entrypoint = vec!["/etc/hosts".into()], "not an executable file");
    check(|image| image.entrypoint = vec!["/missing".into()], "not an executable file");
}

#[test]
fn two_images_of_one_name_are_refused() {
    let images = [image("kiln.local/a:1"), image("kiln.local/a:1")];
    assert!(layout(&images, PLATFORM).is_err());
}
