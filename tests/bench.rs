//! `ringdesk bench`: short forms of the scenarios against the real server, and a proxy that spoils one message, which must be seen.

mod plane_support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use plane_support::{Scratch, Server, output, ringdesk};
use serde_json::Value;

/// Runs the generator: status, what it printed, and the report.
fn bench(scratch: &Path, arguments: &[&str]) -> (Option<i32>, String, Value) {
    let (status, text, progress) =
        output(ringdesk(scratch).args(["bench", "--dir", "."]).args(arguments).args(["--out", "report"]));
    let report = fs::read_to_string(scratch.join("report/report.json"))
        .unwrap_or_else(|error| panic!("{error}; {text}{progress}"));
    (status, text, serde_json::from_str(&report).unwrap())
}

fn is_well(scratch: &Path, arguments: &[&str]) -> Value {
    let (status, text, report) = bench(scratch, arguments);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.starts_with("OK: "), "{text}");
    let page = fs::read_to_string(scratch.join("report/report.html")).unwrap();
    assert!(page.contains("Nothing was lost") && page.ends_with("</html>\n"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing is fetched");
    report
}

#[test]
fn people_chat_across_shards_and_every_message_is_acknowledged_and_told() {
    for shards in ["1", "2", "3"] {
        let scratch = Scratch::new();
        let report = is_well(
            &scratch.0,
            &[
                "chat",
                "--connections",
                "60",
                "--chats",
                "24",
                "--rate",
                "200",
                "--duration",
                "2s",
                "--warm-up",
                "500ms",
                "--shards",
                shards,
                "--workers",
                "2",
                "--audit",
            ],
        );
        let counts = &report["figures"]["counts"];
        let of = |name: &str| counts[name].as_u64().unwrap();
        assert!(of("sent") > 350, "{counts}");
        assert_eq!((of("answered"), of("received"), of("connected")), (of("sent"), of("sent"), 60));
        assert_eq!(of("crossed") * 2 >= of("received"), shards != "1", "{counts}");
        assert!(of("hints") > 0, "typing and receipts are mixed in");
        assert_eq!(report["audit"]["acknowledged"], counts["answered"], "all is read back after kill -9");
        assert!(report["spent"]["shard_s_per_million"].as_f64().unwrap() > 0.0);
        let times = fs::read_to_string(scratch.0.join("report/delivered.hgrm")).unwrap();
        assert!(times.starts_with("       Value     Percentile") && times.contains("#[Max"), "{times}");
    }
}

#[test]
fn an_echo_is_measured_in_an_open_and_in_a_closed_loop() {
    for rate in ["500", "0"] {
        let scratch = Scratch::new();
        let report = is_well(
            &scratch.0,
            &["echo", "--connections", "40", "--rate", rate, "--duration", "1s", "--warm-up", "200ms"],
        );
        let counts = &report["figures"]["counts"];
        assert!(counts["sent"].as_u64().unwrap() > 300, "{counts}");
        assert_eq!(counts["sent"], counts["received"]);
    }
}

#[test]
fn visitors_stand_idle() {
    let scratch = Scratch::new();
    let report =
        is_well(&scratch.0, &["idle", "--connections", "300", "--duration", "1s", "--warm-up", "200ms"]);
    assert_eq!(report["figures"]["counts"]["connected"], 300);
}

#[test]
fn notices_reach_everybody_once() {
    let scratch = Scratch::new();
    let report = is_well(
        &scratch.0,
        &["broadcast", "--connections", "300", "--notices", "10", "--duration", "1s", "--warm-up", "500ms"],
    );
    let counts = &report["figures"]["counts"];
    assert_eq!(counts["noticed"], 15 * 300, "{counts}");
}

#[test]
fn everybody_is_cut_off_and_goes_on_where_he_was() {
    for (storm, shards) in [("cut", "1"), ("half-open", "2"), ("restart", "3")] {
        let scratch = Scratch::new();
        let report = is_well(
            &scratch.0,
            &[
                "storm",
                "--storm",
                storm,
                "--connections",
                "80",
                "--chats",
                "24",
                "--rate",
                "200",
                "--duration",
                "5s",
                "--warm-up",
                "300ms",
                "--shards",
                shards,
                "--workers",
                "2",
                "--audit",
            ],
        );
        let counts = &report["figures"]["counts"];
        let of = |name: &str| counts[name].as_u64().unwrap();
        assert_eq!((of("came_back"), of("connected")), (80, 80), "{counts}");
        assert_eq!((of("answered"), of("received")), (of("sent"), of("sent")), "{counts}");
        // Those who talk have something to resume; a process that is new knows nobody's session.
        let resumed = of("resumed");
        assert!(if storm == "restart" { resumed == 0 } else { resumed >= 24 }, "{storm}: {counts}");
        assert_eq!(report["audit"]["acknowledged"], counts["answered"]);
    }
}

#[test]
fn who_does_not_read_keeps_nobody_else_waiting() {
    let scratch = Scratch::new();
    let report = is_well(
        &scratch.0,
        &[
            "slow",
            "--connections",
            "60",
            "--chats",
            "20",
            "--slow",
            "3",
            "--stuck",
            "3",
            "--rate",
            "500",
            "--duration",
            "3s",
            "--warm-up",
            "300ms",
            "--audit",
        ],
    );
    let counts = &report["figures"]["counts"];
    let of = |name: &str| counts[name].as_u64().unwrap();
    assert!(of("to_slow") > 300 && of("slowly_received") < of("to_slow"), "{counts}");
    assert_eq!(of("received") + of("to_slow"), of("answered"), "those who read have read all");
    assert_eq!(report["audit"]["acknowledged"], counts["answered"], "what was not read is kept");
}

#[test]
fn what_cannot_be_run_is_said_in_words() {
    let scratch = Scratch::new();
    for (arguments, words) in [
        (&["nonsense"][..], "there is no scenario nonsense"),
        (&["chat", "--connections", "3"], "320 chats need 340 connections; there are 3"),
        (&["echo", "--payload", "5"], "payload must be 49 to 10000"),
        (&["echo", "--duration", "soon"], "soon is not a time like"),
        (&["idle", "--storm", "cut", "--churn", "5"], "no echo, no churn"),
        (&["slow", "--slow", "150", "--stuck", "50"], "200 of 200 chats are slow or stuck"),
        (&["broadcast", "--server", "127.0.0.1:1", "--inbox", "X"], "need --admin and --admin-key"),
        (&["missing.toml"], "missing.toml: No such file"),
        (&["idle", "--server", "127.0.0.1:1", "--inbox", "X", "--connections", "2"], "Connection refused"),
    ] {
        let (status, text, error) = output(ringdesk(&scratch.0).arg("bench").args(arguments));
        assert_ne!(status, Some(0), "{arguments:?}");
        assert!(format!("{text}{error}").contains(words), "{arguments:?}: {text}{error}");
    }
}

/// What the proxy does to one message from the server.
#[derive(Clone, Copy)]
enum Fault {
    Lose,
    Double,
    Swap,
    Alter,
}

/// Passes everything on, but for message number 100 of the server on any connection.
fn proxy(to: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicU32::new(0));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { return };
            let (up, down) = ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
            std::thread::spawn(move || pass(up.0, up.1));
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || spoil(down.0, down.1, fault, &seen));
        }
    });
    address
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// Frames of the server are short and whole here: echoes of less than 126 bytes.
fn spoil(mut from: TcpStream, mut to: TcpStream, fault: Fault, seen: &AtomicU32) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if from.read_exact(&mut byte).is_err() {
            return;
        }
        head.push(byte[0]);
    }
    if to.write_all(&head).is_err() {
        return;
    }
    let mut kept: Option<Vec<u8>> = None;
    loop {
        let mut frame = vec![0; 2];
        if from.read_exact(&mut frame).is_err() {
            break;
        }
        let size = usize::from(frame[1]);
        assert!(size < 126, "short frames only");
        frame.resize(2 + size, 0);
        if from.read_exact(&mut frame[2..]).is_err() {
            break;
        }
        let is_it = frame[0] == 0x81 && seen.fetch_add(1, Ordering::Relaxed) == 100;
        match (is_it, fault) {
            (true, Fault::Lose) => continue,
            (true, Fault::Double) => frame.extend_from_within(..),
            (true, Fault::Alter) => *frame.last_mut().unwrap() ^= 1,
            (true, Fault::Swap) => {
                kept = Some(frame);
                continue;
            }
            (false, _) => {}
        }
        if let Some(later) = kept.take() {
            frame.extend(later);
        }
        if to.write_all(&frame).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn a_proxy_that_spoils_one_message_of_thousands_is_caught() {
    for (fault, words, name) in [
        (Fault::Lose, "1 messages were lost", "lost"),
        (Fault::Double, "1 messages came twice", "doubled"),
        (Fault::Swap, "1 messages came out of order", "reordered"),
        (Fault::Alter, "1 messages came altered", "altered"),
    ] {
        let scratch = Scratch::new();
        let server = Server::start(&scratch.0, &["--echo-path", "/echo"]);
        let address = proxy(server.public, fault).to_string();
        let (status, text, report) = bench(
            &scratch.0,
            &[
                "echo",
                "--server",
                &address,
                "--inbox",
                &server.inbox,
                "--connections",
                "8",
                "--rate",
                "1000",
                "--duration",
                "1500ms",
                "--warm-up",
                "0ms",
            ],
        );
        assert_eq!(status, Some(1), "{text}");
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("ERRORS: ") && first.contains(words), "{first}");
        assert_eq!(report["figures"]["faults"][name], 1, "{}", report["figures"]["faults"]);
        assert!(report["figures"]["counts"]["sent"].as_u64().unwrap() > 1000);
        server.stop();
    }
}
