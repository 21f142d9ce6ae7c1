//! What agents at this door listen to: for each conversation the highest number that exists and how far each listener was told.
//!
//! A push is a hint: an event that arrives in order is told, anything else only raises `head`, and what is missing is pulled from the home.

use desk::id::ConversationId;
use desk::map::IdMap;

/// One session that listens.
#[derive(Clone, Copy)]
pub(crate) struct Listener {
    pub(crate) session: u32,
    /// Highest number it was told.
    pub(crate) told: u32,
}

/// One conversation that is listened to here.
#[derive(Default)]
pub(crate) struct Watch {
    /// Highest number that is durable at the home, as far as this door knows.
    pub(crate) head: u32,
    /// A pull is on its way.
    pub(crate) pulling: bool,
    /// It stands in [`Watches::behind`].
    queued: bool,
    pub(crate) listeners: Vec<Listener>,
    /// What the home should hear of reading and reaching; 0 = nothing new.
    pub(crate) seen: u32,
    pub(crate) delivered: u32,
}

impl Watch {
    pub(crate) fn listener(&mut self, session: u32) -> Option<&mut Listener> {
        self.listeners.iter_mut().find(|listener| listener.session == session)
    }
}

/// All that is listened to here.
#[derive(Default)]
pub(crate) struct Watches {
    pub(crate) by_c: IdMap<ConversationId, Watch>,
    /// Conversations of which the home should hear a cursor.
    pub(crate) cursors: Vec<ConversationId>,
    /// Requests to listen that their homes have not answered, for each conversation: each is, or will be, registered there.
    asked: IdMap<ConversationId, u32>,
    /// Conversations that nobody here listens to any more, which their homes should hear.
    pub(crate) leaving: Vec<ConversationId>,
    /// Conversations some listener of which may be behind, each once.
    behind: std::collections::VecDeque<ConversationId>,
}

impl Watches {
    pub(crate) fn find(&mut self, c: ConversationId) -> Option<&mut Watch> {
        self.by_c.get_mut(&c)
    }

    /// Adds a listener, or sets how far it was told. Returns whether the session is new here.
    pub(crate) fn listen(&mut self, c: ConversationId, session: u32, told: u32, head: u32) -> bool {
        let watch = self.by_c.entry(c).or_default();
        watch.head = watch.head.max(head);
        if !core::mem::replace(&mut watch.queued, true) {
            self.behind.push_back(c);
        }
        if let Some(listener) = watch.listener(session) {
            listener.told = told;
            return false;
        }
        watch.listeners.push(Listener { session, told });
        true
    }

    /// Some listener may be behind: it is looked at in the next turn.
    pub(crate) fn note_behind(&mut self, c: ConversationId) {
        if let Some(watch) = self.by_c.get_mut(&c)
            && !core::mem::replace(&mut watch.queued, true)
        {
            self.behind.push_back(c);
        }
    }

    /// How many are to be looked at.
    pub(crate) fn behind_count(&self) -> usize {
        self.behind.len()
    }

    /// The next one to look at.
    pub(crate) fn take_behind(&mut self) -> Option<ConversationId> {
        let c = self.behind.pop_front()?;
        if let Some(watch) = self.by_c.get_mut(&c) {
            watch.queued = false;
        }
        Some(c)
    }

    /// A request to listen was posted.
    pub(crate) fn note_asked(&mut self, c: ConversationId) {
        *self.asked.entry(c).or_default() += 1;
    }

    /// A request to listen was answered; the answer is to be looked at first, then [`Watches::note_leaving`].
    pub(crate) fn note_answered(&mut self, c: ConversationId) {
        let count = self.asked.get_mut(&c).expect("what was answered was asked");
        *count -= 1;
        if *count == 0 {
            self.asked.remove(&c);
        }
    }

    /// Whether its home should go on telling this door: somebody listens, or has asked to.
    pub(crate) fn is_wanted(&self, c: ConversationId) -> bool {
        self.by_c.contains_key(&c) || self.asked.contains_key(&c)
    }

    /// If nobody wants it any more its home is told at the end of a turn, unless somebody wants it again by then.
    pub(crate) fn note_leaving(&mut self, c: ConversationId) {
        if !self.is_wanted(c) && !self.leaving.contains(&c) {
            self.leaving.push(c);
        }
    }

    /// Removes a listener.
    pub(crate) fn unlisten(&mut self, c: ConversationId, session: u32) {
        let Some(watch) = self.by_c.get_mut(&c) else { return };
        watch.listeners.retain(|listener| listener.session != session);
        if !watch.listeners.is_empty() {
            return;
        }
        if self.by_c.remove(&c).is_some_and(|watch| watch.queued) {
            self.behind.retain(|&queued| queued != c);
        }
        debug_assert!(self.behind.len() <= self.by_c.len(), "a conversation is queued once");
        self.note_leaving(c);
    }

    /// The home should hear that somebody here has read, or got, up to a number.
    pub(crate) fn note_cursor(&mut self, c: ConversationId, seen: u32, delivered: u32) {
        // Nothing is told by a 0; taken for news it would stand in the list once for each time it is said.
        if seen == 0 && delivered == 0 {
            return;
        }
        let Some(watch) = self.by_c.get_mut(&c) else { return };
        if watch.seen == 0 && watch.delivered == 0 {
            self.cursors.push(c);
        }
        watch.seen = watch.seen.max(seen);
        watch.delivered = watch.delivered.max(delivered);
    }
}
