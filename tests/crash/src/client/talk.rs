//! What a client says by itself: its words, its questions and its acknowledgements.

use std::time::{Duration, Instant};

use serde_json::json;

use super::outbox::Item;
use super::stream::Stream;
use super::{ACK_EVENTS, ANSWER_TIME, Asked, Client, FLYING_MAX, Line};
use crate::record::{Entry, Op, Role};
use crate::words::{self, Word};

impl Client {
    pub(super) fn turn(&mut self, line: &mut Line) {
        if line.ready {
            self.listen_to_new();
            if self.world.talk.get() {
                self.think();
            }
            self.send_words(line);
            self.send_syncs(line);
            self.send_ack(line);
        }
        line.flush();
    }

    /// An agent begins to listen to conversations that were made known to him.
    fn listen_to_new(&mut self) {
        if self.role != Role::Agent {
            return;
        }
        let conversations = self.world.conversations.borrow();
        for (conv, conversation) in conversations.iter().enumerate().skip(self.known) {
            if conversation.agent == self.id || conversation.observer == self.id {
                self.streams.insert(conv as u32, Stream::default());
            }
        }
        self.known = conversations.len();
    }

    /// Thinks of new things to say, as many as the rate wants by now.
    fn think(&mut self) {
        let now = Instant::now();
        if self.role == Role::Visitor && self.conversation.is_none() {
            if self.outbox.count() == 0 {
                self.add_word(None, Op::Message);
            }
            return;
        }
        if now.saturating_duration_since(self.next_word_at) > Duration::from_secs(1) {
            // A client that was away does not make up for it.
            self.next_word_at = now - self.chance.time(Duration::from_millis(100));
        }
        let manners = &self.world.manners;
        let (share, closes) = (
            if self.role == Role::Visitor { manners.visitors } else { manners.agents },
            manners.closes_per_mille,
        );
        let pause = Duration::from_secs_f64(f64::from(share) / (manners.rate / 2.0).max(0.001));
        while self.next_word_at <= now {
            // A little irregular, so that clients do not speak in step.
            self.next_word_at += pause / 2 + self.chance.time(pause);
            if self.outbox.count() >= FLYING_MAX {
                continue;
            }
            if let Some(conv) = self.conversation {
                let op = if self.chance.often(closes) { Op::Close } else { Op::Message };
                self.add_word(Some(conv), op);
            } else {
                self.think_of_agents_word(closes);
            }
        }
        if self.role == Role::Agent {
            self.think_of_accepting();
        }
    }

    fn think_of_agents_word(&mut self, closes: u64) {
        let mut convs: Vec<u32> = self.streams.keys().copied().collect();
        if convs.is_empty() {
            return;
        }
        convs.sort_unstable();
        let conv = convs[self.chance.below(convs.len() as u64) as usize];
        let first = self.world.conversations.borrow()[conv as usize].agent == self.id;
        let open = self.streams[&conv].is_open;
        if !first || !open {
            // Any agent may write a note. An observer writes few.
            if first || self.chance.often(300) {
                self.add_word(Some(conv), Op::Note);
            }
        } else if self.chance.often(closes) {
            self.add_word(Some(conv), Op::Close);
        } else {
            let op = if self.chance.often(100) { Op::Note } else { Op::Message };
            self.add_word(Some(conv), op);
        }
    }

