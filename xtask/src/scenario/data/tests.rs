//! Valid and invalid scenario files.

use super::super::instruction::Get;
use super::*;

fn parse(text: &str) -> Result<Scenario> {
    Scenario::parse(text, Path::new("tests/vm/scenarios/x.toml"))
}

const BOOT: &str = "about = \"x\"\nports = [8080, 9090]\n[[step]]\nboot = \"build\"\n";

#[test]
fn a_complete_scenario_is_parsed() {
    let text = format!(
        "{BOOT}[[step]]\nget = {{ port = 8080 }}\n[[step]]\nprobe = {{ path = \"/p\", golden = \"p.txt\" }}\n\
         [[step]]\npower-button = true\n[[step]]\ndown = \"power-off\"\n"
    );
    let scenario = parse(&text).unwrap();
    assert_eq!((scenario.name.as_str(), scenario.memory), ("x", 1024));
    assert_eq!(scenario.images().collect::<Vec<_>>(), ["build"]);
    let get = Get {
        port: 8080,
        path: "/".into(),
        status: 200,
        tls: false,
        contains: None,
        lacks: Vec::new(),
        lines: None,
    };
    assert_eq!(scenario.instructions[1], Instruction::Get(get));
}

#[test]
fn a_mistake_is_reported_with_file_and_place() {
    let check = |rest: &str, expected: &str| {
        let error = format!("{:#}", parse(&format!("{BOOT}{rest}")).unwrap_err());
        assert!(error.contains("scenarios/x.toml") && error.contains(expected), "{rest}: {error}");
    };
    let end = "[[step]]\npower-cut = true\n";
    check(&format!("[[step]]\nwiat = \"x\"\n{end}"), "wiat");
    check(&format!("[[step]]\nget = {{ port = 8080, stauts = 1 }}\n{end}"), "stauts");
    check(&format!("[[step]]\nget = {{ port = 80 }}\n{end}"), "port 80 is not among");
    check(&format!("[[step]]\nlan = {{ acked = 1 }}\n{end}"), "needs `network = \"lan\"`");
    check(&format!("[[step]]\nboot = \"b\"\n{end}"), "still runs");
    check(
        &format!("{end}[[step]]\nconsole = \"x\"\n"),
        "instruction 3, console \"x\": no machine runs",
    );
    check("[[step]]\npower-cut = false\n", "takes `true`");
    check(&format!("[[step]]\nstall-disk = true\n{end}"), "no `disk`");
    check(&format!("{end}[[step]]\nunmounted = true\n"), "no `disk`");
    check(&format!("[[step]]\nunmounted = true\n{end}"), "still runs");
    check(
        &format!("[[step]]\nplug = {{ device = \"edu\", slot = 1 }}\n{end}"),
        "slot 1 is not among",
    );
    check(&format!("[[step]]\nunplug = 0\n{end}"), "slot 0 is not among");
    let act = "[[step]]\nact = { path = \"/fault/x\" }\n";
    check(&format!("{act}{end}"), "instruction 2, act /fault/x: wait for the probe");
    check("", "the last instruction must be");
    let stub = "qemu = [\"-smbios\", \"type=11,value=io.systemd.stub.kernel-cmdline-extra=a\"]\n";
    let error = format!("{:#}", parse(&format!("{stub}{BOOT}{end}")).unwrap_err());
    assert!(error.contains("use the key `cmdline`"), "{error}");
}

#[test]
fn a_scenario_boots_with_firmware_by_default() {
    let end = "[[step]]\npower-cut = true\n";
    assert!(parse(&format!("{BOOT}{end}")).unwrap().firmware);
    assert!(!parse(&format!("firmware = false\n{BOOT}{end}")).unwrap().firmware);
}

#[test]
fn a_scenario_must_start_with_a_boot() {
    let error = format!("{:#}", parse("about = \"x\"\nstep = []\n").unwrap_err());
    assert!(error.contains("first instruction must be `boot`"), "{error}");
}
