//! What leaves for other shards, and the rule that keeps two full mailboxes from stopping each other.
//!
//! A mailbox of `size` letters is divided: a quarter is kept for answers, and a shard has at most a quarter in unanswered requests at each other
//! shard. An answer therefore always finds room: the peer's unanswered requests bound the answers on their way to it. Deliveries and state use the rest.

use std::collections::VecDeque;

use mail::{Letter, LetterClass};

/// The outgoing side of all mailboxes.
pub(crate) struct Post {
    me: u16,
    answers_kept: u32,
    requests_max: u32,
    /// Free letters by shard, counted down as they are posted.
    rooms: Vec<u32>,
    /// Requests without an answer yet, by shard.
    unanswered: Vec<u32>,
    /// State letters that found no room, in order. Bounded by the things they speak of: tickets by waiting conversations, the rest by sessions.
    owed: Vec<VecDeque<Letter>>,
    /// Letters to this shard itself, handled before the step returns.
    pub(crate) local: VecDeque<Letter>,
    /// Letters to post, in order.
    pub(crate) out: Vec<(u16, Letter)>,
    /// Letters posted so far.
    pub(crate) posted: u64,
}

impl Post {
    pub(crate) fn new(me: u16, shard_count: u16, mailbox_size: u32) -> Post {
        assert!(mailbox_size >= 64, "a quarter of it must hold a few requests");
        let count = usize::from(shard_count);
        Post {
            me,
            answers_kept: mailbox_size / 4,
            requests_max: mailbox_size / 4,
            rooms: vec![0; count],
            unanswered: vec![0; count],
            owed: (0..count).map(|_| VecDeque::new()).collect(),
            local: VecDeque::new(),
            out: Vec::new(),
            posted: 0,
        }
    }

    /// State letters that found no room yet.
    pub(crate) fn owed(&self) -> u64 {
        self.owed.iter().map(|line| line.len() as u64).sum()
    }

    /// Requests without an answer yet.
    pub(crate) fn unanswered(&self) -> u64 {
        self.unanswered.iter().copied().map(u64::from).sum()
    }

    /// The mailboxes have this much room now.
    pub(crate) fn on_rooms(&mut self, rooms: &[u32]) {
        self.rooms.copy_from_slice(rooms);
    }

    /// Whether a request may be posted to that shard.
    pub(crate) fn can_request(&self, to: u16) -> bool {
        to == self.me
            || (self.unanswered[usize::from(to)] < self.requests_max
                && self.rooms[usize::from(to)] > self.answers_kept)
    }

    /// Whether a request may be posted to every shard.
    pub(crate) fn can_request_anywhere(&self) -> bool {
        (0..self.rooms.len()).all(|to| self.can_request(to as u16))
    }

    /// Whether a delivery or a state letter finds room at that shard.
    pub(crate) fn has_room(&self, to: u16) -> bool {
        to == self.me || self.rooms[usize::from(to)] > self.answers_kept
    }

    /// Posts a letter whose need was checked: see [`LetterClass`].
    pub(crate) fn post(&mut self, to: u16, letter: Letter) {
        let class = letter.class();
        let place = usize::from(to);
        if class == LetterClass::Request {
            assert!(self.can_request(to), "a request is posted only with a credit");
            self.unanswered[place] += 1;
        }
        if to == self.me {
            self.local.push_back(letter);
            return;
        }
        match class {
            LetterClass::Answer => assert!(self.rooms[place] > 0, "an answer's place was kept"),
            LetterClass::Request | LetterClass::Delivery | LetterClass::State => {
                assert!(self.rooms[place] > self.answers_kept, "room was checked");
            }
        }
        self.rooms[place] -= 1;
        self.posted += 1;
        self.out.push((to, letter));
    }

    /// Posts a state letter now, or keeps it until there is room. Order among them is kept.
    pub(crate) fn post_or_owe(&mut self, to: u16, letter: Letter) {
        if self.owed[usize::from(to)].is_empty() && self.has_room(to) {
            self.post(to, letter);
        } else {
            self.owed[usize::from(to)].push_back(letter);
        }
    }

    /// Posts what is owed as far as there is room.
    pub(crate) fn pay(&mut self) {
        for to in 0..self.owed.len() as u16 {
            while self.has_room(to)
                && let Some(letter) = self.owed[usize::from(to)].pop_front()
            {
                self.post(to, letter);
            }
        }
    }

    /// An answer came from that shard (or from this one).
    pub(crate) fn on_answer(&mut self, from: u16) {
        let unanswered = &mut self.unanswered[usize::from(from)];
        assert!(*unanswered > 0, "an answer answers a request");
        *unanswered -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::{Answer, Ask};

    const ASK: Ask = Ask { session: 0, generation: 0, re: None };

    #[test]
    fn an_answer_finds_room_when_nothing_else_does() {
        let mut post = Post::new(0, 2, 64);
        post.on_rooms(&[0, 16]);
        assert!(!post.has_room(1));
        assert!(!post.can_request(1));
        post.post(1, Letter::Answer(ASK, Answer::Refused(desk::request::ErrorCode::Internal)));
        assert_eq!(post.out.len(), 1);
    }

    #[test]
    fn what_is_owed_keeps_its_order_and_is_paid_when_there_is_room() {
        let mut post = Post::new(0, 2, 64);
        post.on_rooms(&[0, 16]);
        post.post_or_owe(1, Letter::Lists(true));
        post.on_rooms(&[0, 18]);
        post.post_or_owe(1, Letter::Lists(false));
        assert!(post.out.is_empty(), "a later one may not overtake");
        post.pay();
        assert!(matches!(post.out[..], [(1, Letter::Lists(true)), (1, Letter::Lists(false))]));
        assert!(post.owed[1].is_empty());
    }
}
