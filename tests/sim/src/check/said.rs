//! What clients wanted to do, one by one, and what the server answered.

use super::{Audience, Checker, What};

/// How long something on its way may take inside the server: a slow disk and slow mail.
const LOST_US: u64 = 6_000_000;

/// What somebody wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Message,
    Note,
    Start,
    Accept,
    Close,
    /// A `cid` used again for something else: it must never be stored.
    Conflict,
}

/// A durable request: said under one `cid`, as often as it takes.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub(crate) kind: Kind,
    /// Who; the bits of a visitor's or agent's id, once he is known.
    pub(crate) author: Option<u128>,
    pub(crate) person: usize,
    pub(crate) by_agent: bool,
    pub(crate) device: String,
    pub(crate) cid: String,
    pub(crate) c: Option<u128>,
    /// The text, which begins with this intent's number.
    pub(crate) body: String,
    pub(crate) made_us: u64,
    /// When it was first answered for good.
    pub(super) answered_us: Option<u64>,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// How often it was answered, however.
    pub(crate) answers: u32,
    /// Attempts whose socket ended before the answer, when the last of them did, and in which run.
    lost: u32,
    lost_at: (u64, u32),
    /// Acknowledged under this number of the author's stream.
    pub(crate) acked: Option<u32>,
    /// When that was first told, in the history that stands.
    pub(super) acked_us: Option<u64>,
    /// An answer without `dup` came.
    pub(crate) answered_first: bool,
    /// Refused for good.
    pub(crate) refused: Option<String>,
    /// It was told under these numbers, by stream.
    pub(super) told: [Option<(u128, u32)>; 2],
    /// It may have been acknowledged in a history that is gone.
    pub(crate) rewound: bool,
}

/// Of a device's last things so many are said again on purpose. The server remembers 256 in each conversation.
pub(crate) const REMEMBERED: usize = 120;

/// The good answer to a durable request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) c: Option<u128>,
    pub(crate) s: u32,
    pub(crate) level: &'a str,
    pub(crate) dup: bool,
}

impl Intent {
    pub(crate) fn new(kind: Kind, person: usize, device: &str, cid: String, c: Option<u128>) -> Intent {
        Intent {
            kind,
            author: None,
            person,
            by_agent: false,
            device: device.into(),
            cid,
            c,
            body: String::new(),
            made_us: 0,
            answered_us: None,
            attempts: 0,
            answers: 0,
            lost: 0,
            lost_at: (0, 0),
            acked: None,
            acked_us: None,
            answered_first: false,
            refused: None,
            told: [None; 2],
            rewound: false,
        }
    }

    /// An attempt's socket ended before the answer.
    pub(crate) fn lose(&mut self, now_us: u64, boot: u32) {
        self.lost += 1;
        self.lost_at = (now_us, boot);
    }

    /// Whether an attempt may still be on its way: its socket stands, or ended so lately that the server may have its letter.
    fn is_under_way(&self, now_us: u64, boot: u32) -> bool {
        let (lost_at_us, lost_in) = self.lost_at;
        self.attempts > self.answers + self.lost || (lost_in == boot && now_us < lost_at_us + LOST_US)
    }

    pub(super) fn rewind(&mut self) {
        self.acked = None;
        self.acked_us = None;
        self.answered_first = false;
        self.told = [None; 2];
        self.rewound = true;
        if self.kind == Kind::Start {
            self.c = None;
        }
    }

    /// The intent whose number stands at the beginning of a text.
    pub(crate) fn number_in(body: &str) -> Option<usize> {
        body.strip_prefix('#')?.split_once('#')?.0.parse().ok()
    }

    /// Whether an event is what this intent, number `own`, asked for.
    pub(super) fn is_told_as(&self, what: &What, own: usize) -> bool {
        match (self.kind, what) {
            (Kind::Message | Kind::Start, What::Message { intent }) | (Kind::Note, What::Note { intent }) => {
                *intent == own
            }
            (Kind::Conflict, What::Message { intent }) => self.rewound && *intent == own,
            (Kind::Accept, What::Joined { agent }) => self.author == Some(*agent),
            (Kind::Close, What::Closed { by }) => self.author == Some(*by),
            _ => false,
        }
    }

