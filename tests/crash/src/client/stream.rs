//! The numbers of one conversation: which is next, what is missing, and when to ask.

use std::time::{Duration, Instant};

use serde_json::Value;

/// Between a number known from a reply and asking for it.
const HINT_TIME: Duration = Duration::from_millis(500);

/// What a number is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Next,
    Known,
    Gap,
}

pub(super) struct Stream {
    /// Everything up to this number was told, apart from `hole`.
    pub(super) last: u32,
    /// History epoch.
    pub(super) e: Option<u64>,
    /// A `sync` is to be sent.
    pub(super) wanted: bool,
    /// A `sync` is under way since then.
    pub(super) asked_at: Option<Instant>,
    not_before: Option<Instant>,
    /// A number known to exist, and since when.
    hinted: Option<(u32, Instant)>,
    /// Numbers that a limited `sync` left to `history`, inclusive.
    pub(super) hole: Option<(u32, u32)>,
    pub(super) asked_history: Option<Instant>,
    pub(super) is_open: bool,
    pub(super) is_waiting: bool,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream {
            last: 0,
            e: None,
            wanted: true,
            asked_at: None,
            not_before: None,
            hinted: None,
            hole: None,
            asked_history: None,
            is_open: false,
            is_waiting: false,
        }
    }
}

impl Stream {
    pub(super) fn on_number(&mut self, s: u32) -> Verdict {
        if s <= self.last {
            return Verdict::Known;
        }
        if s > self.last + 1 {
            self.wanted = self.asked_at.is_none();
            return Verdict::Gap;
        }
        self.last = s;
        if self.hinted.is_some_and(|(hinted, _)| hinted <= s) {
            self.hinted = None;
        }
        Verdict::Next
    }

    pub(super) fn on_status(&mut self, op: &str, d: &Value) {
        match (op, d["status"].as_str()) {
            ("agent", _) => (self.is_open, self.is_waiting) = (true, false),
            ("status", Some("closed")) => (self.is_open, self.is_waiting) = (false, false),
            ("status", Some("waiting")) => (self.is_open, self.is_waiting) = (false, true),
            _ => {}
        }
    }

    /// A number of ours was told by a reply: it should come by itself.
    pub(super) fn hint(&mut self, s: u32) {
        if s > self.last && self.hinted.is_none_or(|(hinted, _)| hinted < s) {
            let since = self.hinted.map_or(Instant::now(), |(_, since)| since);
            self.hinted = Some((s, since));
        }
    }

    pub(super) fn on_reconnected(&mut self, resumed: bool) {
        if !resumed || self.asked_at.is_some() {
            self.wanted = true;
        }
        self.asked_at = None;
        self.asked_history = None;
        self.not_before = None;
        if let Some((_, since)) = &mut self.hinted {
            *since = Instant::now();
        }
    }

    pub(super) fn look_around(&mut self, now: Instant, answer_time: Duration) {
        if self.asked_at.is_some_and(|at| at + answer_time < now) {
            self.asked_at = None;
            self.wanted = true;
        }
        if self.asked_history.is_some_and(|at| at + answer_time < now) {
            self.asked_history = None;
        }
        if self.hinted.is_some_and(|(_, since)| since + HINT_TIME < now) {
            self.wanted = self.asked_at.is_none();
            self.hinted = self.hinted.map(|(s, _)| (s, now));
        }
    }

    pub(super) fn may_ask(&self, now: Instant) -> bool {
        self.wanted && self.asked_at.is_none() && self.not_before.is_none_or(|at| at <= now)
    }

    pub(super) fn ask_later(&mut self, after: Duration) {
        self.asked_at = None;
        self.asked_history = None;
        self.wanted = true;
        self.not_before = Some(Instant::now() + after);
    }

    /// The answer to a cursor. What it says must fit what was told before.
    pub(super) fn on_sync(&mut self, d: &Value) -> Result<(), &'static str> {
        let number = |name: &str| d[name].as_u64();
        let (Some(from), Some(head), Some(e)) = (number("from"), number("head"), number("e")) else {
            return Err("a sync without from, head or e");
        };
        let (from, head) = (from as u32, head as u32);
        self.asked_at = None;
        self.wanted = false;
        self.hinted = None;
        self.is_open = d["status"] == "open";
        self.is_waiting = d["status"] == "waiting";
        if self.e.is_some_and(|known| known != e) {
            self.e = Some(e);
            self.last = from - 1;
            return Err("the history epoch has changed");
        }
        self.e = Some(e);
        if head < self.last {
            self.last = head;
            return Err("what was told is unsaid: head is below the last number");
        }
        if from > self.last + 1 {
            if d["limited"] != true {
                return Err("numbers were left out and limited is not said");
            }
            let begin = self.hole.map_or(self.last + 1, |(begin, _)| begin);
            self.hole = Some((begin, from - 1));
            self.last = from - 1;
        }
        Ok(())
    }
}
