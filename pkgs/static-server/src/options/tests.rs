//! The precedence of values, and the errors for invalid values.

use super::settings::SETTINGS;
use super::{Command, Options, Outside, help, parse};
use kiln_daemon::exit::Exit;
use std::ffi::{OsStr, OsString};

const FILE: &str = "port = 4\nsingle-page = true\nstatic-dir = \"/file\"\n";

fn run(args: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Command> {
    parse(&Outside {
        args: args.iter().map(OsString::from).collect(),
        variable: &|name| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        },
        file: &|name| match name.to_str() {
            Some("file") => Ok(FILE.to_owned()),
            Some("bad") => Ok("port = 1\nports = 2\n".to_owned()),
            Some("broken") => Ok("port = \"1\n".to_owned()),
            Some("wrong") => Ok("port = \"x\"\n".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        },
    })
}

fn options(args: &[&str], environment: &[(&str, &str)]) -> Options {
    match run(args, environment).unwrap() {
        Command::Serve(options) => *options,
        Command::Help => panic!("help"),
    }
}

fn check_port(args: &[&str], environment: &[(&str, &str)], expected: u16) {
    assert_eq!(options(args, environment).port, expected);
}

#[test]
fn a_flag_overrides_our_variable_then_kiss_then_the_file_then_the_default() {
    let (ours, kiss, file) =
        (("KILN_WEB_PORT", "2"), ("KISS_PORT", "3"), ("KILN_WEB_CONFIG", "file"));
    check_port(&["-p", "1"], &[ours, kiss, file], 1);
    check_port(&[], &[ours, kiss, file], 2);
    check_port(&[], &[kiss, file], 3);
    check_port(&[], &[file], 4);
    check_port(&[], &[], 8080);
    let found =
        options(&["--config", "file", "--single-page=false"], &[("KISS_STATIC_DIR", "/kiss")]);
    assert_eq!((found.policy.single_page, found.folder.to_str()), (false, Some("/kiss")));
}

#[test]
fn a_flag_may_be_joined_to_its_value_and_a_switch_needs_no_value() {
    for args in [&["--port=9"][..], &["--port", "9"], &["-p9"], &["-p", "9"], &["-p", "8", "-p9"]] {
        check_port(args, &[], 9);
    }
    let found = options(&["--single-page", "--strict", "-p", "1"], &[]);
    assert!(found.policy.single_page && found.strict && found.port == 1);
}

#[test]
fn a_services_address_from_kubernetes_is_not_a_port() {
    check_port(&[], &[("KISS_PORT", "tcp://10.0.0.1:80")], 8080);
    check_port(&[], &[("KILN_WEB_PORT", "tcp://10.0.0.1:80"), ("KISS_PORT", "7")], 7);
    check_port(&[], &[("KILN_WEB_PORT", "")], 8080);
}

fn check_error(args: &[&str], environment: &[(&str, &str)], exit: Exit, expected: &str) {
    let error = run(args, environment).unwrap_err();
    assert_eq!((Exit::of(&error), format!("{error:#}").as_str()), (exit, expected));
}

#[test]
fn an_error_names_the_place_and_the_value() {
    let usage = |args: &[&str], text: &str| {
        check_error(args, &[], Exit::Usage, &format!("wrong usage: {text}"));
    };
    usage(&["--port=x"], "--port: x is not a port (0 to 65535)");
    usage(&["--port"], "--port needs a value");
    usage(&["--ports", "1"], "unknown option --ports; --help lists them");
    usage(&["--pack", "a", "--hosts", "b"], "--pack and --hosts exclude each other");
    let config = |environment: &[(&str, &str)], text: &str| {
        check_error(&[], environment, Exit::Config, &format!("wrong configuration: {text}"));
    };
    config(
        &[("KISS_KEEPALIVE_TIMEOUT", "0")],
        "KISS_KEEPALIVE_TIMEOUT: 0 is not between 1 and 86400",
    );
    config(&[("KILN_WEB_CONFIG", "bad")], "bad:2: ports is not a setting; --help lists them");
    config(&[("KILN_WEB_CONFIG", "broken")], "broken:1: unterminated string");
    config(&[("KILN_WEB_CONFIG", "wrong")], "wrong:1: port: x is not a port (0 to 65535)");
    config(&[("KILN_WEB_CONFIG", "none")], "cannot read none: entity not found");
}

#[test]
fn the_defaults_in_the_help_are_the_defaults() {
    let mut options = Options::default();
    for setting in &SETTINGS {
        (setting.set)(&mut options, OsStr::new(setting.default)).unwrap();
        assert!(help().contains(setting.long));
    }
    assert_eq!(options, Options::default());
    assert_eq!(run(&["-p", "1", "--help"], &[]).unwrap(), Command::Help);
}
