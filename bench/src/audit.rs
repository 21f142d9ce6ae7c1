//! `--audit`: after the run the server is killed with -9 and started again, and everything that was acknowledged is read back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conn::{self, Conn, Ear};
use crate::figures::Acknowledged;
use crate::verify::Body;

/// What was read back.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Audit {
    /// Messages that were acknowledged before the crash.
    pub(crate) acknowledged: u64,
    /// Of them, those that are gone.
    pub(crate) lost: u64,
    /// Messages that are there twice.
    pub(crate) doubled: u64,
    /// Numbers of conversations that are missing between others.
    pub(crate) gaps: u64,
    /// From the start of the process until it was ready.
    pub(crate) ready_after_ms: u64,
}

impl Audit {
    /// What is wrong, in words.
    pub(crate) fn problems(&self) -> Vec<String> {
        [
            (self.lost, "acknowledged messages are gone after kill -9"),
            (self.doubled, "messages are there twice after kill -9"),
            (self.gaps, "numbers are missing after kill -9"),
        ]
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }

    /// One conversation, as it was read back: its events by number, and who said which message.
    fn judge(&mut self, expected: &Acknowledged, events: &BTreeMap<u64, Option<(usize, u64)>>) {
        let last = events.last_key_value().map_or(0, |(&s, _)| s);
        self.gaps += last - events.len() as u64;
        let mut seen: [BTreeMap<u64, u64>; 2] = [BTreeMap::new(), BTreeMap::new()];
        for &(side, number) in events.values().flatten() {
            *seen[side].entry(number).or_default() += 1;
        }
        for (side, numbers) in expected.numbers.iter().enumerate() {
            self.acknowledged += numbers.len() as u64;
            self.lost += numbers.iter().filter(|number| !seen[side].contains_key(number)).count() as u64;
            self.doubled += seen[side].values().filter(|&&times| times > 1).count() as u64;
        }
    }
}

/// Reads every conversation back as an agent.
///
/// # Errors
/// In words, when something could not be read at all.
pub(crate) fn read_back(
    to: SocketAddr,
    ticket: &str,
    expected: &[Acknowledged],
    ready_after_ms: u64,
) -> Result<Audit, String> {
    let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new()
        .enable_timer()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let way = conn::Way { from: None, to, small: None };
        let (conn, mut ear) =
            conn::open(way, "/ws/v1/agent", "ringdesk.v1.json", 7).await.map_err(|end| end.to_string())?;
        let auth = format!("{{\"token\":\"{ticket}\",\"device\":\"bench-auditor-00000000\"}}");
        ask(&conn, &mut ear, 0, "auth", &auth).await?;
        let mut audit = Audit { ready_after_ms, ..Audit::default() };
        for (number, one) in expected.iter().enumerate() {
            // A pause now and then keeps below the server's limit of requests.
            if number % 20 == 19 {
                monoio::time::sleep(std::time::Duration::from_millis(400)).await;
            }
            let events = history(&conn, &mut ear, &one.c).await?;
            audit.judge(one, &events);
        }
        Ok(audit)
    })
}

async fn history(
    conn: &Rc<Conn>,
    ear: &mut Ear,
    c: &str,
) -> Result<BTreeMap<u64, Option<(usize, u64)>>, String> {
    let mut events = BTreeMap::new();
    let mut before = u64::from(u32::MAX);
    loop {
        let d = format!("{{\"c\":\"{c}\",\"before\":{before},\"limit\":200}}");
        let answer = ask(conn, ear, 1, "history", &d).await?;
        if answer["err"]["code"] == "rate_limited" {
            let wait = answer["err"]["after_ms"].as_u64().unwrap_or(100);
            monoio::time::sleep(std::time::Duration::from_millis(wait)).await;
            continue;
        }
        let page = answer["d"]["events"].as_array().ok_or_else(|| format!("history of {c}: {answer}"))?;
        for event in page {
            let s = event["s"].as_u64().ok_or_else(|| format!("an event without a number: {event}"))?;
            let side = usize::from(event["d"]["from"]["kind"] == "agent");
            let body = event["d"]["body"].as_str().and_then(Body::read);
            events.insert(s, body.map(|body| (side, body.number)));
            before = before.min(s);
        }
        if page.is_empty() || answer["d"]["more"] != Value::Bool(true) {
            return Ok(events);
        }
    }
}

async fn ask(conn: &Rc<Conn>, ear: &mut Ear, re: u32, op: &str, d: &str) -> Result<Value, String> {
    conn.text(&format!("{{\"id\":{re},\"op\":\"{op}\",\"d\":{d}}}"));
    let start = format!("{{\"re\":{re},");
    let answer = RefCell::new(None);
    loop {
        ear.listen(conn, |text| {
            if text == "{}" {
                conn.text("{}");
            } else if text.starts_with(&start) {
                *answer.borrow_mut() = Some(text.to_owned());
            }
        })
        .await
        .map_err(|end| format!("{op}: {end}"))?;
        if let Some(text) = answer.take() {
            return serde_json::from_str(&text).map_err(|error| format!("{op}: {error}: {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_doubled_or_missing_is_counted() {
        let expected = Acknowledged { c: "C".into(), numbers: [vec![1, 2, 3], vec![1]] };
        let judged = |events: &[(u64, Option<(usize, u64)>)]| {
            let mut audit = Audit::default();
            audit.judge(&expected, &events.iter().copied().collect());
            (audit.acknowledged, audit.lost, audit.doubled, audit.gaps)
        };
        let whole = [(1, None), (2, Some((0, 1))), (3, Some((1, 1))), (4, Some((0, 2))), (5, Some((0, 3)))];
        assert_eq!(judged(&whole), (4, 0, 0, 0));
        assert_eq!(judged(&whole[..4]), (4, 1, 0, 0));
        assert_eq!(judged(&[whole[0], whole[1], whole[3], whole[4]]), (4, 1, 0, 1));
        let twice = [whole[0], whole[1], whole[2], whole[3], whole[4], (6, Some((0, 3)))];
        assert_eq!(judged(&twice), (4, 0, 1, 0));
    }
}
