//! The verdict: the checker's log against what the server has in the end.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::readback::{Event, Stream};
use crate::record::{Entry, Op, Role};
use crate::words::Word;

/// What was read back of a conversation.
#[derive(Clone, Debug)]
pub struct Both {
    /// The agents' stream.
    pub agent: Stream,
    /// The visitor's stream.
    pub visitor: Stream,
}

/// What was found.
#[derive(Default, Debug)]
pub struct Verdict {
    /// Words said.
    pub said: u64,
    /// Words acknowledged.
    pub acked: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// There more than once.
    pub doubled: u64,
    /// Anything else that breaks the contract.
    pub wrong: u64,
    /// Events heard, each time, and compared.
    pub heard: u64,
    /// Events read back.
    pub events: u64,
    /// Words stored whose acknowledgement nobody got.
    pub unknown: u64,
    /// The first findings in words.
    pub findings: Vec<String>,
}

impl Verdict {
    /// Whether the contract was kept.
    pub fn is_good(&self) -> bool {
        self.lost + self.doubled + self.wrong == 0
    }

    fn find(&mut self, what: impl fmt::Display) {
        if self.findings.len() < 50 {
            self.findings.push(what.to_string());
        }
    }

    fn wrong(&mut self, what: impl fmt::Display) {
        self.wrong += 1;
        self.find(what);
    }
}

/// Holds the log against what was read back.
pub fn judge(entries: &[Entry], streams: &HashMap<u32, Both>) -> Verdict {
    let mut verdict = Verdict::default();
    let roles: HashMap<u16, Role> = entries
        .iter()
        .filter_map(|entry| if let Entry::Client(id, role) = entry { Some((*id, *role)) } else { None })
        .collect();
    let said: HashMap<Word, (u32, Op, u64)> = entries
        .iter()
        .filter_map(|entry| {
            if let Entry::Said(word, conv, op, hash) = entry {
                Some((*word, (*conv, *op, *hash)))
            } else {
                None
            }
        })
        .collect();
    let refused: HashSet<u16> = entries
        .iter()
        .filter_map(|entry| if let Entry::Refused(word, _) = entry { Some(word.client) } else { None })
        .collect();
    verdict.said = said.len() as u64;

    let mut places: HashMap<Word, (u32, u32)> = HashMap::new();
    for (&conv, both) in streams {
        verdict.events += both.agent.len() as u64;
        judge_streams(&mut verdict, conv, both);
        judge_words(&mut verdict, conv, &both.agent, &said, &refused, &mut places);
    }
    judge_answers(&mut verdict, entries, &roles, streams, &places);
    judge_heard(&mut verdict, entries, &roles, streams);
    verdict
}

/// The visitor's stream is the agents' without notes.
fn judge_streams(verdict: &mut Verdict, conv: u32, both: &Both) {
    let visible: Vec<&Event> = both.agent.iter().filter(|event| event.op != "note").collect();
    if visible.len() != both.visitor.len() {
        verdict.wrong(format!(
            "conversation {conv}: {} events for the visitor, {} without notes for agents",
            both.visitor.len(),
            visible.len()
        ));
    }
    if let Some(at) = visible.iter().zip(&both.visitor).position(|(one, other)| **one != *other) {
        verdict.wrong(format!(
            "conversation {conv}: the streams differ at the visitor's {}: {:?} and {:?}",
            at + 1,
            visible[at],
            both.visitor[at]
        ));
    }
}

/// Every text was said so, once, and in its author's order unless he was told to wait in between.
fn judge_words(
    verdict: &mut Verdict,
    conv: u32,
    stream: &Stream,
    said: &HashMap<Word, (u32, Op, u64)>,
    refused: &HashSet<u16>,
    places: &mut HashMap<Word, (u32, u32)>,
) {
    let mut last: HashMap<u16, u32> = HashMap::new();
    for (place, event) in stream.iter().enumerate() {
        let s = place as u32 + 1;
        if !matches!(event.op.as_str(), "msg" | "note") {
            continue;
        }
        let Some(word) = event.word else {
            verdict.wrong(format!("conversation {conv}: number {s} is nobody's word"));
            continue;
        };
        match said.get(&word) {
            Some(&(meant, op, hash)) if meant == conv && op.event() == event.op && hash == event.text => {}
            Some(meant) => verdict.wrong(format!(
                "conversation {conv}: number {s} ({word:?}) is not what was said: {meant:?}, {event:?}"
            )),
            None => verdict.wrong(format!("conversation {conv}: number {s} ({word:?}) was never said")),
        }
        if let Some(first) = places.insert(word, (conv, s)) {
            verdict.doubled += 1;
            verdict.find(format!("{word:?} is doubled: at {first:?} and at ({conv}, {s})"));
        }
        let before = last.insert(word.client, word.k).unwrap_or(0);
        if before > word.k && !refused.contains(&word.client) {
            verdict.wrong(format!(
                "conversation {conv}: client {} said {} before {before}, stored after it as {s}",
                word.client, word.k
            ));
        }
    }
}

