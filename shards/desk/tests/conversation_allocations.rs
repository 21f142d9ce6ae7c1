//! Memory: a message allocates nothing but the counted growth of pools, and a conversation is as small as promised.

mod conversation_support;

use conversation_support::hash_of;
use ringdesk_desk::conversation::{Assign, Close, ConvIx, Conversations, Party, Say, SnapCursor, Who};
use ringdesk_desk::encode::AuthorKind;
use ringdesk_desk::id::{AgentId, ConversationId, Entropy, InboxId, Slot, VisitorId};
use ringdesk_desk::record::{Assigned, Closed, Message, Record, Reopened, Scratch, Started};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes to `System` unchanged; counting touches a thread-local that has no destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls() -> u64 {
    CALLS.with(Cell::get)
}

/// The `cid` of a start; nothing is said under it.
const START: u128 = 1 << 100;

struct Shard {
    conversations: Conversations,
    scratch: Scratch,
    entropy: Entropy,
    written_bytes: u64,
}

impl Shard {
    fn new(hot_bytes_max: usize) -> Shard {
        let mut conversations = Conversations::new(hot_bytes_max);
        conversations.finish_replay();
        Shard { conversations, scratch: Scratch::new(), entropy: Entropy::new([1; 32]), written_bytes: 0 }
    }
    fn put(&mut self, record: &Record<'_>) -> ConvIx {
        self.written_bytes += record.write(&mut self.scratch).len() as u64;
        self.conversations.apply(record).expect("it was decided").ix
    }
    fn start(&mut self) -> ConvIx {
        let slot = Slot::new((self.entropy.below(4096)) as u16).unwrap();
        let visitor = VisitorId::mint(slot, &mut self.entropy);
        let c = ConversationId::mint(slot, &mut self.entropy);
        let inbox = InboxId::mint(slot, &mut self.entropy);
        self.conversations.decide_start(visitor, 1, START).unwrap();
        let page = "https://example.org/pricing?from=mail";
        let started =
            Started { c, visitor, inbox, ts_ms: 1, device: 1, cid: START, name: "Ada", page, locale: "en" };
        self.put(&Record::Started(started))
    }
    fn say(&mut self, ix: ConvIx, who: Who, note: bool, cid: u128, body: &str) {
        let (device, body_hash) = (if who == Who::Visitor { 1 } else { 2 }, hash_of(body));
        let said = self.conversations.decide_say(ix, who, note, device, cid, body_hash, body.len()).unwrap();
        let Say::New { s, vs, reopens } = said else { panic!("{said:?}") };
        let conversation = self.conversations.conversation(ix);
        let (c, visitor) = (conversation.id, conversation.visitor.bits());
        let (author_kind, author) = match who {
            Who::Visitor => (AuthorKind::Visitor, visitor),
            Who::Agent(agent) => (AuthorKind::Agent, agent.bits()),
        };
        let ts_ms = u64::from(s);
        if reopens {
            let (by_kind, by) = (author_kind, author);
            self.put(&Record::Reopened(Reopened { c, s: s - 1, vs: vs - 1, ts_ms, by_kind, by }));
        }
        let message = Message { c, s, vs, ts_ms, author_kind, author, device, cid, body_hash, body };
        self.put(&if note { Record::Note(message) } else { Record::Message(message) });
        assert!(self.conversations.event(ix, s).is_some());
        let again = self.conversations.decide_say(ix, who, note, device, cid, body_hash, body.len());
        assert_eq!(again, Ok(Say::Known { s, vs, ts_ms }));
    }
    fn accept(&mut self, ix: ConvIx, agent: AgentId, cid: u128) {
        let conversation = self.conversations.conversation(ix);
        let c = conversation.id;
        let assign = self.conversations.decide_assign(ix, agent, conversation.epoch, 2, cid).unwrap();
        let Assign::New { s, vs, epoch } = assign else { panic!("{assign:?}") };
        let (ts_ms, agent_name, device) = (u64::from(s), "Bob", 2);
        self.put(&Record::Assigned(Assigned { c, s, vs, ts_ms, agent, agent_name, epoch, device, cid }));
    }
    fn close(&mut self, ix: ConvIx, cid: u128) {
        let conversation = self.conversations.conversation(ix);
        let (c, by) = (conversation.id, conversation.visitor.bits());
        let close = self.conversations.decide_close(ix, Who::Visitor, 1, cid).unwrap();
        let Close::New { s, vs } = close else { panic!("{close:?}") };
        let by_kind = AuthorKind::Visitor;
        self.put(&Record::Closed(Closed { c, s, vs, ts_ms: u64::from(s), by_kind, by, device: 1, cid }));
    }
}

