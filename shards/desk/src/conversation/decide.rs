//! Decisions: may this happen, and under which numbers? Nothing here changes anything.
//!
//! A repetition is recognised before anything else is looked at, so that it gets the first answer whatever has happened since.

use super::devices::VISITOR_DEVICES_MAX;
use super::events::{self, EVENTS_MAX, HEAD_SIZE, Head, What};
use super::{AGENTS_MAX, About, ConvIx, Conversation, Conversations, DEVICES_MAX, ROW_SIZE, Status, devices};
use crate::id::{AgentId, VisitorId};
use crate::plant;
use crate::store::{SLAB_SIZE, rounded};

/// Events that only changes of state may use, of the most that a conversation can have.
const STATE_EVENTS: u32 = 1024;
/// The part of the memory for events that changes of state may take beyond it.
const STATE_PART: usize = 16;
/// The part of the memory for events that the words of one conversation may take …
const WORDS_PART: usize = 16;
/// … and what they may take in any case, in bytes.
const WORDS_SIZE_MIN: usize = 1 << 20;

/// Who wants something. That the conversation is this visitor's is the caller's check ([`Conversation::visitor`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Its visitor.
    Visitor,
    /// An agent.
    Agent(AgentId),
}

/// Why something will not happen; nothing was stored. Each has its error code in docs/protocol.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No such conversation, or not his. The client's fault.
    NotFound,
    /// This `cid` was used for something else. The client's bug.
    IdConflict,
    /// Somebody else was faster.
    Stale,
    /// The conversation is closed.
    Closed,
    /// The conversation is another agent's, or nobody's yet.
    NotOwner,
    /// Memory is full.
    Overloaded,
    /// The conversation is as large as one may become; nothing changes that.
    Full,
}

/// What becomes of a `start`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartDecision {
    /// A STARTED record is to be written.
    New,
    /// The visitor has this one.
    Returns {
        /// Which.
        ix: ConvIx,
        /// Whether it was this very `start` that made it: a repetition.
        is_repeated: bool,
    },
}

/// What becomes of a message or note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Say {
    /// A record is to be written.
    New {
        /// The message's number in the agent stream.
        s: u32,
        /// The message's number in the visitor stream; of a note, the stream's head.
        vs: u32,
        /// Whether a REOPENED record with the numbers before these (`s - 1`, `vs - 1`) is to be written and applied first.
        reopens: bool,
    },
    /// Said before.
    Known {
        /// Its number in the agent stream.
        s: u32,
        /// Its number in the visitor stream; of a note, the stream's head at that time.
        vs: u32,
        /// When, in milliseconds since 1970.
        ts_ms: u64,
    },
}

/// What becomes of an `accept` that the dispatcher has let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Assign {
    /// An ASSIGNED record is to be written.
    New {
        /// Its number in the agent stream.
        s: u32,
        /// Its number in the visitor stream.
        vs: u32,
        /// The epoch it begins.
        epoch: u32,
    },
    /// Accepted before, by the same request.
    Known {
        /// Its number in the agent stream.
        s: u32,
        /// Its number in the visitor stream.
        vs: u32,
        /// When, in milliseconds since 1970.
        ts_ms: u64,
    },
}

/// What becomes of a `close`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// A CLOSED record is to be written.
    New {
        /// Its number in the agent stream.
        s: u32,
        /// Its number in the visitor stream.
        vs: u32,
    },
    /// Closed before, by the same request.
    Known {
        /// Its number in the agent stream.
        s: u32,
        /// Its number in the visitor stream.
        vs: u32,
        /// When, in milliseconds since 1970.
        ts_ms: u64,
    },
}

impl Conversations {
    /// A visitor wants to begin.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] when seven eighths of the hot bytes are in use; the rest is for conversations that exist. [`Refusal::IdConflict`] when
    /// something was said under this `cid`.
    pub fn decide_start(
        &self,
        visitor: VisitorId,
        device: u128,
        cid: u128,
    ) -> Result<StartDecision, Refusal> {
        if let Some(ix) = self.of_visitor(visitor) {
            let is_repeated = self.began_with(ix, device, cid);
            if !is_repeated && self.said(self.conversation(ix), device, cid).is_some() {
                return Err(Refusal::IdConflict);
            }
            return Ok(StartDecision::Returns { ix, is_repeated });
        }
        let bound = self.hot_bytes_max() - self.hot_bytes_max() / 8;
        if self.hot_bytes() + ROW_SIZE > bound {
            return Err(Refusal::Overloaded);
        }
        Ok(StartDecision::New)
    }

