//! Golden errors: each names the file, the line and the key, and the next step.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::Path;

use expect_test::{Expect, expect};

use super::Config;
use super::erofs::Compression;
use crate::arch::Arch;
use crate::source::Source;

pub(super) type Files = BTreeMap<&'static str, String>;

const BUILD: &str = r#"name = "test"
date = 2026-11-21
kernel = "k"
parameters = ["rootfstype=ramfs"]
packages = ["init", "tool", "page"]
pods = ["page"]
compression = "lz4hc,12"
module-compression = "lzma,6"
cluster-kib = 64
[budget]
uki-mib = 72
uki-limit-mib = 80
executables = 8
init-kib = 2048
"#;

const KERNEL: &str = r#"package = "linux"
early-modules = ["erofs"]
load = []
modules = ["veth"]
groups = ["nfs"]
[group.nfs]
about = "NFS"
modules = ["nfsv4"]
[group.xfs]
about = "XFS"
modules = ["xfs"]
[options]
CONFIG_EROFS_FS = "m"
"#;

const TOOL: &str = r#"about = "a tool"
license = "MIT"
[source.go]
programs = { tool = "example.test/tool" }
[output.rootfs]
"tool" = "/usr/bin/tool"
"#;

const PAGE: &str = r#"about = "a page"
license = "MIT"
[source.crate]
package = "page"
[output.image]
entrypoint = ["/page"]
user = "1:1"
[output.image.files]
"page" = "/page"
"#;

const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  name: page
spec:
  hostNetwork: true
  containers:
    - name: page
      image: kiln.local/page:latest
      imagePullPolicy: Never
      ports:
        - containerPort: 8080
";

fn deb(name: &str) -> String {
    format!(
        "about = \"d\"\nlicense = \"MIT\"\n[source.deb]\npackage = \"{name}-${{debian-arch}}\"\n"
    )
}

pub(super) fn files() -> Files {
    let mut files = Files::from([
        ("/r/build.toml", BUILD.to_owned()),
        ("/r/kernel/k.toml", KERNEL.to_owned()),
        ("/r/pkgs/tool/pkg.toml", TOOL.to_owned()),
        ("/r/pkgs/page/pkg.toml", PAGE.to_owned()),
        ("/r/pkgs/init/pkg.toml", TOOL.replace("tool", "init")),
        ("/r/manifests/page.yaml", POD.to_owned()),
    ]);
    let names = "linux qemu ovmf kmod ukify e2fsprogs erofs-utils virt-firmware \
        kernel-hardening-checker systemd-boot-efi h2o lighttpd nginx haproxy \
        nginx-stream slowhttptest crane docker-registry nfs-ganesha genisoimage fcgiwrap \
        git libnss-wrapper openssh-server chromium coredns etcd flannel kube-proxy kubernetes \
        node-controller pages";
    for name in names.split(' ') {
        files.insert(format!("/r/pkgs/{name}/pkg.toml").leak(), deb("x"));
    }
    files
}

pub(super) fn load(files: &Files, path: &str) -> anyhow::Result<Config> {
    let read = |path: &Path| {
        let text = files.get(path.to_str().unwrap_or(""));
        text.cloned().ok_or_else(|| Error::from(ErrorKind::NotFound))
    };
    Config::load(&read, Path::new(path), Arch::X86_64)
}

/// Returns the configuration of these tests with one text replaced, for the tests of other stages.
pub(crate) fn sample(file: &'static str, from: &str, to: &str) -> Config {
    let mut files = files();
    let text = files.get(file).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    files.insert(file, text.replacen(from, to, 1));
    load(&files, "/r/build.toml").unwrap()
}

/// Replaces text in one file and expects this error.
#[expect(clippy::needless_pass_by_value, reason = "so that a golden text stands in the call")]
pub(super) fn check(file: &'static str, from: &str, to: &str, expect: Expect) {
    let mut files = files();
    let text = files.get(file).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    let text = text.replacen(from, to, 1);
    files.insert(file, text);
    let error = load(&files, "/r/build.toml").map(drop).unwrap_err();
    expect.assert_eq(&format!("{error:#}"));
}

