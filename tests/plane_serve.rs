//! The server as a whole: it starts, says where it is, refuses what it must, and stops.

mod plane_support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use plane_support::{Connection, Scratch, Server, Socket, cid, output, ringdesk};

#[test]
fn it_tells_where_it_is_serves_and_stops_and_the_second_start_is_the_same_server() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &[]);
    for start in [
        "public: http://127.0.0.1:",
        "visitor: http://",
        "agent: http://",
        "admin: http://",
        "login: agent@localhost",
        "shards: ",
        "holds: ",
    ] {
        assert_eq!(
            server.text.iter().filter(|line| line.starts_with(start)).count(),
            1,
            "{start}: {:?}",
            server.text
        );
    }
    assert_eq!(server.get(server.admin, "/healthz").unwrap().text(), "ok\n");
    let (email, password) = server.login.clone().unwrap();
    let mut visitor = Socket::visitor(&server);
    let said = visitor.reply(
        "start",
        serde_json::json!({ "cid": cid(1), "first": { "cid": cid(2), "type": "text", "body": "hello" } }),
    );
    assert_eq!(said["level"], "disk");
    let inbox = server.inbox.clone();
    server.stop();
    // Whatever way it ends: told to come back, or closed.
    loop {
        match visitor.next() {
            Ok(envelope) if envelope["op"] == "goaway" => assert!(envelope["d"]["after_ms"].is_u64()),
            Ok(_) => {}
            Err(code) => {
                assert_eq!(code, 1001);
                break;
            }
        }
    }
    let (status, text, errors) =
        output(ringdesk(&scratch.0).args(["journal", "verify", "--data-dir", "data"]));
    assert_eq!(status, Some(0), "{errors}");
    assert!(
        text.contains("every acknowledged byte holds") && text.contains("sealed by a clean stop"),
        "{text}"
    );
    let (_, text, _) = output(ringdesk(&scratch.0).args(["journal", "dump", "--json", "--data-dir", "data"]));
    assert!(text.contains("\"name\":\"started\"") && text.contains("\"name\":\"message\""), "{text}");

    let server = Server::start(&scratch.0, &[]);
    assert_eq!((server.inbox.as_str(), server.login.is_none()), (inbox.as_str(), true));
    assert_eq!(server.login(&email, &password).status, 200);
    server.stop();
}

#[test]
fn the_first_login_is_told_before_anything_of_that_start_can_fail() {
    let scratch = Scratch::new();
    let serve = ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    // Nowhere to tell it: it is not made.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let said = ringdesk(&scratch.0).args(serve).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let errors = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(1), "{errors}");
    assert!(errors.contains("the first login cannot be told, so nothing was made"), "{errors}");

    // The account is made, and what comes behind it fails.
    let in_the_way = scratch.0.join("data/settings.bin.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let (status, text, errors) = output(ringdesk(&scratch.0).args(serve));
    assert_eq!(status, Some(4), "{errors}");
    let (email, password) = text.trim().strip_prefix("login: ").unwrap().split_once("  password: ").unwrap();
    assert!(errors.contains("the login above holds unless the next start tells another one"), "{errors}");
    std::fs::remove_dir(&in_the_way).unwrap();
    let server = Server::start(&scratch.0, &[]);
    assert_eq!(server.login, None);
    assert_eq!(server.login(email, password).status, 200);
    server.stop();
}

#[test]
fn metrics_pass_promtool_and_show_shards_followers_and_http() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &["--shards", "2"]);
    let mut visitor = Socket::visitor(&server);
    visitor.reply(
        "start",
        serde_json::json!({ "cid": cid(1), "first": { "cid": cid(2), "type": "text", "body": "hello" } }),
    );
    assert_eq!(server.login("agent@localhost", "wrong").status, 401);
    plane_support::eventually("the follower counts", || {
        server.metric("ringdesk_follower_records_total") >= 2.0
    });
    let answer = server.get(server.admin, "/metrics").unwrap();
    assert!(answer.field("content-type").starts_with("text/plain; version=0.0.4"));
    let page = answer.text();
    for line in [
        "ringdesk_turns_total{shard=\"1\"} ",
        "ringdesk_loop_lag_seconds_bucket{shard=\"0\",le=\"+Inf\"} ",
        "ringdesk_write_latency_seconds_count{shard=\"0\"} ",
        "ringdesk_follower_lag_bytes{follower=\"count\",shard=\"0\"} ",
        "ringdesk_logins_total{outcome=\"refused\"} 1",
        "ringdesk_http_requests_total{class=\"4xx\"} ",
        "ringdesk_http_connections_taken_total ",
        "process_resident_memory_bytes ",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: apt install prometheus");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let verdict = promtool.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&verdict.stderr).into_owned() + &String::from_utf8_lossy(&verdict.stdout);
    assert!(verdict.status.success() && said.trim().is_empty(), "{said}");
    server.stop();
}

