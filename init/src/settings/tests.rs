use proptest::prelude::*;

use super::data::DiskChoice;
use super::read::TEXT_BYTES_MAX;
use super::{Settings, parse};

const EVERYTHING: &str = r#"
hostname = "Node-1"
node-ip = ["192.0.2.0/24", "2001:db8::/64"]
provider-id = "kiln://rack-7/3"
modules = ["nbd"]
taints = ["dedicated=gpu:NoSchedule"]

[labels]
"topology.kubernetes.io/zone" = "a"
empty = ""

[sysctls]
"net.core.somaxconn" = "4096"
"vm.swappiness" = 10

[data]
required = true
blank = true
disk = { serial = "S1", size = "100g" }

[registries."docker.io"]
mirrors = ["https://mirror.example:5000"]
ca = "mirror"
username = "u"
password = "p"

[proxy]
http = "http://proxy.example:3128"
no = ["10.0.0.0/8", ".cluster.local"]

[console]
log = true
"#;

/// Parses a text and returns the settings and the lines for the console.
fn read(text: &str) -> (Settings, Vec<String>) {
    let (settings, problems) = parse(text.as_bytes());
    (settings, problems.lines())
}

#[test]
fn every_key_is_read() {
    let (settings, problems) = read(EVERYTHING);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(settings.hostname.as_deref(), Some("node-1"));
    assert_eq!(settings.node_ip.len(), 2);
    assert_eq!(settings.provider_id.as_deref(), Some("kiln://rack-7/3"));
    assert_eq!(settings.taints[0].to_string(), "dedicated=gpu:NoSchedule");
    assert_eq!(settings.labels.len(), 2);
    assert_eq!(settings.sysctls[1], ("vm/swappiness".into(), "10".into()));
    let disk = DiskChoice {
        serial: Some("S1".into()),
        size_min: Some(100 << 30),
        ..DiskChoice::default()
    };
    assert_eq!((settings.data.required, settings.data.disk), (true, Some(disk)));
    assert_eq!(settings.registries[0].ca.as_deref(), Some("mirror"));
    assert_eq!(settings.proxy.no.len(), 2);
    assert!(settings.console.log && settings.modules == ["nbd"]);
}

/// Checks that a text has exactly one problem, and that the other key still applies.
fn check(text: &str, problem: &str) {
    let (settings, problems) = read(&format!("{text}\n[console]\nlog = true\n"));
    assert_eq!(problems, [problem], "{text}");
    assert!(settings.console.log, "{text}");
}

#[test]
fn a_mistake_is_one_line_with_its_key_and_the_other_keys_apply() {
    check(
        "hostnme = \"a\"",
        "kiln.node:1: hostnme: unknown key, ignored; the keys are hostname, node-ip, provider-id, \
         modules, taints, labels, sysctls, data, registries, proxy, console",
    );
    check(
        "\nhostname = 7",
        "kiln.node:2: hostname: an integer is not a string, ignored; write a string",
    );
    check(
        "hostname = \"a_b\"",
        "kiln.node:1: hostname: not a host name of RFC 1123, ignored; use at most 63 lower-case \
         letters, digits, `-` and `.`",
    );
    check(
        "node-ip = [\"10.0.0.0/99\"]",
        "kiln.node:1: node-ip: \"10.0.0.0/99\" has an invalid prefix length, ignored; write \
         addresses or prefixes, such as \"192.0.2.0/24\"",
    );
    check(
        "[labels]\n\"kubernetes.io/role\" = \"a\"",
        "kiln.node:2: labels.\"kubernetes.io/role\": kubelet may not set this label, ignored; set it \
         with kubectl, or use a key below node.kubernetes.io or of another domain",
    );
    check(
        "[registries.\"a:1\"]\nusername = \"u\"",
        "kiln.node:1: registries.\"a:1\": one of username and password is missing, ignored; give both \
         username and password, or none",
    );
    check(
        "modules = [\"a/b\"]",
        "kiln.node:1: modules: \"a/b\" is not a module's name, ignored; write its name, such as \"nbd\"",
    );
    check(
        "modules = [\"a\", 1]",
        "kiln.node:1: modules[1]: an integer is not a string, ignored; write a string",
    );
    check(
        "[sysctls]\n\"vm.panic_on_oom\" = 1",
        "kiln.node:2: sysctls.\"vm.panic_on_oom\": kubelet runs only with the node's own value, \
         ignored; leave it out",
    );
    check("data = 1", "kiln.node:1: data: an integer is not a table, ignored; write a table");
    check(
        "provider-id = \"\"",
        "kiln.node:1: provider-id: empty, ignored; give it a value or remove it",
    );
}

