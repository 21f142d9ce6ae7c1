//! What was said and not answered yet. It keeps its `cid` over every socket and every crash.

use std::collections::VecDeque;
use std::time::Instant;

use crate::record::Op;

/// One thing to say.
pub(super) struct Item {
    pub(super) k: u32,
    /// None for the visitor's first words, which go with `start`.
    pub(super) conv: Option<u32>,
    pub(super) op: Op,
    pub(super) body: String,
    pub(super) hash: u64,
    /// Said on the present socket.
    pub(super) flying: bool,
    /// The server asked to wait.
    pub(super) not_before: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
}

impl Outbox {
    pub(super) fn count(&self) -> usize {
        self.items.len()
    }

    pub(super) fn add(&mut self, item: Item) {
        self.items.push_back(item);
    }

    pub(super) fn has(&self, conv: u32, op: Op) -> bool {
        self.items.iter().any(|item| item.op == op && item.conv == Some(conv))
    }

    /// The next one to say now, oldest first. Whatever the server asked to wait for holds back what was said after it, so that order is kept.
    pub(super) fn next(&mut self, now: Instant) -> Option<&mut Item> {
        if self.items.iter().any(|item| !item.flying && item.not_before.is_some_and(|at| at > now)) {
            return None;
        }
        self.items.iter_mut().find(|item| !item.flying)
    }

    /// Answered, for good or bad.
    pub(super) fn take(&mut self, k: u32) -> Option<Item> {
        let at = self.items.iter().position(|item| item.k == k)?;
        self.items.remove(at)
    }

    /// Refused for now.
    pub(super) fn again(&mut self, k: u32, not_before: Instant) {
        if let Some(item) = self.items.iter_mut().find(|item| item.k == k) {
            item.flying = false;
            item.not_before = Some(not_before);
        }
    }

    /// The socket is gone: what flew is unknown, and is said again.
    pub(super) fn ground(&mut self) {
        for item in &mut self.items {
            item.flying = false;
        }
    }
}