#[test]
fn a_second_server_on_one_data_directory_is_refused_and_told_who_has_it() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &[]);
    let second = ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let (status, _, errors) = output(ringdesk(&scratch.0).args(second));
    assert_eq!(status, Some(72), "{errors}");
    assert!(
        errors.contains(&format!("process {}", server.pid())) && errors.contains("--data-dir"),
        "{errors}"
    );
    server.stop();
}

#[test]
fn a_port_that_is_taken_is_named_with_its_setting() {
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other, what) in
        [("--listen", "--admin-listen", "--listen"), ("--admin-listen", "--listen", "server.admin_listen")]
    {
        let (status, _, errors) = output(ringdesk(&scratch.0).args([
            "serve",
            "--data-dir",
            "data",
            flag,
            &address,
            other,
            "127.0.0.1:0",
        ]));
        assert_eq!(status, Some(75), "{errors}");
        assert!(errors.contains(&address) && errors.contains(what), "{errors}");
    }
}

#[test]
fn a_wrong_configuration_names_line_key_and_bound_and_nothing_is_made() {
    let scratch = Scratch::new();
    std::fs::write(scratch.0.join("wrong.toml"), "[server]\nshards = 99\nlistn = \"x\"\n").unwrap();
    for verb in ["serve", "check"] {
        let (status, _, errors) = output(ringdesk(&scratch.0).args([verb, "--config", "wrong.toml"]));
        assert_eq!(status, Some(3), "{errors}");
        assert!(errors.contains("wrong.toml:2: server.shards: must be from 0 to 64"), "{errors}");
        assert!(
            errors.contains("wrong.toml:3: server.listn: no such setting; did you mean `listen`?"),
            "{errors}"
        );
    }
    assert!(!scratch.0.join("ringdesk-data").exists());
    assert_eq!(output(ringdesk(&scratch.0).args(["serve", "--nonsense"])).0, Some(2));
}

#[test]
fn init_writes_what_check_accepts_and_never_overwrites() {
    let scratch = Scratch::new();
    assert_eq!(output(ringdesk(&scratch.0).arg("init")).0, Some(0));
    let (status, text, errors) =
        output(ringdesk(&scratch.0).env_clear().args(["check", "--config", "ringdesk.toml"]));
    assert_eq!(status, Some(0), "{errors}");
    assert!(
        text.contains("[server]\nlisten = \"0.0.0.0:8080\"\n") && !text.contains("not the default"),
        "{text}"
    );
    let (status, _, errors) = output(ringdesk(&scratch.0).arg("init"));
    assert_eq!(status, Some(1));
    assert!(errors.contains("--force"), "{errors}");
    assert_eq!(output(ringdesk(&scratch.0).args(["init", "--force"])).0, Some(0));
}

#[test]
fn administration_is_on_its_own_port_and_wants_its_key() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &[]);
    for path in ["/metrics", "/healthz", "/readyz", "/admin/notice"] {
        assert_eq!(server.get(server.public, path).unwrap().status, 404, "{path}");
    }
    let without =
        Connection::open(server.admin).unwrap().ask("POST", "/admin/restart-control", &[], b"").unwrap();
    assert_eq!(without.status, 401);
    let wrong = [("Authorization", "Bearer 00000000000000000000000000000000")];
    assert_eq!(
        Connection::open(server.admin).unwrap().ask("POST", "/admin/notice", &wrong, b"{}").unwrap().status,
        401
    );
    assert_eq!(server.admin_post("/admin/notice", &[], "{\"text\":\"\"}").status, 400);
    assert_eq!(server.admin_post("/admin/notice", &[], "{\"text\":\"a\",\"scope\":\"nowhere\"}").status, 400);

    let mut visitor = Socket::visitor(&server);
    assert_eq!(server.admin_post("/admin/notice", &[], "{\"text\":\"back in five minutes\"}").status, 202);
    assert_eq!(visitor.until("notice")["d"]["text"], "back in five minutes");
    server.stop();
}