    /// Numbers (`s`, `vs`) of the REOPENED record that a returning visitor's `start` without a message needs, if it is closed.
    pub fn decide_reopen(&self, ix: ConvIx) -> Option<(u32, u32)> {
        let conversation = self.conversation(ix);
        (conversation.status == Status::Closed).then(|| next_numbers(conversation, What::Reopened))
    }

    /// Somebody wants to say `body_size` bytes. `note`: to agents only (an agent's; that it is one is the caller's check).
    ///
    /// # Errors
    /// `IdConflict`; an agent's message when it is `Closed` or he is `NotOwner`; `Full`; `Overloaded`.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a field of the request; a struct would only rename them"
    )]
    pub fn decide_say(
        &self,
        ix: ConvIx,
        who: Who,
        note: bool,
        device: u128,
        cid: u128,
        body_hash: u64,
        body_size: usize,
    ) -> Result<Say, Refusal> {
        let conversation = self.conversation(ix);
        let what = if note { What::Note } else { What::Message };
        if let Some((s, head)) = self.said(conversation, device, cid) {
            self.check_same(conversation, &head, who, what, body_hash)?;
            return Ok(Say::Known { s, vs: head.vs, ts_ms: head.ts_ms });
        }
        self.check_not_start(ix, who, device, cid)?;
        if let (Who::Agent(agent), false) = (who, note) {
            match conversation.status {
                Status::Closed => return Err(Refusal::Closed),
                Status::Waiting => return Err(Refusal::NotOwner),
                Status::Open if conversation.owner != Some(agent) => return Err(Refusal::NotOwner),
                Status::Open => {}
            }
        }
        self.check_room(conversation, who, device, body_size)?;
        let reopens = who == Who::Visitor && !note && conversation.status == Status::Closed;
        let (s, vs) = next_numbers(conversation, what);
        let before = u32::from(reopens);
        Ok(Say::New { s: s + before, vs: vs + before, reopens })
    }

    /// The dispatcher wants `agent` to own it, as it knew it at `expect_epoch`.
    ///
    /// # Errors
    /// `Stale` if it no longer waits or has been assigned since; `IdConflict`; `Full`; `Overloaded`.
    pub fn decide_assign(
        &self,
        ix: ConvIx,
        agent: AgentId,
        expect_epoch: u32,
        device: u128,
        cid: u128,
    ) -> Result<Assign, Refusal> {
        let conversation = self.conversation(ix);
        let who = Who::Agent(agent);
        if let Some((s, head)) = self.said(conversation, device, cid) {
            self.check_same(conversation, &head, who, What::Assigned, head.hash)?;
            return Ok(Assign::Known { s, vs: head.vs, ts_ms: head.ts_ms });
        }
        if conversation.status != Status::Waiting || conversation.epoch != expect_epoch {
            return Err(Refusal::Stale);
        }
        self.check_room(conversation, who, device, 0)?;
        let (s, vs) = next_numbers(conversation, What::Assigned);
        Ok(Assign::New { s, vs, epoch: conversation.epoch + 1 })
    }

    /// Somebody wants to close it.
    ///
    /// # Errors
    /// `Closed` if it is; `NotOwner` if an agent is not its owner; `IdConflict`; `Full`; `Overloaded`.
    pub fn decide_close(&self, ix: ConvIx, who: Who, device: u128, cid: u128) -> Result<Close, Refusal> {
        let conversation = self.conversation(ix);
        if let Some((s, head)) = self.said(conversation, device, cid) {
            self.check_same(conversation, &head, who, What::Closed, head.hash)?;
            return Ok(Close::Known { s, vs: head.vs, ts_ms: head.ts_ms });
        }
        self.check_not_start(ix, who, device, cid)?;
        match (who, conversation.status) {
            (_, Status::Closed) => return Err(Refusal::Closed),
            (Who::Agent(agent), _) if conversation.owner != Some(agent) => return Err(Refusal::NotOwner),
            (Who::Agent(_) | Who::Visitor, Status::Waiting | Status::Open) => {}
        }
        self.check_room(conversation, who, device, 0)?;
        let (s, vs) = next_numbers(conversation, What::Closed);
        Ok(Close::New { s, vs })
    }

    /// What this device said under this `cid`, if it is among its last 256.
    fn said(&self, conversation: &Conversation, device: u128, cid: u128) -> Option<(u32, Head)> {
        if plant::is("dedupe-ignores-device") {
            return (1..=conversation.s)
                .filter_map(|s| Some((s, events::head(conversation, &self.store, s)?)))
                .find(|(_, head)| head.cid == cid && cid != 0);
        }
        let index = devices::find(&conversation.devices, &self.store, device)?;
        devices::candidates(&conversation.devices, &self.store, index, cid).find_map(|s| {
            let head = events::head(conversation, &self.store, s)?;
            let evicted = plant::is("dedupe-evicted-early") && conversation.s - s >= 8;
            (head.cid == cid && !evicted).then_some((s, head))
        })
    }

    /// Whether it was begun by this very `start`.
    fn began_with(&self, ix: ConvIx, device: u128, cid: u128) -> bool {
        let about = self.conversation(ix).about;
        !about.block.is_none() && self.store.bytes(about.block, About::FIXED_SIZE) == About::key(device, cid)
    }

    /// The `cid` of the `start` that made it is no other thing's.
    fn check_not_start(&self, ix: ConvIx, who: Who, device: u128, cid: u128) -> Result<(), Refusal> {
        if who == Who::Visitor && self.began_with(ix, device, cid) {
            return Err(Refusal::IdConflict);
        }
        Ok(())
    }

    fn check_same(
        &self,
        conversation: &Conversation,
        head: &Head,
        who: Who,
        what: What,
        hash: u64,
    ) -> Result<(), Refusal> {
        let is_his = match who {
            Who::Visitor => head.is_by_visitor(),
            Who::Agent(agent) => head.agent(conversation, &self.store) == Some(agent),
        };
        let is_same = is_his && head.what == what && (head.hash == hash || plant::is("id-conflict-ignored"));
        if is_same { Ok(()) } else { Err(Refusal::IdConflict) }
    }

    fn check_room(
        &self,
        conversation: &Conversation,
        who: Who,
        device: u128,
        body_size: usize,
    ) -> Result<(), Refusal> {
        assert!(body_size <= SLAB_SIZE - HEAD_SIZE, "the protocol bounds a body far below a slab");
        // What changes its state may use a reserve: a conversation that takes no more words must still be accepted and closed.
        let is_word = body_size > 0;
        let events_max = if is_word { EVENTS_MAX - STATE_EVENTS } else { EVENTS_MAX };
        let hot_bytes_max =
            self.hot_bytes_max() + if is_word { 0 } else { self.hot_bytes_max() / STATE_PART };
        let devices_max = if who == Who::Visitor { VISITOR_DEVICES_MAX } else { DEVICES_MAX };
        // Two numbers may be needed: one to reopen.
        let is_full = conversation.s + 2 > events_max
            || (conversation.devices.count() >= devices_max
                && devices::find(&conversation.devices, &self.store, device).is_none())
            || (conversation.agents.count() == AGENTS_MAX
                && matches!(who, Who::Agent(agent)
                    if events::find_agent(conversation, &self.store, agent.bits()).is_none()));
        let event_size = rounded(HEAD_SIZE + body_size);
        let words_size_max = (self.hot_bytes_max() / WORDS_PART).max(WORDS_SIZE_MIN);
        if is_full || (is_word && conversation.events_size as usize + event_size > words_size_max) {
            return Err(Refusal::Full);
        }
        let size = event_size + HEAD_SIZE + conversation.index.next_push_size();
        if self.hot_bytes() + size > hot_bytes_max {
            return Err(Refusal::Overloaded);
        }
        Ok(())
    }
}

fn next_numbers(conversation: &Conversation, what: What) -> (u32, u32) {
    (conversation.s + 1, conversation.vs + u32::from(what.for_visitor()))
}
