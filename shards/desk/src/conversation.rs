//! All conversations of one shard: their state, what may happen to them, and how that is found again after a restart.
//!
//! One truth, one point of change. What somebody wants is first *decided* (`decide.rs`: looks, changes nothing), which gives a refusal,
//! the answer of an earlier time, or the numbers of a record to write. The record goes to the journal and is then *applied* (`apply.rs`):
//! [`Conversations::apply`] is the only thing that changes a conversation, the same code while serving and in recovery. What is on disk
//! after the last checkpoint, applied in its order, gives the same state again (`snapshot.rs` says why).

mod apply;
mod decide;
mod devices;
mod events;
mod receipts;
mod rows;
mod run;
mod slots;
mod snapshot;

pub use apply::{Applied, ApplyError, Damage};
pub use decide::{Assign, Close, Refusal, Say, StartDecision, Who};
pub use devices::{DEVICES_MAX, REMEMBERED_PER_DEVICE};
pub use events::{AGENTS_MAX, EVENTS_MAX};
pub use receipts::{Mark, Receipts};
pub use snapshot::SnapCursor;

pub use crate::encode::{Party, Status};

use crate::id::{AgentId, ConversationId, InboxId, Slot, VisitorId};
use crate::record::Started;
use crate::store::{Block, Store};
use rows::Rows;
use slots::Slots;

/// Bytes of a [`Conversations::preview`] at most.
pub const PREVIEW_SIZE_MAX: usize = 160;

/// The index of a conversation in its shard: good until the process ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConvIx(pub u32);

/// One conversation. Its events and texts are in the store; ask [`Conversations`] for them.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Its id; it has the slot of its visitor.
    pub id: ConversationId,
    /// Whose it is.
    pub visitor: VisitorId,
    /// Where he came from; with all random bits zero if damage took it.
    pub inbox: InboxId,
    /// Where it stands.
    pub status: Status,
    /// Its owner: there is one exactly while it is open.
    pub owner: Option<AgentId>,
    /// Assignments so far.
    pub epoch: u32,
    /// Its queue ticket, while it waits and after the dispatcher has given one.
    pub ticket: Option<u64>,
    /// Head of the agent stream.
    pub s: u32,
    /// Head of the visitor stream.
    pub vs: u32,
    /// Wall time of its start, milliseconds since 1970.
    pub started_ms: u64,
    /// Wall time of the last change of `status`, milliseconds since 1970.
    pub changed_ms: u64,
    /// How far both sides have got, as the journal knows it.
    pub receipts: Receipts,
    /// The same with what has been heard since and is not written yet; never below `receipts`.
    pending: Receipts,
    /// Number of the last message, 0 = none.
    last_message: u32,
    /// Numbers up to `s` that damage took.
    missing: u32,
    /// Bytes that its events take, without what finds them.
    events_size: u64,
    index: events::Index,
    agents: events::Agents,
    devices: devices::Devices,
    about: About,
    next_in_slot: u32,
    /// Whether its beginning or a checkpoint of it was seen. Always, except during replay.
    is_based: bool,
    /// Replay only: events came out of order, so what devices said must be found anew.
    is_unordered: bool,
}

/// What its start told, in one block: device (16), cid (16), name, page, locale.
#[derive(Clone, Copy, Debug)]
struct About {
    block: Block,
    name_size: u16,
    page_size: u16,
    locale_size: u16,
}

impl About {
    const NONE: About = About { block: Block::NONE, name_size: 0, page_size: 0, locale_size: 0 };
    const FIXED_SIZE: usize = 32;

    /// Device and `cid` of the start, as they are kept.
    fn key(device: u128, cid: u128) -> [u8; Self::FIXED_SIZE] {
        let mut key = [0; Self::FIXED_SIZE];
        key[..16].copy_from_slice(&device.to_le_bytes());
        key[16..].copy_from_slice(&cid.to_le_bytes());
        key
    }

    fn size(self) -> usize {
        Self::FIXED_SIZE
            + usize::from(self.name_size)
            + usize::from(self.page_size)
            + usize::from(self.locale_size)
    }
}

/// All conversations of one shard.
#[derive(Debug)]
pub struct Conversations {
    rows: Rows,
    slots: Slots,
    store: Store,
    is_replaying: bool,
}

