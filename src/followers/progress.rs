//! How far followers are, for `/metrics`. Outlives a restart of the control plane.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::store::Cursor;

/// A follower in one journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    /// Which follower.
    pub(crate) follower: &'static str,
    /// Whose journal.
    pub(crate) shard: u16,
    /// Everything before this offset is taken.
    pub(crate) place: u64,
    /// Records taken.
    pub(crate) records: u64,
    /// Bytes of records taken.
    pub(crate) bytes: u64,
    /// Damaged ranges met since the process began.
    pub(crate) damage: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<BTreeMap<(&'static str, u16), Row>>);

impl Progress {
    /// A follower is at this cursor, and has met so many damaged ranges more.
    pub(super) fn moved(&self, follower: &'static str, shard: u16, cursor: Cursor, damage: usize) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = rows.get(&(follower, shard)).map_or(0, |row| row.damage);
        let row = Row {
            follower,
            shard,
            place: cursor.place,
            records: cursor.records,
            bytes: cursor.bytes,
            damage: before + damage as u64,
        };
        rows.insert((follower, shard), row);
    }

    /// The rows, by follower and shard.
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }
}