#[test]
fn a_whole_configuration_is_read() {
    let config = load(&files(), "/r/build.toml").unwrap();
    assert_eq!((config.name.as_str(), config.date), ("test", 1_795_219_200));
    assert_eq!(config.ports(), [8080]);
    assert_eq!(config.erofs.compression, Compression::Lz4hc(12));
    assert_eq!(config.kernel.early, ["erofs"]);
    assert_eq!(config.kernel.modules, ["veth"]);
    let Source::Deb(deb) = &config.package("linux").source else { panic!("no deb") };
    assert_eq!(deb.request.package, "x-amd64");
}

#[test]
fn the_expanded_configuration_merges_all_files() {
    let table: toml::Table = load(&files(), "/r/build.toml").unwrap().expanded().parse().unwrap();
    assert_eq!(table["packages"].as_array().unwrap().len(), 3);
    assert_eq!(table["compression"].as_str(), Some("lz4hc,12"));
    assert_eq!(table["modules"], toml::Value::from(vec!["veth"]));
}

#[test]
fn an_unknown_key_is_named() {
    check(
        "/r/build.toml",
        "kernel =",
        "kernal =",
        expect![
            "/r/build.toml:3: `kernal`: unknown field `kernal`, expected one of `inherit`, `name`, `date`, `kernel`, `module-groups`, `modules`, `parameters`, `packages`, `pods`, `folders`, `compression`, `module-compression`, `cluster-kib`, `budget`"
        ],
    );
    check(
        "/r/pkgs/tool/pkg.toml",
        "programs =",
        "tagz = []\nprograms =",
        expect![
            "/r/pkgs/tool/pkg.toml:4: `tagz`: unknown field `tagz`, expected one of `programs`, `tags`, `version-of`, `variables`, `cgo`, `libraries`, `ldflags`"
        ],
    );
}

