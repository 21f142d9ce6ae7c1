//! Notices: a thread that posts them to the private listener at their times, whatever the server does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use crate::clock::now_ns;
use crate::scenario::Scenario;
use crate::server;
use crate::verify::{BODY_HEAD, Body};

/// Longest notice in bytes that the server takes.
const NOTICE_MAX: usize = 2_000;

/// Posts them from `start_ns` on. The end of the thread gives what went wrong first.
pub(crate) fn post(
    scenario: &Scenario,
    admin: SocketAddr,
    key: &str,
    start_ns: u64,
    stop: Arc<AtomicBool>,
) -> JoinHandle<Result<u64, String>> {
    let times: Vec<Duration> = scenario.notice_times().collect();
    let size = scenario.payload.clamp(BODY_HEAD, NOTICE_MAX);
    let shown = format!("Authorization: Bearer {key}\r\n");
    std::thread::spawn(move || {
        let mut text = String::new();
        for (number, time) in (1..).zip(&times) {
            let intended_ns = start_ns + time.as_nanos() as u64;
            while now_ns() < intended_ns {
                if stop.load(Ordering::Relaxed) {
                    return Ok(number - 1);
                }
                sleep(
                    Duration::from_nanos(intended_ns.saturating_sub(now_ns())).min(Duration::from_millis(50)),
                );
            }
            text.clear();
            Body { number, intended_ns }.write(&mut text, size);
            let json = format!("{{\"text\":\"{text}\"}}");
            let answer = server::post(admin, "/admin/notice", &shown, &json)?;
            if !answer.starts_with("HTTP/1.1 202") {
                return Err(format!("notice {number}: {}", answer.lines().next().unwrap_or_default()));
            }
        }
        Ok(times.len() as u64)
    })
}
