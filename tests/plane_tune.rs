//! What `tune --check` says of the host that runs the tests, held against what its files say.

mod plane_support;

use std::path::Path;
use std::process::Command;

use plane_support::{Scratch, Server, output, ringdesk};
use serde_json::Value;

fn report(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn finding<'a>(report: &'a Value, item: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().find(|f| f["item"] == item).unwrap_or_else(|| panic!("nothing is said about {item}"))
}

/// The binary through a shell that changes the process first.
fn through_shell(scratch: &Path, before: &str, arguments: &str) -> Command {
    let mut shell = Command::new("sh");
    let line = format!("{before} {} tune --check --json {arguments}", env!("CARGO_BIN_EXE_ringdesk"));
    shell.args(["-c", &line]).current_dir(scratch);
    shell
}

#[test]
fn this_host_is_told_as_its_files_say_and_nothing_is_left_behind() {
    let scratch = Scratch::new();
    let (status, text, errors) =
        output(ringdesk(&scratch.0).args(["tune", "--check", "--json", "--data-dir", "data"]));
    assert_eq!(status, Some(0), "whatever is found: {text} {errors}");
    let report = report(&text);
    assert_eq!(report["schema"], 1);
    let keys = ["area", "command", "current", "item", "path", "reason", "risk", "state", "subject", "wanted"];
    let (mut counts, mut held) = ([0u64; 4], 0);
    for f in report["findings"].as_array().unwrap() {
        assert_eq!(f.as_object().unwrap().keys().collect::<Vec<_>>(), keys);
        let state = f["state"].as_str().unwrap();
        counts[["ok", "warn", "fail", "na"].iter().position(|s| s.to_uppercase() == state).unwrap()] += 1;
        // A sysctl that holds one number is told as that number.
        let path = f["path"].as_str().unwrap();
        let number = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i64>().ok());
        if let (true, Some(number), false) = (path.starts_with("/proc/sys/"), number, state == "NA") {
            let current = f["current"].as_str().unwrap();
            let first = current.split([',', ' ']).next().unwrap();
            assert_eq!(first, number.to_string(), "{f}");
            held += 1;
        }
    }
    for (name, count) in ["ok", "warn", "fail", "na"].iter().zip(counts) {
        assert_eq!(report["counts"][name], count, "{name}");
    }
    assert!(held > 10, "only {held} numbers were held against their files");
    for area in ["process", "cgroup", "kernel", "cpu", "memory", "network", "nic", "storage"] {
        assert!(report["findings"].as_array().unwrap().iter().any(|f| f["area"] == area), "{area}");
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(finding(&report, "release")["current"], release.trim());
    assert_ne!(finding(&report, "build")["state"], "FAIL", "this program runs here");
    assert!(!report["plan"]["shards"].as_array().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0, "it changes nothing");
}

#[test]
fn the_report_for_people_has_a_line_for_each_finding_and_one_that_counts() {
    let scratch = Scratch::new();
    let (status, text, errors) = output(ringdesk(&scratch.0).args(["tune", "--check"]));
    assert_eq!(status, Some(0), "{errors}");
    let begins = |state: &str| text.lines().filter(|l| l.starts_with(&format!("  {state:4} "))).count();
    let (ok, warn, fail, na) = (begins("OK"), begins("WARN"), begins("FAIL"), begins("NA"));
    let last = format!("{} items: {ok} OK, {warn} WARN, {fail} FAIL, {na} NA", ok + warn + fail + na);
    assert!(text.contains(&last), "{last}\n{text}");
    let of = |what: &str| text.lines().filter(|l| l.starts_with(&format!("       {what:4}  "))).count();
    assert_eq!((of("why"), of("do")), (warn + fail, warn + fail), "each says why, and what to do\n{text}");
}