#[test]
fn a_wrong_type_is_named() {
    check(
        "/r/build.toml",
        "executables = 8",
        "executables = \"8\"",
        expect![[r#"/r/build.toml:13: `executables`: invalid type: string "8", expected usize"#]],
    );
    check(
        "/r/build.toml",
        "2026-11-21",
        "\"today\"",
        expect![[
            r#"/r/build.toml:2: `date`: invalid type: string "today", expected a TOML datetime"#
        ]],
    );
    check(
        "/r/build.toml",
        "2026-11-21",
        "2026-11-21T10:00:00Z",
        expect![
            "/r/build.toml:2: `date`: must be a day from 1970 to 2105, without a time, like 2026-11-21"
        ],
    );
}

#[test]
fn a_bad_value_is_named_with_good_ones() {
    check(
        "/r/build.toml",
        "lz4hc,12",
        "lz4hc,13",
        expect![
            "/r/build.toml:7: `compression`: must be `none`, `lz4hc,LEVEL` (1 to 12) or `zstd,LEVEL` (1 to 22)"
        ],
    );
    check(
        "/r/build.toml",
        "lzma,6",
        "none",
        expect![
            "/r/build.toml:8: `module-compression`: must be `lz4hc,LEVEL` (1 to 12), `zstd,LEVEL` (1 to 22) or `lzma,LEVEL` (0 to 9)"
        ],
    );
    check(
        "/r/build.toml",
        "cluster-kib = 64",
        "cluster-kib = 65",
        expect!["/r/build.toml:9: `cluster-kib`: must be a power of two from 4 to 1024"],
    );
    check(
        "/r/build.toml",
        "\"test\"",
        "\"Test 1\"",
        expect!["/r/build.toml:1: `name`: a name has lower-case letters, digits and `-` only"],
    );
    check(
        "/r/build.toml",
        "rootfstype=ramfs",
        "quiet",
        expect![
            "/r/build.toml: `parameters`: `rootfstype=ramfs` is missing: without it the root cannot be mounted from memory"
        ],
    );
}

#[test]
fn a_missing_key_is_named_with_an_example() {
    check(
        "/r/build.toml",
        "name = \"test\"\n",
        "",
        expect![[
            r#"/r/build.toml: a key is missing in this file and in those that it inherits: add `name = "kiln"`"#
        ]],
    );
    check(
        "/r/build.toml",
        "\"init\", ",
        "",
        expect!["/r/build.toml: `packages`: `init` is missing: it is PID 1"],
    );
    check(
        "/r/build.toml",
        "init-kib = 2048\n",
        "",
        expect![
            "/r/build.toml: a key is missing in this file and in those that it inherits: add `init-kib = …` below `[budget]`"
        ],
    );
}

#[test]
fn the_error_for_an_unknown_name_has_the_searched_folders() {
    check(
        "/r/build.toml",
        "\"tool\"",
        "\"toool\"",
        expect![
            "/r/build.toml:5: `packages`: there is no package `toool`; looked for pkgs/toool/pkg.toml in /r"
        ],
    );
    check(
        "/r/build.toml",
        "pods = [\"page\"]",
        "pods = [\"pag\"]",
        expect![
            "/r/build.toml:6: `pods`: there is no manifest `pag`; looked for manifests/pag.yaml in /r"
        ],
    );
    check(
        "/r/build.toml",
        "kernel = \"k\"",
        "kernel = \"x\"",
        expect![
            "/r/build.toml:3: `kernel`: there is no kernel `x`; looked for kernel/x.toml in /r"
        ],
    );
    check(
        "/r/build.toml",
        "name =",
        "inherit = \"../none.toml\"\nname =",
        expect![
            "/r/build.toml:1: `inherit`: cannot inherit: cannot read /none.toml: entity not found"
        ],
    );
}

#[test]
fn a_package_has_one_source_and_one_output() {
    check(
        "/r/pkgs/tool/pkg.toml",
        "[output",
        "[source.deb]\npackage = \"x\"\n[output",
        expect![
            "/r/pkgs/tool/pkg.toml:3: `[source.go]`: a package has exactly one [source.KIND] table, but this one has 2"
        ],
    );
    check(
        "/r/pkgs/tool/pkg.toml",
        "[output",
        "[output.host]\na = \"b\"\n[output",
        expect![
            "/r/pkgs/tool/pkg.toml:5: `[output.host]`: a package has at most one of [output.rootfs], [output.image] and [output.host]"
        ],
    );
}

#[test]
fn a_manifest_that_cannot_start_is_refused() {
    check(
        "/r/manifests/page.yaml",
        "kind: Pod",
        "kind: Deployment",
        expect!["/r/manifests/page.yaml: a static pod must be a v1/Pod, not v1/Deployment"],
    );
    check(
        "/r/manifests/page.yaml",
        "local/page",
        "local/pages",
        expect![
            "/r/manifests/page.yaml:9: `image: kiln.local/pages:latest` is not in this build, which has kiln.local/page:latest. Add the package that makes it to `packages`, or correct the name"
        ],
    );
    check(
        "/r/manifests/page.yaml",
        "  name: page",
        "  name: page\n bad",
        expect![
            "/r/manifests/page.yaml:5: while parsing a block mapping, did not find expected key at line 5, column 2"
        ],
    );
    check(
        "/r/manifests/page.yaml",
        "containerPort: 8080",
        "containerPort: 80800",
        expect!["/r/manifests/page.yaml:12: invalid u16 at line 12, column 26"],
    );
}

#[test]
fn an_image_of_the_file_is_never_pulled() {
    let policy = "      imagePullPolicy: Never\n";
    check(
        "/r/manifests/page.yaml",
        policy,
        "",
        expect![
            "/r/manifests/page.yaml:9: `imagePullPolicy`: is missing for `kiln.local/page:latest`, so kubelet may look for a registry although the image is in the file; write `imagePullPolicy: Never` or `IfNotPresent`"
        ],
    );
    check(
        "/r/manifests/page.yaml",
        "Never",
        "Always",
        expect![
            "/r/manifests/page.yaml:10: `imagePullPolicy`: is `Always`, so kubelet may look for a registry although the image is in the file; write `imagePullPolicy: Never` or `IfNotPresent`"
        ],
    );
    check(
        "/r/manifests/page.yaml",
        "  containers:",
        "  initContainers:\n    - image: kiln.local/page:latest\n  containers:",
        expect![
            "/r/manifests/page.yaml:8: `imagePullPolicy`: is missing for `kiln.local/page:latest`, so kubelet may look for a registry although the image is in the file; write `imagePullPolicy: Never` or `IfNotPresent`"
        ],
    );
    check(
        "/r/manifests/page.yaml",
        "  containers:",
        "  volumes:\n    - name: v\n      image:\n        reference: kiln.local/page:latest\n  containers:",
        expect![
            "/r/manifests/page.yaml:10: `pullPolicy`: is missing for `kiln.local/page:latest`, so kubelet may look for a registry although the image is in the file; write `pullPolicy: Never` or `IfNotPresent`"
        ],
    );
    let mut files = files();
    let text = POD.replace("Never", "IfNotPresent");
    files.insert("/r/manifests/page.yaml", text);
    assert!(load(&files, "/r/build.toml").is_ok());
}

#[test]
fn an_inherited_file_fills_in_missing_keys() {
    let mut files = files();
    let own = "inherit = \"../r/build.toml\"\nname = \"own\"\npods = [\"more\"]\n[budget]\nexecutables = 9\n";
    files.insert("/own/build.toml", own.to_owned());
    files.insert("/own/manifests/more.yaml", POD.replace("8080", "9090"));
    let config = load(&files, "/own/build.toml").unwrap();
    assert_eq!(config.name, "own");
    assert_eq!(config.ports(), [9090], "a list replaces");
    assert_eq!((config.budget.executables, config.budget.uki_mib), (9, 72), "a table merges");
    assert_eq!(config.listed, ["init", "tool", "page"]);
    assert_eq!(
        config.rootfs,
        [Path::new("/r/rootfs"), Path::new("/own/rootfs")],
        "the nearest layer comes last"
    );
}

#[test]
fn the_nearest_layer_s_file_wins() {
    let mut files = files();
    files.insert(
        "/own/build.toml",
        "inherit = \"/r/build.toml\"\nfolders = [\"more\"]\n".to_owned(),
    );
    files.insert("/own/more/pkgs/tool/pkg.toml", TOOL.replace("a tool", "another tool"));
    assert_eq!(load(&files, "/own/build.toml").unwrap().package("tool").about, "another tool");
}

#[test]
fn a_file_that_inherits_itself_is_refused() {
    check(
        "/r/build.toml",
        "name =",
        "inherit = \"./build.toml\"\nname =",
        expect!["/r/build.toml:1: `inherit`: /r/build.toml is already inherited"],
    );
}

const URL: &str = r#"[source.url]
unpack = true
[source.url.x86_64]
url = "https://example.test/tool-1.2.tar.gz"
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
size = 3
"#;

/// Replaces the source of the package `tool` by [`URL`], in which one text is replaced.
fn check_url(from: &str, to: &str, expect: Expect) {
    let go = "[source.go]\nprograms = { tool = \"example.test/tool\" }\n";
    assert!(URL.contains(from), "{from}");
    check("/r/pkgs/tool/pkg.toml", go, &URL.replacen(from, to, 1), expect);
}

#[test]
fn a_file_from_elsewhere_is_pinned_by_its_table() {
    check_url(
        "x86_64",
        "aarch64",
        expect![
            "/r/pkgs/tool/pkg.toml:3: `[source.url]`: there is no file for x86_64; add a table `[source.url.x86_64]`"
        ],
    );
    check_url(
        "e3b0",
        "E3B0",
        expect!["/r/pkgs/tool/pkg.toml:7: `sha256`: sha256 must be 64 hexadecimal digits"],
    );
    check_url(
        ".tar.gz",
        ".zip",
        expect![
            "/r/pkgs/tool/pkg.toml:6: `url`: cannot unpack `tool-1.2.zip`: its name must end with .tar, .tar.gz, .tgz or .tar.xz"
        ],
    );
    check_url(
        "unpack = true",
        "unpack = true\nexecutable = true",
        expect![
            "/r/pkgs/tool/pkg.toml:4: `unpack`: `executable` is for a single file, because an archive has its own x bits; remove one of the keys"
        ],
    );
}