    fn think_of_accepting(&mut self) {
        let waiting: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.is_waiting && !stream.wanted)
            .map(|(&conv, _)| conv)
            .collect();
        for conv in waiting {
            let first = self.world.conversations.borrow()[conv as usize].agent == self.id;
            if first && !self.outbox.has(conv, Op::Accept) {
                // Asked again only after the next word of the state.
                self.stream(conv).is_waiting = false;
                self.add_word(Some(conv), Op::Accept);
            }
        }
    }

    fn add_word(&mut self, conv: Option<u32>, op: Op) {
        let word = Word { client: self.id, k: self.next_k };
        self.next_k += 1;
        let body = match op {
            Op::Message | Op::Note => word.body(&mut self.chance),
            Op::Accept | Op::Close => String::new(),
        };
        let hash = words::hash(body.as_bytes());
        if let Some(conv) = conv {
            self.world.note(&Entry::Said(word, conv, op, hash));
        }
        self.outbox.add(Item { k: word.k, conv, op, body, hash, flying: false, not_before: None });
        self.count_unanswered();
    }

    pub(super) fn say_start(&mut self, line: &mut Line) {
        if self.outbox.count() == 0 {
            if !self.world.talk.get() {
                return;
            }
            self.add_word(None, Op::Message);
        }
        self.send_words(line);
    }

    fn send_words(&mut self, line: &mut Line) {
        let now = Instant::now();
        let (seed, id) = (self.world.manners.seed, self.id);
        let ids = self.world.conversations.borrow();
        while let Some(item) = self.outbox.next(now) {
            let word = Word { client: id, k: item.k };
            let cid = word.cid(seed);
            let c = item.conv.map(|conv| ids[conv as usize].id.as_str());
            let (op, d) = match (item.op, c) {
                (Op::Message, None) => {
                    let first = json!({ "cid": cid, "type": "text", "body": item.body });
                    // `start` has an id of its own.
                    let own = format!("start{}", &cid[..27]);
                    (
                        "start",
                        json!({ "cid": own, "name": format!("visitor {id}"), "page": "https://shop.example/", "locale": "en", "first": first }),
                    )
                }
                (Op::Message, c) => {
                    ("send", json!({ "c": c, "cid": cid, "type": "text", "body": item.body }))
                }
                (Op::Note, c) => ("note", json!({ "c": c, "cid": cid, "body": item.body })),
                (Op::Accept, c) => ("accept", json!({ "c": c, "cid": cid })),
                (Op::Close, c) => ("close", json!({ "c": c, "cid": cid })),
            };
            item.flying = true;
            line.ask(op, &d, Asked::Word(word.k));
        }
    }

    fn send_syncs(&mut self, line: &mut Line) {
        let now = Instant::now();
        let ids = self.world.conversations.borrow();
        let mut cursors = Vec::new();
        let mut asked = Vec::new();
        for (&conv, stream) in &mut self.streams {
            stream.look_around(now, ANSWER_TIME);
            let id = &ids[conv as usize].id;
            if stream.may_ask(now) && cursors.len() < 500 {
                stream.asked_at = Some(now);
                stream.wanted = false;
                let mut cursor = json!({ "c": id, "s": stream.last });
                if let Some(e) = stream.e {
                    cursor["e"] = e.into();
                }
                cursors.push(cursor);
                asked.push(conv);
            }
            if let Some((_, to)) = stream.hole
                && stream.asked_history.is_none()
            {
                stream.asked_history = Some(now);
                line.ask(
                    "history",
                    &json!({ "c": id, "before": to + 1, "limit": 200 }),
                    Asked::History(conv),
                );
            }
        }
        if !cursors.is_empty() {
            line.ask("sync", &json!({ "cursors": cursors, "limit": 500 }), Asked::Sync(asked));
        }
    }

    fn send_ack(&mut self, line: &mut Line) {
        let due = line.ack_now
            || self.p - line.acked_p >= ACK_EVENTS
            || line.ack_at.is_some_and(|at| at <= Instant::now());
        if due && self.p > line.acked_p {
            line.tell("ack", &json!({ "p": self.p }));
            line.acked_p = self.p;
            // Somebody reads, and somebody types.
            if let Some((&conv, stream)) = self.streams.iter().next() {
                let ids = self.world.conversations.borrow();
                line.tell("seen", &json!({ "c": ids[conv as usize].id, "s": stream.last }));
                line.tell("typing", &json!({ "c": ids[conv as usize].id, "on": self.p.is_multiple_of(2) }));
            }
        }
        if due {
            line.ack_at = None;
            line.ack_now = false;
        }
    }
}
