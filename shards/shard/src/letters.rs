//! Letters from other shards, and from this one to itself.

use desk::encode::Party;
use desk::request::ErrorCode;
use mail::{Answer, Letter};

use crate::due::{Asker, Due};
use crate::home::Word;
use crate::shard::Shard;

impl Shard {
    pub(crate) fn on_letter(&mut self, from: u16, letter: Letter) {
        // What is durable goes in order: behind a word that waits for room, every later word waits.
        if matches!(letter, Letter::Say { .. } | Letter::Close { .. } | Letter::Assign { .. })
            && !(self.parked.is_empty() && self.has_room_for(&letter))
        {
            self.counters.letters_parked += 1;
            self.parked.push_back((from, letter));
            return;
        }
        self.open_letter(from, letter);
    }

    fn has_room_for(&self, letter: &Letter) -> bool {
        let body = match letter {
            Letter::Say { body, .. } => body.len(),
            _ => 0,
        };
        self.log.takes(4 * 1024 + body) || self.log.is_full_for(body)
    }

    /// Opens letters that waited, as far as there is room.
    pub(crate) fn open_parked(&mut self) {
        while let Some((_, letter)) = self.parked.front() {
            if !self.has_room_for(letter) {
                return;
            }
            let (from, letter) = self.parked.pop_front().expect("seen above");
            self.open_letter(from, letter);
        }
    }

    fn open_letter(&mut self, from: u16, letter: Letter) {
        match letter {
            Letter::Say { ask, c, by, note, is_over, body_hash, body } => {
                match self.homes.convs.find(c) {
                    None => self.answer(from, ask, Answer::Refused(ErrorCode::NotFound)),
                    Some(ix) => {
                        let word = Word {
                            note,
                            body_hash,
                            body: core::str::from_utf8(&body)
                                .expect("a door posts the text of a parsed request"),
                            ..Word::of_agent(from, ask, by, is_over)
                        };
                        self.say(ix, &word);
                    }
                }
                self.spent(from, body);
            }
            Letter::Close { ask, c, by, is_over } => match self.homes.convs.find(c) {
                None => self.answer(from, ask, Answer::Refused(ErrorCode::NotFound)),
                Some(ix) => self.close_conversation(ix, &Word::of_agent(from, ask, by, is_over)),
            },
            Letter::Listen { ask, c, since, epoch, limit } => {
                let since = self.trusted(since, epoch);
                self.due(Due::Listen { from, ask, c, since, limit });
            }
            Letter::Pull { ask, c, since } => self.answer_pull(from, ask, c, since),
            Letter::History { ask, c, before, limit } => {
                self.due(Due::History { to: Asker::Door(from), ask, c, before, limit })
            }
            Letter::Accept { request, agent, c, offer, is_over } => {
                self.on_accept(request, agent, c, offer, is_over);
            }
            Letter::List { ask, agent, scope, after } => self.answer_list(from, ask, agent, scope, after),
            Letter::Assign { c, agent, expect, request } => self.assign(from, c, agent, expect, request),
            Letter::Answer(ask, answer) => {
                self.post.on_answer(from);
                self.on_answer(ask, answer);
            }
            Letter::AssignResult { c, agent, request, asked, result } => {
                self.post.on_answer(from);
                self.on_assign_result(c, agent, request, asked, result);
            }
            Letter::Event { c, s, push } => {
                self.on_event(c, s, &push);
                self.spent(from, push);
            }
            Letter::Hint { c, push } => {
                self.on_hint(c, &push);
                self.spent(from, push);
            }
            Letter::Row(row) => self.on_row(&row),
            Letter::Offer { agent, c, offer, ttl_ms, about } => {
                self.on_offer(agent, c, offer, ttl_ms, about.0.as_str(), about.1.as_str());
            }
            Letter::Avail { agent, state, cap, load } => self.on_avail(agent, state, cap, load),
            Letter::Position { c, pos } => self.on_position(c, pos),
            Letter::Head { c, s } => {
                if let Some(watch) = self.watches.find(c) {
                    watch.head = watch.head.max(s);
                    for listener in &watch.listeners {
                        if listener.told < s {
                            self.sessions.at(listener.session).behind = true;
                        }
                    }
                    self.watches.note_behind(c);
                }
            }
            Letter::Announce(row) => self.on_announce(from, *row),
            Letter::AnnounceEnd => self.on_announce_end(from),
            Letter::Ticket { c, ticket } => self.on_ticket(c, ticket),
            Letter::Presence { agent, sessions, said } => self.on_presence(from, agent, sessions, said),
            Letter::Decline { agent, c, offer } => self.on_decline(agent, c, offer),
            Letter::Lists(on) => self.on_lists(from, on),
            Letter::ListsStale => self.on_lists_stale(),
            Letter::Unlisten(c) => {
                if let Some(ix) = self.homes.convs.find(c) {
                    self.homes.heads_mut(ix).doors &= !(1 << from);
                }
            }
            Letter::Cursor { c, seen, delivered } => self.on_cursor(c, seen, delivered),
            Letter::Typing { c, who, id, on } => {
                if let Some(ix) = self.homes.convs.find(c) {
                    self.tell_typing(ix, who, id, on);
                }
            }
            Letter::Spent(buffer) => self.pool.give(buffer),
        }
    }

    fn on_cursor(&mut self, c: desk::id::ConversationId, seen: u32, delivered: u32) {
        let Some(ix) = self.homes.convs.find(c) else { return };
        if seen > 0 {
            self.mark_receipt(ix, Party::Agent, true, seen);
        }
        if delivered > 0 {
            self.mark_receipt(ix, Party::Agent, false, delivered);
        }
    }

    /// A buffer goes back to the shard whose pool it came from, so that one-way traffic does not drain it.
    fn spent(&mut self, from: u16, mut buffer: Vec<u8>) {
        if from != self.me() && self.post.has_room(from) {
            buffer.clear();
            self.post.post(from, Letter::Spent(buffer));
        } else {
            self.pool.give(buffer);
        }
    }
}