#[test]
fn limits_of_the_process_are_seen_and_decide_the_status_only_if_asked() {
    let scratch = Scratch::new();
    for (fail_on, wanted) in [("", Some(0)), ("--fail-on warn", Some(1))] {
        let (status, text, _) =
            output(&mut through_shell(&scratch.0, "ulimit -n 1000; exec nice -n 19", fail_on));
        assert_eq!(status, wanted, "{text}");
        let report = report(&text);
        let nofile = finding(&report, "RLIMIT_NOFILE");
        assert_eq!(
            (&nofile["state"], &nofile["current"]),
            (&Value::from("WARN"), &Value::from("1000 (hard limit)"))
        );
        let nice = finding(&report, "nice");
        assert_eq!((&nice["state"], &nice["current"]), (&Value::from("WARN"), &Value::from("19")));
    }
}

#[test]
fn the_limits_of_a_server_that_runs_count_and_not_those_of_who_looks() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &[]);
    let (status, text, errors) =
        output(&mut through_shell(&scratch.0, "ulimit -n 1000; exec nice -n 0", "--data-dir data"));
    assert_eq!(status, Some(0), "{text} {errors}");
    let report = report(&text);
    assert_eq!(report["server"], server.pid());
    let nofile = finding(&report, "RLIMIT_NOFILE");
    assert_eq!(nofile["path"], format!("/proc/{}/limits", server.pid()));
    assert_ne!(nofile["current"], "1000 (hard limit)");
    server.stop();
}

#[test]
fn the_status_for_failures_is_that_of_the_report() {
    let scratch = Scratch::new();
    let (status, text, _) =
        output(ringdesk(&scratch.0).args(["tune", "--check", "--json", "--fail-on=fail"]));
    let failed = report(&text)["counts"]["fail"].as_u64().unwrap() > 0;
    assert_eq!(status, Some(i32::from(failed)), "{text}");
    // Memory is no disk.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    if mounts.lines().any(|line| line.contains(" /dev/shm ") && line.contains(" - tmpfs ")) {
        let arguments =
            ["tune", "--check", "--json", "--fail-on=fail", "--data-dir", "/dev/shm/ringdesk-not-there"];
        let (status, text, _) = output(ringdesk(&scratch.0).args(arguments));
        assert_eq!(
            (status, &finding(&report(&text), "file system")["state"]),
            (Some(1), &Value::from("FAIL"))
        );
        let (_, text, _) = output(ringdesk(&scratch.0).args(arguments).args(["--durability", "memory"]));
        assert_eq!(finding(&report(&text), "file system")["state"], "WARN");
        assert!(!Path::new("/dev/shm/ringdesk-not-there").exists());
    }
}

#[test]
fn settings_decide_what_is_wanted() {
    let scratch = Scratch::new();
    let mut command = ringdesk(&scratch.0);
    command.args(["tune", "--check", "--json", "--listen", "127.0.0.1:45001", "--shards", "1"]);
    let (_, text, errors) = output(&mut command);
    let report = report(&text);
    assert_eq!(report["plan"]["shards"].as_array().unwrap().len(), 1, "{errors}");
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let bounds: Vec<u16> = range.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let reserved = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap();
    if (bounds[0]..=bounds[1]).contains(&45_001) && reserved.trim().is_empty() {
        let ports = finding(&report, "net.ipv4.ip_local_reserved_ports");
        assert_eq!(ports["state"], "WARN");
        assert!(ports["command"].as_str().unwrap().contains("45001"), "{ports}");
    }
}

#[test]
fn without_a_mode_it_does_nothing_and_a_wrong_configuration_has_its_own_status() {
    let scratch = Scratch::new();
    let (status, text, errors) = output(ringdesk(&scratch.0).arg("tune"));
    assert_eq!((status, text.as_str()), (Some(2), ""));
    assert!(errors.contains("--check"), "{errors}");
    let (status, ..) = output(ringdesk(&scratch.0).args(["tune", "--check", "--shards", "many"]));
    assert_eq!(status, Some(3));
}
