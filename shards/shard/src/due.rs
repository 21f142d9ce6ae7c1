//! What waits for the journal: nobody, neither sender nor reader, hears of anything that a crash could still unsay.

use std::collections::VecDeque;

use desk::conversation::ConvIx;
use desk::dispatcher::RequestRef;
use desk::id::{AgentId, ConversationId};
use desk::request::ErrorCode;
use journal::CommitPoint;
use mail::{Ask, Stored};

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A visitor, whose socket is here.
    Visitor,
    /// An agent, through his door on that shard (which may be this one).
    Door(u16),
}

/// To be done once everything appended so far is durable.
pub(crate) enum Due {
    /// Answer something durable.
    Stored { to: Asker, ask: Ask, c: Option<ConvIx>, stored: Stored },
    /// Refuse; derived from a state that must stand first.
    Refuse { to: Asker, ask: Ask, code: ErrorCode },
    /// Tell everybody who listens.
    Event { ix: ConvIx, s: u32, vs: u32 },
    /// Tell the receipts as the record has them.
    Receipts { ix: ConvIx },
    /// Announce to the dispatcher, unless the conversation has moved on.
    Announce { ix: ConvIx, transition: u32 },
    /// Tell the dispatcher how an assignment went.
    Assigned {
        to: u16,
        c: ConversationId,
        agent: AgentId,
        request: RequestRef,
        asked: bool,
        result: Result<(u32, Stored), ErrorCode>,
    },
    /// Answer a listener at another door.
    Listen { from: u16, ask: Ask, c: ConversationId, since: u32, limit: u16 },
    /// Answer a visitor's `sync`.
    VisitorSync { session: u32, generation: u32, c: ConversationId, since: u32, limit: u16 },
    /// Answer a page of history.
    History { to: Asker, ask: Ask, c: ConversationId, before: u32, limit: u16 },
    /// Answer `auth`: it names the conversation's head.
    Ready { session: u32, generation: u32, re: Option<u32>, resumed: bool, replay: u32 },
}

/// The line of those.
#[derive(Default)]
pub(crate) struct Line {
    line: VecDeque<(CommitPoint, Due)>,
}

impl Line {
    /// Waits until `point` is durable.
    pub(crate) fn push(&mut self, point: CommitPoint, due: Due) {
        self.line.push_back((point, due));
    }

    /// The next one whose time has come.
    pub(crate) fn pop(&mut self, durable: CommitPoint) -> Option<Due> {
        if self.line.front()?.0 > durable {
            return None;
        }
        self.line.pop_front().map(|(_, due)| due)
    }

    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }
}