    /// It was told; at most under one number.
    pub(super) fn told(&mut self, own: usize, audience: Audience, c: u128, number: u32) -> Option<String> {
        self.c = Some(c);
        let before = self.told[audience as usize].replace((c, number));
        if before.is_some_and(|before| before != (c, number)) {
            return Some(format!(
                "{own} was said once and told as {before:?} and as {number} of {c:032x}: {self:?}"
            ));
        }
        if let Some(code) = &self.refused {
            return Some(format!("{own} was refused with {code} and told as {number} of {c:032x}: {self:?}"));
        }
        None
    }

    pub(super) fn was_told(&self) -> bool {
        self.told.iter().any(Option::is_some)
    }
}

impl Checker {
    /// Somebody wants something; returns its number.
    pub(crate) fn intend(&mut self, mut intent: Intent, text: impl FnOnce(usize) -> String) -> usize {
        let number = self.intents.len();
        intent.made_us = self.now_us;
        intent.body = text(number);
        self.intents.push(intent);
        number
    }

    /// Who said this text, if anybody did.
    pub(super) fn said(
        &self,
        c: u128,
        note: bool,
        from: u128,
        kind: &str,
        body: &str,
    ) -> Result<usize, String> {
        let number = Intent::number_in(body).ok_or("a text that nobody said")?;
        let intent = self.intents.get(number).ok_or("a text that nobody said")?;
        if intent.body != body {
            return Err(format!("not the text that was said: {:?}", intent.body));
        }
        let right = match intent.kind {
            Kind::Message | Kind::Start => !note,
            Kind::Note => note,
            Kind::Conflict => !note && intent.rewound,
            Kind::Accept | Kind::Close => false,
        };
        if !right {
            return Err(format!("stored, and should not be, or not as this: {intent:?}"));
        }
        if intent.attempts == 0 {
            return Err(format!("never sent: {intent:?}"));
        }
        if intent.author.is_some_and(|author| author != from) {
            return Err(format!("another one said it: {intent:?}"));
        }
        let is_visitors = desk::id::VisitorId::from_bits(from).is_some();
        if (kind == "visitor") != is_visitors || (kind == "agent") == is_visitors {
            return Err("the kind of its author is wrong".into());
        }
        if intent.c.is_some_and(|own| own != c) {
            return Err(format!("said in another conversation: {intent:?}"));
        }
        Ok(number)
    }

    /// Whether an intent may be said (again). One that may be stored already, or whose `cid` was used before, is only said while the server
    /// surely remembers that: it keeps the last 256 of a device in a conversation, and other tabs of the device go on talking.
    pub(crate) fn may_be_said(&self, number: usize) -> bool {
        let own = &self.intents[number];
        if own.kind != Kind::Conflict && own.attempts == 0 {
            return true;
        }
        // Of what was said before it only what was not answered when it was may have been stored later.
        let since = if own.acked.is_some() { 0 } else { number };
        let may_be_stored_later = |intent: &&Intent| {
            intent.device == own.device
                && intent.refused.is_none()
                && intent.acked.is_none_or(|s| own.acked.is_none_or(|own| s > own))
        };
        const MOST: usize = 2 * REMEMBERED - 60;
        self.intents[since..].iter().filter(may_be_stored_later).take(MOST).count() < MOST
    }