#[test]
fn a_text_that_is_not_toml_is_one_line_and_is_ignored_as_a_whole() {
    let (settings, problems) = read("hostname = \"a\"\nhostname = \"b\"\n");
    assert_eq!(
        problems,
        [
            "kiln.node:2: not TOML: duplicate key; kiln.node is ignored as a whole until this is corrected"
        ]
    );
    assert_eq!(settings, Settings::default());
    for text in ["hostname", "[", "a = ", "#cloud-config\nusers: [a]\n", "\u{0}"] {
        let (settings, problems) = read(text);
        assert_eq!((settings, problems.len()), (Settings::default(), 1), "{text:?}");
    }
}

#[test]
fn bytes_that_are_not_utf8_and_a_text_that_is_too_long_are_one_line() {
    let (settings, problems) = parse(b"hostname = \"a\"\n\xff\xfe");
    assert_eq!(
        problems.lines(),
        ["kiln.node:2: not UTF-8; kiln.node is ignored as a whole until this is corrected"]
    );
    assert_eq!(settings, Settings::default());
    let (_, problems) = parse(&vec![b'#'; TEXT_BYTES_MAX + 1]);
    assert_eq!(problems.lines().len(), 1);
}

#[test]
fn only_a_text_that_is_ignored_as_a_whole_is_void() {
    let long = vec![b'#'; TEXT_BYTES_MAX + 1];
    for (text, void) in [
        (&b"hostname = \"a\""[..], false),
        (&b"colour = 1\nhostname = 2"[..], false),
        (&b""[..], false),
        (&b"hostname = "[..], true),
        (&b"\xff"[..], true),
        (&long[..], true),
    ] {
        let start = text.get(..20).unwrap_or(text).escape_ascii();
        assert_eq!(parse(text).1.is_void(), void, "{start}");
    }
}

#[test]
fn a_mistake_in_the_choice_of_a_disk_chooses_no_disk() {
    let (settings, problems) =
        read("[data]\nrequired = true\ndisk = { serial = \"S\", sise = \"1g\" }");
    assert_eq!((settings.data.disk, settings.data.required), (None, true));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[1].starts_with("kiln.node:3: data.disk: has a mistake, so no disk is chosen"));
    assert_eq!(read("data.disk = {}").0.data.disk, None);
}

#[test]
fn a_secret_is_never_part_of_a_message() {
    let (_, problems) = read(
        "[registries.a]\nusername = \"u\"\npassword = [\"secret\"]\nmirrors = [\"secret\"]\n\
         [proxy]\nhttp = \"user:secret@proxy\"\n",
    );
    assert!(problems.len() >= 3, "{problems:?}");
    assert!(!problems.concat().contains("secret"), "{problems:?}");
}

#[test]
fn the_number_of_lines_is_bounded() {
    let text: Vec<_> = (0..1000).map(|n| format!("k{n} = 1")).collect();
    let text = text.join("\n");
    let (_, problems) = read(&text);
    assert_eq!(problems.len(), 33);
    assert_eq!(problems[32], "kiln.node: 968 more mistakes, not shown");
}

proptest! {
    #[test]
    fn any_text_is_read(text in "(.|\n){0,200}") {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn any_value_of_any_key_leaves_the_other_keys(
        key in prop::sample::select(&[
            "hostname", "node-ip", "provider-id", "modules", "taints", "labels", "sysctls", "data",
            "registries", "proxy",
        ][..]),
        value in prop::sample::select(&[
            "1", "1.5", "true", "\"\"", "\"a\\nb\"", "[]", "[1, [2]]", "[\"\"]", "{}", "{ a = 1 }",
            "{ a = { b = [1] } }", "1979-05-27", "\"\u{1F600}\"", "[\"\u{1F600}\"]",
        ][..]),
    ) {
        let (settings, _) = read(&format!("{key} = {value}\n[console]\nlog = true\n"));
        prop_assert!(settings.console.log);
    }
}
