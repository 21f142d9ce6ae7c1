//! What `doctor`, and a start, say of hosts that are not as they should be.

mod plane_support;

use std::path::Path;
use std::process::Command;

use plane_support::{Scratch, output, ringdesk};
use serde_json::Value;

fn findings(text: &str) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let of = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|f| (of(f, "check"), of(f, "state"), of(f, "advice"))).collect()
}

/// The binary, through a shell or an interpreter that changes the process first.
fn through(scratch: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(scratch).env("RINGDESK__STORAGE__SEGMENT_MB", "1");
    command
}

#[test]
fn a_host_that_is_well_is_told_so_and_nothing_is_left_behind() {
    let scratch = Scratch::new();
    let free = [
        "doctor",
        "--json",
        "--data-dir",
        "data",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let (status, text, errors) = output(ringdesk(&scratch.0).args(free));
    assert_eq!(status, Some(0), "{text} {errors}");
    let findings = findings(&text);
    for check in [
        "kernel",
        "io_uring",
        "connections",
        "cores",
        "memory",
        "clock",
        "data directory",
        "disk",
        "public port",
    ] {
        let finding =
            findings.iter().find(|(name, ..)| name == check).unwrap_or_else(|| panic!("{check}: {text}"));
        assert_ne!(finding.1, "FAIL", "{finding:?}");
    }
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0, "it changes nothing");
}

#[test]
fn few_descriptors_are_a_warning_with_what_to_do() {
    let scratch = Scratch::new();
    let line = format!(
        "ulimit -n 256; exec {} doctor --json --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0",
        env!("CARGO_BIN_EXE_ringdesk")
    );
    let (status, text, _) = output(&mut through(&scratch.0, "sh", &["-c", &line]));
    assert_eq!(status, Some(0));
    let (_, state, advice) = findings(&text).into_iter().find(|(check, ..)| check == "connections").unwrap();
    assert_eq!(state, "WARN");
    assert!(advice.contains("ulimit -n") && advice.contains("LimitNOFILE"), "{advice}");
}

#[test]
fn a_filter_that_denies_io_uring_is_found_by_doctor_and_ends_a_start_with_its_own_status() {
    let scratch = Scratch::new();
    let deny = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plane_support/deny_io_uring.py");
    for verb in ["doctor", "serve"] {
        let arguments = [
            deny,
            env!("CARGO_BIN_EXE_ringdesk"),
            verb,
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ];
        let (status, text, errors) = output(&mut through(&scratch.0, "python3", &arguments));
        assert_eq!(status, Some(71), "{text} {errors}");
        let said = text + &errors;
        assert!(said.contains("seccomp") && said.contains("io_uring_register in the profile"), "{said}");
    }
}

#[test]
fn a_port_that_somebody_else_has_fails_with_the_status_of_a_start() {
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, text, _) =
        output(ringdesk(&scratch.0).args(["doctor", "--listen", &address, "--admin-listen", "127.0.0.1:0"]));
    assert_eq!(status, Some(75), "{text}");
    assert!(text.contains("FAIL public port") && text.contains("ss -ltnp"), "{text}");
}