/// Everything acknowledged is where the acknowledgement said.
fn judge_answers(
    verdict: &mut Verdict,
    entries: &[Entry],
    roles: &HashMap<u16, Role>,
    streams: &HashMap<u32, Both>,
    places: &HashMap<Word, (u32, u32)>,
) {
    let mut acked: HashMap<Word, u32> = HashMap::new();
    for entry in entries {
        let Entry::Acked(word, conv, s, op, _) = entry else { continue };
        if let Some(before) = acked.insert(*word, *s) {
            if before != *s {
                verdict.wrong(format!("{word:?} was acknowledged as {before} and as {s}"));
            }
            continue;
        }
        verdict.acked += 1;
        let Some(both) = streams.get(conv) else {
            verdict.lost += 1;
            verdict.find(format!("{word:?}: conversation {conv} is gone"));
            continue;
        };
        let stream = if roles.get(&word.client) == Some(&Role::Agent) { &both.agent } else { &both.visitor };
        let event = stream.get((*s as usize).wrapping_sub(1));
        let right = match op {
            Op::Message | Op::Note => event.is_some_and(|event| event.word == Some(*word)),
            Op::Accept | Op::Close => event.is_some_and(|event| event.op == op.event()),
        };
        if right {
            continue;
        }
        match places.get(word) {
            Some(place) => verdict.wrong(format!(
                "{word:?} was acknowledged as {s} of conversation {conv} and is at {place:?}"
            )),
            None => {
                verdict.lost += 1;
                verdict.find(format!("{word:?} ({op:?}) was acknowledged as {s} of conversation {conv} (head {}) and is not there: {event:?}", stream.len()));
            }
        }
    }
    verdict.unknown = places.keys().filter(|word| !acked.contains_key(word)).count() as u64;
}

/// Whatever anybody heard is still so, and nothing heard is gone.
fn judge_heard(
    verdict: &mut Verdict,
    entries: &[Entry],
    roles: &HashMap<u16, Role>,
    streams: &HashMap<u32, Both>,
) {
    for entry in entries {
        let Entry::Heard(client, conv, s, content) = entry else { continue };
        verdict.heard += 1;
        let Some(both) = streams.get(conv) else { continue };
        let stream = if roles.get(client) == Some(&Role::Agent) { &both.agent } else { &both.visitor };
        match stream.get((*s as usize).wrapping_sub(1)) {
            Some(event) if event.content == *content => {}
            Some(event) => verdict.wrong(format!(
                "client {client} heard something else as {s} of conversation {conv} than {event:?}"
            )),
            None => verdict.wrong(format!(
                "client {client} heard {s} of conversation {conv}, which is unsaid: its head is {}",
                stream.len()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(op: &str, client: u16, k: u32) -> Event {
        Event {
            op: op.to_owned(),
            content: u64::from(k) + 100,
            text: u64::from(k),
            word: (client > 0).then_some(Word { client, k }),
        }
    }

    /// A visitor 1 and an agent 2 in a conversation: a message, a note, a message.
    fn world() -> (Vec<Entry>, HashMap<u32, Both>) {
        let (hello, note, answer) = (event("msg", 1, 1), event("note", 2, 1), event("msg", 2, 2));
        let word = |client, k| Word { client, k };
        let entries = vec![
            Entry::Client(1, Role::Visitor),
            Entry::Client(2, Role::Agent),
            Entry::Said(word(1, 1), 0, Op::Message, 1),
            Entry::Said(word(2, 1), 0, Op::Note, 1),
            Entry::Said(word(2, 2), 0, Op::Message, 2),
            Entry::Acked(word(1, 1), 0, 1, Op::Message, false),
            Entry::Acked(word(2, 2), 0, 3, Op::Message, false),
            Entry::Heard(1, 0, 2, 102),
            Entry::Heard(2, 0, 2, 101),
        ];
        let both = Both { agent: vec![hello.clone(), note, answer.clone()], visitor: vec![hello, answer] };
        (entries, HashMap::from([(0, both)]))
    }

    fn with(change: impl FnOnce(&mut Vec<Entry>, &mut Both)) -> Verdict {
        let (mut entries, mut streams) = world();
        change(&mut entries, streams.get_mut(&0).unwrap());
        judge(&entries, &streams)
    }

    #[test]
    fn a_world_in_order_is_good() {
        let verdict = with(|_, _| {});
        assert!(verdict.is_good(), "{verdict:?}");
        assert_eq!((verdict.acked, verdict.said, verdict.unknown, verdict.heard), (2, 3, 1, 2));
    }

    #[test]
    fn what_breaks_the_contract_is_found() {
        let lost = with(|_, both| {
            both.agent.truncate(2);
            both.visitor.truncate(1);
        });
        assert_eq!(lost.lost, 1);
        assert!(lost.wrong > 0, "and it was heard: {lost:?}");
        let doubled = with(|_, both| {
            both.agent.push(event("msg", 2, 2));
            both.visitor.push(event("msg", 2, 2));
        });
        assert_eq!(doubled.doubled, 1);
        let swapped = with(|entries, both| {
            entries.retain(|entry| !matches!(entry, Entry::Acked(..) | Entry::Heard(..)));
            both.agent.swap(1, 2);
        });
        assert!(!swapped.is_good(), "an author's order: {swapped:?}");
        let told_note = with(|_, both| both.visitor.push(event("note", 2, 1)));
        assert!(!told_note.is_good());
        let changed = with(|entries, _| entries.push(Entry::Heard(2, 0, 3, 7)));
        assert_eq!(changed.wrong, 1);
        let unsaid = with(|entries, _| entries.push(Entry::Heard(1, 0, 3, 7)));
        assert_eq!(unsaid.wrong, 1);
        let moved =
            with(|entries, _| entries.push(Entry::Acked(Word { client: 2, k: 2 }, 0, 2, Op::Message, true)));
        assert_eq!(moved.wrong, 1);
        let phantom = with(|_, both| both.agent.insert(1, event("note", 2, 9)));
        assert!(!phantom.is_good());
    }
}