#[test]
fn sighup_takes_over_what_is_hot_and_names_what_is_not() {
    let scratch = Scratch::new();
    let path = scratch.0.join("ringdesk.toml");
    std::fs::write(&path, "[session]\nheartbeat_ms = \"25s\"\n").unwrap();
    let server = Server::start(&scratch.0, &["--config", "ringdesk.toml"]);
    let heartbeat = || {
        let mut socket = Connection::open(server.public)
            .unwrap()
            .upgrade(&format!("/ws/v1/visitor?inbox={}", server.inbox));
        socket.until("hello")["d"]["hb_ms"].as_u64().unwrap()
    };
    assert_eq!(heartbeat(), 25_000);
    std::fs::write(&path, "[session]\nheartbeat_ms = \"31s\"\n[server]\nshards = 3\n").unwrap();
    server.signal("HUP");
    plane_support::eventually("the new heartbeat", || heartbeat() == 31_000);
    std::fs::write(&path, "[session]\nheartbeat_ms = \"99h\"\n").unwrap();
    server.signal("HUP");
    let log = || std::fs::read_to_string(scratch.0.join("log")).unwrap();
    plane_support::eventually("the refusal", || {
        log().contains("ringdesk.toml:2: session.heartbeat_ms: must be from 1s to 55s")
    });
    let named = |name: &str| log().matches(&format!("{name} has changed and needs a restart")).count();
    assert_eq!(named("server.shards"), 1, "{}", log());
    assert_eq!(heartbeat(), 31_000);

    // A cold one outside [server] and [storage]: named at every reload, and not taken over by the next life of the control plane.
    let tight = |heartbeat: u32| {
        let text = format!("[session]\nheartbeat_ms = \"{heartbeat}s\"\n[limits]\nlogin_rate = 1\n");
        std::fs::write(&path, text).unwrap();
        server.signal("HUP");
    };
    for (time, seconds) in [(1, 32), (2, 33)] {
        tight(seconds);
        plane_support::eventually("the reload", || heartbeat() == u64::from(seconds) * 1_000);
        assert_eq!(named("limits.login_rate"), time, "{}", log());
    }
    assert!(log().contains("limits.login_rate has changed and needs a restart; until then it is 30"));
    assert_eq!(server.admin_post("/admin/restart-control", &[], "").status, 202);
    plane_support::eventually("the next life", || server.metric("ringdesk_control_starts_total") >= 2.0);
    for _ in 0..4 {
        assert_eq!(server.login("agent@localhost", "wrong").status, 401, "one a minute is not in effect");
    }
    std::fs::write(&path, "[session]\nheartbeat_ms = \"34s\"\n").unwrap();
    server.signal("HUP");
    plane_support::eventually("the reload", || heartbeat() == 34_000);
    assert_eq!(named("limits.login_rate"), 2, "it was put back");
    server.stop();
}

/// Panics of the control plane, the watchdog and a fence speak in it too: collectors read nothing else.
#[test]
fn a_log_in_json_is_json_to_its_last_words() {
    let scratch = Scratch::new();
    std::fs::write(scratch.0.join("ringdesk.toml"), "[log]\nformat = \"json\"\n").unwrap();
    let command = plane_support::ringdesk_refused_by_limits(&scratch.0);
    let mut server = Server::begin_as(command, &scratch.0, &["--config", "ringdesk.toml", "--shards", "1"]);
    plane_support::eventually("ready", || server.readiness() == 200);
    assert_eq!(server.admin_post("/admin/restart-control", &[("X-How", "panic")], "").status, 202);
    plane_support::eventually("the next life", || server.metric("ringdesk_control_starts_total") >= 2.0);

    // From here on the journal's next writes are refused: the shard is fenced, which ends the process.
    const LIMIT: u64 = 128 << 10;
    let body = "x".repeat(9_000);
    let said = |number: u32| serde_json::json!({ "cid": cid(number), "type": "text", "body": body });
    let mut visitor = Socket::visitor(&server);
    let c = visitor.reply("start", serde_json::json!({ "cid": cid(1), "first": said(2) }))["c"].clone();
    for number in 3..23 {
        let mut said = said(number);
        said["c"] = c.clone();
        visitor.reply("send", said);
    }
    let limit = rustix::process::Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) };
    let pid = rustix::process::Pid::from_raw(server.pid() as i32);
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
    let mut last = said(24);
    last["c"] = c;
    visitor.say("send", last);
    assert_eq!(server.wait().code(), Some(70));

    let log = std::fs::read_to_string(scratch.0.join("log")).unwrap();
    let events: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let find = |area: &str, text: &str| {
        let found = |event: &&serde_json::Value| {
            event["area"] == area && event["msg"].as_str().is_some_and(|msg| msg.contains(text))
        };
        let event = events.iter().find(found).unwrap_or_else(|| panic!("no {text:?} of {area}: {log}"));
        assert_eq!(event["level"], "error");
        assert!(event["ts"].is_string());
    };
    find("panic", "this life was told to end by a panic");
    find("edge::turn", "shard 0 is fenced: its journal cannot be written");
}

