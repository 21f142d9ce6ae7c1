//! Which conversations a slot has: by id, by visitor, and in the order in which they came.
//!
//! One small table per slot instead of a large one per shard, so that a table that grows moves hundreds of entries, never a million.

use super::ConvIx;
use super::rows::Rows;
use crate::id::{ConversationId, SLOT_COUNT, Slot, VisitorId};
use crate::map::hash;
use hashbrown::HashTable;

/// Marks an entry whose key is the visitor.
const BY_VISITOR: u32 = 1 << 31;
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct SlotEntry {
    first: u32,
    last: u32,
    /// Indices of conversations, each under its id and under its visitor.
    table: HashTable<u32>,
}

#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[SlotEntry]>,
    grown: u64,
}

fn key(rows: &Rows, entry: u32) -> u128 {
    let conversation = rows.get(ConvIx(entry & !BY_VISITOR));
    if entry & BY_VISITOR == 0 { conversation.id.bits() } else { conversation.visitor.bits() }
}

impl Slots {
    pub(super) fn new() -> Slots {
        let empty = || SlotEntry { first: NONE, last: NONE, table: HashTable::new() };
        Slots { slots: core::iter::repeat_with(empty).take(usize::from(SLOT_COUNT)).collect(), grown: 0 }
    }

    pub(super) fn grown(&self) -> u64 {
        self.grown
    }

    pub(super) fn find(&self, rows: &Rows, id: ConversationId) -> Option<ConvIx> {
        self.look_up(rows, id.slot(), id.bits(), 0)
    }

    pub(super) fn of_visitor(&self, rows: &Rows, visitor: VisitorId) -> Option<ConvIx> {
        self.look_up(rows, visitor.slot(), visitor.bits(), BY_VISITOR)
    }

    fn look_up(&self, rows: &Rows, slot: Slot, bits: u128, mark: u32) -> Option<ConvIx> {
        let table = &self.slots[usize::from(slot.number())].table;
        let entry =
            table.find(hash(bits), |&entry| entry & BY_VISITOR == mark && key(rows, entry) == bits)?;
        Some(ConvIx(entry & !BY_VISITOR))
    }

    /// Puts a conversation that is in `rows` already under its id and at the end of its slot.
    pub(super) fn add(&mut self, rows: &mut Rows, ix: ConvIx) {
        let id = rows.get(ix).id;
        let entry = &mut self.slots[usize::from(id.slot().number())];
        match entry.last {
            NONE => entry.first = ix.0,
            last => rows.get_mut(ConvIx(last)).next_in_slot = ix.0,
        }
        entry.last = ix.0;
        self.insert(rows, id.slot(), id.bits(), ix.0);
    }

    /// Puts it under its visitor too, unless the visitor has one already.
    pub(super) fn add_visitor(&mut self, rows: &Rows, ix: ConvIx) {
        let visitor = rows.get(ix).visitor;
        if self.of_visitor(rows, visitor).is_none() {
            self.insert(rows, visitor.slot(), visitor.bits(), ix.0 | BY_VISITOR);
        }
    }

    /// Takes it away from under its visitor, before that changes.
    pub(super) fn remove_visitor(&mut self, rows: &Rows, ix: ConvIx) {
        let visitor = rows.get(ix).visitor;
        let table = &mut self.slots[usize::from(visitor.slot().number())].table;
        if let Ok(entry) = table.find_entry(hash(visitor.bits()), |&entry| entry == ix.0 | BY_VISITOR) {
            entry.remove();
        }
    }

    fn insert(&mut self, rows: &Rows, slot: Slot, bits: u128, value: u32) {
        let table = &mut self.slots[usize::from(slot.number())].table;
        let before = table.allocation_size();
        table.insert_unique(hash(bits), value, |&entry| hash(key(rows, entry)));
        self.grown += u64::from(table.allocation_size() != before);
    }

    /// The one after `after`, or the first of the slot.
    pub(super) fn next(&self, rows: &Rows, slot: Slot, after: Option<ConvIx>) -> Option<ConvIx> {
        let next = match after {
            None => self.slots[usize::from(slot.number())].first,
            Some(after) => rows.get(after).next_in_slot,
        };
        (next != NONE).then_some(ConvIx(next))
    }
}

pub(super) const LAST_IN_SLOT: u32 = NONE;