#[test]
fn whatever_happens_to_conversations_allocates_nothing_but_counted_growth() {
    let mut shard = Shard::new(64 << 20);
    let agent = AgentId::mint(Slot::new(0).unwrap(), &mut Entropy::new([2; 32]));
    let body = "Does it come in blue, and can I have it by Friday?";
    let (before, grown) = (calls(), shard.conversations.grown());
    for _ in 0..2_000 {
        let ix = shard.start();
        let c = shard.conversations.conversation(ix).id;
        shard.put(&Record::Queued { c, ticket: u64::from(ix.0) });
        for cid in 0..5 {
            shard.say(ix, Who::Visitor, false, cid, body);
        }
        shard.say(ix, Who::Agent(agent), true, 5, body);
        shard.accept(ix, agent, 6);
        shard.say(ix, Who::Agent(agent), false, 7, body);
        if let Some(mark) = shard.conversations.decide_seen(ix, Party::Visitor, 6) {
            shard.conversations.mark(ix, mark);
        }
        let receipts = shard.conversations.take_receipts(ix).expect("something was seen");
        shard.put(&receipts);
        shard.close(ix, 8);
        shard.say(ix, Who::Visitor, false, 9, body);
    }
    let growth = shard.conversations.grown() - grown;
    assert_eq!(calls() - before, growth);
    assert!(growth > 0, "slabs, pages and tables came into being");
}

#[test]
fn a_message_in_a_warm_shard_allocates_nothing_at_all() {
    let mut shard = Shard::new(64 << 20);
    let conversations: Vec<_> = (0..64).map(|_| shard.start()).collect();
    let body = "x".repeat(60);
    for round in 0..100 {
        for &ix in &conversations {
            shard.say(ix, Who::Visitor, false, round, &body);
        }
    }
    let before = calls();
    for &ix in &conversations {
        shard.say(ix, Who::Visitor, false, 1_000, &body);
    }
    assert_eq!(calls(), before);
}

#[test]
fn a_checkpoint_allocates_nothing() {
    let mut shard = Shard::new(64 << 20);
    let ix = shard.start();
    for cid in 0..1_000 {
        shard.say(ix, Who::Visitor, false, cid, "Does it come in blue, and can I have it by Friday?");
    }
    let mut cursor = SnapCursor::new();
    let Shard { conversations, scratch, .. } = &mut shard;
    let before = calls();
    let (mut bytes, mut turns) = (0, 1);
    while !conversations
        .snapshot(ix, &mut cursor, 64 << 10, &mut |record| bytes += record.write(scratch).len())
    {
        turns += 1;
    }
    assert_eq!(calls(), before);
    assert!(bytes > 100_000 && turns > 1, "{bytes} bytes in {turns} turns");
}

#[test]
fn a_conversation_is_as_small_as_promised() {
    const COUNT: usize = 1_000;
    let agent = AgentId::mint(Slot::new(0).unwrap(), &mut Entropy::new([2; 32]));
    let body = "x".repeat(60);
    let mut shard = Shard::new(64 << 20);
    let conversations: Vec<_> = (0..COUNT).map(|_| shard.start()).collect();
    let started = shard.conversations.hot_bytes() / COUNT;
    for &ix in &conversations {
        shard.say(ix, Who::Visitor, false, 0, &body);
    }
    let first = shard.conversations.hot_bytes() / COUNT;
    for &ix in &conversations {
        shard.accept(ix, agent, 1);
        for cid in 2..10 {
            let who = if cid % 2 == 0 { Who::Visitor } else { Who::Agent(agent) };
            shard.say(ix, who, false, cid, &body);
        }
    }
    let ten = shard.conversations.hot_bytes() / COUNT;
    println!("started {started} B, with one message {first} B, with ten events {ten} B (bodies of 60 B)");
    assert!(started < 400, "{started}");
    assert!(first < 700, "{first}");
    assert!(ten < 1_800, "{ten}");
}