    /// Something durable was answered.
    pub(crate) fn acked(&mut self, boot: u32, audience: Audience, number: usize, answer: Answer<'_>) {
        let level = self.boots[boot as usize].level;
        if answer.level != level {
            return self.broken(|| {
                format!("acknowledged at level {}, and the server runs with {level}", answer.level)
            });
        }
        let c = answer.c.or(self.intents[number].c);
        let Some(c) = c else {
            return self.broken(|| format!("an answer to {number} names no conversation"));
        };
        if self.at(boot, c).is_none() {
            return;
        }
        let now_us = self.now_us;
        if let Some(own) = self.intents[number].c
            && own != c
            && self.intents[number].kind == Kind::Start
            && !self.knows(boot, own)
        {
            // The one it made is unsaid.
            self.intents[number].rewind();
        }
        let intent = &mut self.intents[number];
        intent.answered_us.get_or_insert(now_us);
        if intent.kind == Kind::Conflict && intent.rewound {
            // What was said first under this `cid` is unsaid: now this is.
            intent.kind = Kind::Message;
        }
        if intent.kind == Kind::Conflict {
            let intent = intent.clone();
            return self.broken(|| {
                format!("a cid was used for something else and acknowledged as {}: {intent:?}", answer.s)
            });
        }
        if intent.c.is_some_and(|own| own != c) {
            let own = intent.c;
            return self.broken(|| format!("{number} was said in {own:?} and acknowledged in {c:032x}"));
        }
        intent.c = Some(c);
        let before = intent.acked.replace(answer.s);
        intent.acked_us.get_or_insert(now_us);
        let answered_first = intent.answered_first;
        intent.answered_first |= !answer.dup;
        let (attempts, kind, refused) = (intent.attempts, intent.kind, intent.refused.clone());
        let broken = if before.is_some_and(|before| before != answer.s) && kind != Kind::Start {
            Some(format!("acknowledged as {before:?} and as {}", answer.s))
        } else if answered_first && !answer.dup && kind != Kind::Start {
            Some("acknowledged twice as new".into())
        } else if answer.dup && attempts < 2 && kind != Kind::Start {
            Some("sent once and answered with dup".into())
        } else {
            refused.map(|code| format!("refused with {code} and acknowledged as {}", answer.s))
        };
        if let Some(broken) = broken {
            let intent = self.intents[number].clone();
            return self.broken(|| format!("{number} of {c:032x}: {broken}: {intent:?}"));
        }
        // `start` without a message takes no number.
        let wordless = kind == Kind::Start && self.intents[number].body.is_empty();
        let conversation = self.at(boot, c).expect("seen above");
        conversation.heard = true;
        conversation.started |= kind == Kind::Start;
        if wordless {
            return;
        }
        let stream = &mut conversation.streams[audience as usize];
        let other = stream.acks.insert(answer.s, number).filter(|&other| other != number);
        let fact = stream.facts.get(&answer.s).map(|fact| fact.what.clone());
        if let Some(other) = other {
            let (one, two) = (self.intents[other].clone(), self.intents[number].clone());
            self.broken(|| {
                format!(
                    "{} of {c:032x} was acknowledged for {other} and for {number}: {one:?}, {two:?}",
                    answer.s
                )
            });
        }
        if let Some(what) = fact
            && !self.intents[number].is_told_as(&what, number)
        {
            let intent = self.intents[number].clone();
            self.broken(|| {
                format!("{} of {c:032x} is {what:?} and was acknowledged for {number}: {intent:?}", answer.s)
            });
        }
    }

    /// Something durable was refused for now: it is not stored. (`overloaded` may be said by a door that could not ask.)
    pub(crate) fn put_off(&mut self, boot: u32, number: usize, code: &str) {
        if let Some(c) = self.intents[number].c {
            self.at(boot, c);
        }
        let intent = &self.intents[number];
        if matches!(code, "rate_limited" | "storage_full")
            && intent.kind != Kind::Conflict
            && !intent.rewound
            && !intent.is_under_way(self.now_us, boot)
            && (intent.acked.is_some() || intent.was_told())
        {
            let intent = intent.clone();
            self.broken(|| format!("{number} is stored and was refused with {code}: {intent:?}"));
        }
    }

    /// Something durable was refused for good: it is not stored, and never was.
    pub(crate) fn refused(&mut self, boot: u32, number: usize, code: &str) {
        let now_us = self.now_us;
        if let Some(c) = self.intents[number].c {
            // A history that is gone is noticed first.
            self.at(boot, c);
        }
        let intent = &mut self.intents[number];
        let is_last = !intent.is_under_way(now_us, boot);
        intent.answered_us.get_or_insert(now_us);
        if intent.kind == Kind::Conflict || (intent.rewound && code == "id_conflict") {
            return;
        }
        if code == "id_conflict" {
            let intent = intent.clone();
            return self.broken(|| {
                format!("{number} was the first of its device under its cid and conflicts: {intent:?}")
            });
        }
        // Without an answer to an earlier attempt it may be in a history that is gone.
        if intent.rewound {
            return;
        }
        // Another attempt that is still on its way may find another state.
        if !is_last {
            return;
        }
        intent.refused = Some(code.into());
        if intent.acked.is_some() || intent.was_told() {
            let intent = intent.clone();
            self.broken(|| format!("{number} is stored and was refused with {code}: {intent:?}"));
        }
    }
}