#[test]
fn a_second_signal_ends_at_once_and_nothing_acknowledged_is_lost() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch.0, &[]);
    let mut visitor = Socket::visitor(&server);
    let first = serde_json::json!({ "cid": cid(2), "type": "text", "body": "hello" });
    visitor.reply("start", serde_json::json!({ "cid": cid(1), "first": first }));
    server.signal("TERM");
    visitor.until("goaway");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(128 + 15));
    let (_, text, _) =
        output(ringdesk(&scratch.0).args(["journal", "verify", "--json", "--data-dir", "data"]));
    let summary: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (summary["clean"].as_bool(), summary["sealed"].as_bool()),
        (Some(true), Some(false)),
        "{summary}"
    );
    assert!(summary["records"].as_u64() >= Some(2), "{summary}");
    // The kernel may hold the lock for a moment longer than the process lived; a start waits for it.
    Server::start(&scratch.0, &[]).stop();
}

/// A journal that is gone is not taken for a new one: what it held was acknowledged.
#[test]
fn a_journal_that_is_gone_is_named_and_not_made_anew() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &["--shards", "2"]);
    let copy = std::fs::read(scratch.0.join("data/settings.bin")).unwrap();
    // A second server with other settings changes nothing before it is refused.
    let (status, _, errors) = output(ringdesk(&scratch.0).env("RINGDESK__LIMITS__MESSAGE_RATE", "7").args([
        "serve",
        "--data-dir",
        "data",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]));
    assert_eq!(status, Some(72), "{errors}");
    assert_eq!(std::fs::read(scratch.0.join("data/settings.bin")).unwrap(), copy);
    server.stop();

    let verify = |arguments: &[&str]| {
        output(ringdesk(&scratch.0).args(["journal", "verify", "--data-dir", "data"]).args(arguments))
    };
    assert_eq!(verify(&[]).0, Some(0));
    let (status, text, errors) = verify(&["--shard", "9"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.is_empty() && errors.contains("there is no shard 9; there are 2"), "{text}{errors}");

    let generation =
        std::fs::read_dir(scratch.0.join("data/journal")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir_all(generation.join("1")).unwrap();
    let (status, text, _) = verify(&[]);
    assert_eq!(status, Some(9), "{text}");
    assert!(
        text.contains("shard 1: DAMAGED") && text.contains("shard 0: every acknowledged byte holds"),
        "{text}"
    );
    let serve = [
        "serve",
        "--data-dir",
        "data",
        "--shards",
        "2",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let (status, _, errors) = output(ringdesk(&scratch.0).args(serve));
    assert_eq!(status, Some(77), "{errors}");
    assert!(errors.contains("shard 1 has no journal"), "{errors}");
    // And again: the refusal has made nothing that a next start would take for a journal.
    assert_eq!(output(ringdesk(&scratch.0).args(serve)).0, Some(77));
}

#[test]
fn a_data_directory_that_is_none_is_named_with_what_to_do() {
    let scratch = Scratch::new();
    std::fs::write(scratch.0.join("file"), "not a directory").unwrap();
    for directory in ["file", "file/below"] {
        let (status, _, errors) = output(ringdesk(&scratch.0).args([
            "serve",
            "--data-dir",
            directory,
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ]));
        assert_eq!(status, Some(76), "{errors}");
        assert!(errors.contains("give another --data-dir"), "{errors}");
    }
}