impl Conversations {
    /// None yet, in memory of at most `hot_bytes_max` bytes: the last eighth is kept for conversations that exist.
    ///
    /// It begins in recovery: apply what the journal has, then call [`Conversations::finish_replay`] (also if it has nothing).
    pub fn new(hot_bytes_max: usize) -> Conversations {
        Conversations {
            rows: Rows::default(),
            slots: Slots::new(),
            store: Store::new(hot_bytes_max),
            is_replaying: true,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.count() as usize
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether [`Conversations::finish_replay`] is still to come.
    pub fn is_replaying(&self) -> bool {
        self.is_replaying
    }
    /// Bytes that the hot conversations take.
    pub fn hot_bytes(&self) -> usize {
        self.store.used_bytes() + self.len() * ROW_SIZE
    }
    /// The bound on [`Conversations::hot_bytes`].
    pub fn hot_bytes_max(&self) -> usize {
        self.store.bytes_max()
    }
    /// How often the allocator was called since [`Conversations::new`]: slabs, pages of rows and tables of slots.
    pub fn grown(&self) -> u64 {
        self.store.grown() + self.rows.grown() + self.slots.grown()
    }

    /// The conversation with this id.
    pub fn find(&self, id: ConversationId) -> Option<ConvIx> {
        self.slots.find(&self.rows, id)
    }
    /// The conversation of this visitor.
    pub fn of_visitor(&self, visitor: VisitorId) -> Option<ConvIx> {
        self.slots.of_visitor(&self.rows, visitor)
    }
    /// Its state. Panics if there is no such index.
    pub fn conversation(&self, ix: ConvIx) -> &Conversation {
        self.rows.get(ix)
    }
    /// All, in the order in which they came to this process.
    pub fn iter(&self) -> impl Iterator<Item = ConvIx> + use<> {
        (0..self.rows.count()).map(ConvIx)
    }
    /// Of a slot, the one after `after`, or the first; they stand in the order in which they came.
    pub fn next_in_slot(&self, slot: Slot, after: Option<ConvIx>) -> Option<ConvIx> {
        self.slots.next(&self.rows, slot, after)
    }

    /// The visitor's name; may be empty.
    pub fn name(&self, ix: ConvIx) -> &str {
        let about = self.conversation(ix).about;
        if about.name_size == 0 {
            return "";
        }
        let name =
            &self.store.bytes(about.block, about.size())[About::FIXED_SIZE..][..usize::from(about.name_size)];
        core::str::from_utf8(name).expect("it was a string when it was stored")
    }
    /// How it began.
    pub fn started(&self, ix: ConvIx) -> Started<'_> {
        let conversation = self.conversation(ix);
        let about = conversation.about;
        let bytes: &[u8] = if about.block.is_none() {
            &[0; About::FIXED_SIZE]
        } else {
            self.store.bytes(about.block, about.size())
        };
        let (fixed, texts) = bytes.split_at(About::FIXED_SIZE);
        let texts = core::str::from_utf8(texts).expect("they were strings when they were stored");
        let (name, rest) = texts.split_at(usize::from(about.name_size));
        let (page, locale) = rest.split_at(usize::from(about.page_size));
        Started {
            c: conversation.id,
            visitor: conversation.visitor,
            inbox: conversation.inbox,
            ts_ms: conversation.started_ms,
            device: u128::from_le_bytes(fixed[..16].try_into().expect("half of 32 bytes")),
            cid: u128::from_le_bytes(fixed[16..].try_into().expect("half of 32 bytes")),
            name,
            page,
            locale,
        }
    }
    /// The beginning of the last message, at most [`PREVIEW_SIZE_MAX`] bytes; empty if there is none.
    pub fn preview(&self, ix: ConvIx) -> &str {
        let conversation = self.conversation(ix);
        let head = events::head(conversation, &self.store, conversation.last_message);
        let body = head.map_or("", |head| head.body(&self.store));
        &body[..body.floor_char_boundary(PREVIEW_SIZE_MAX)]
    }
}

/// Bytes that a conversation takes outside the store: its row, and its two entries in the table of its slot (half of it empty).
const ROW_SIZE: usize = size_of::<Conversation>() + 20;

impl Conversation {
    /// One of which only the id is known.
    fn unknown(id: ConversationId) -> Conversation {
        let slot = u128::from(id.slot().number()) << 116;
        let nobody = slot | (u128::from(VisitorId::KIND) << 112);
        let nowhere = slot | (u128::from(InboxId::KIND) << 112);
        Conversation {
            id,
            visitor: VisitorId::from_bits(nobody).expect("it has the kind of a visitor"),
            inbox: InboxId::from_bits(nowhere).expect("it has the kind of an inbox"),
            status: Status::Waiting,
            owner: None,
            epoch: 0,
            ticket: None,
            s: 0,
            vs: 0,
            started_ms: 0,
            changed_ms: 0,
            receipts: Receipts::default(),
            pending: Receipts::default(),
            last_message: 0,
            missing: 0,
            events_size: 0,
            index: events::Index::EMPTY,
            agents: events::Agents::EMPTY,
            devices: devices::Devices::EMPTY,
            about: About::NONE,
            next_in_slot: slots::LAST_IN_SLOT,
            is_based: false,
            is_unordered: false,
        }
    }

    /// Whether damage took the knowledge of whose it is: nobody can come back to it, but what is there can be read.
    pub fn is_orphan(&self) -> bool {
        self.visitor.bits() << 16 == 0
    }
}
