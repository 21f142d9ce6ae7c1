//! A shard's conversations with a journal made of a vector: decide, write, apply, and start again from what was written.
#![allow(unreachable_pub, reason = "a module of several test binaries")]
#![allow(dead_code, reason = "each test binary uses its part")]

use ringdesk_desk::conversation::{
    Assign, Close, ConvIx, Conversations, Damage, Party, Refusal, Say, SnapCursor, StartDecision, Who,
};
use ringdesk_desk::encode::AuthorKind;
use ringdesk_desk::id::{AgentId, ConversationId, Entropy, InboxId, Slot, VisitorId};
use ringdesk_desk::record::{Assigned, Closed, Message, Record, Reopened, Scratch, Started};
use rkyv::util::AlignedVec;

/// A record as the journal keeps it.
#[derive(Clone)]
pub struct Written {
    pub kind: u16,
    pub version: u16,
    pub body: AlignedVec<16>,
}

impl Written {
    pub fn of(record: &Record<'_>, scratch: &mut Scratch) -> Written {
        let mut body = AlignedVec::new();
        body.extend_from_slice(record.write(scratch));
        Written { kind: record.kind(), version: record.version(), body }
    }
    pub fn record(&self) -> Record<'_> {
        Record::read(self.kind, self.version, &self.body).expect("what was written can be read")
    }
}

pub struct World {
    pub conversations: Conversations,
    pub log: Vec<Written>,
    pub clock_ms: u64,
    pub visitors: Vec<VisitorId>,
    pub agents: Vec<AgentId>,
    pub inbox: InboxId,
    entropy: Entropy,
    scratch: Scratch,
}

pub fn hash_of(body: &str) -> u64 {
    body.bytes().fold(7, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

impl World {
    pub fn new(hot_bytes_max: usize) -> World {
        let mut entropy = Entropy::new([3; 32]);
        let slot = |number| Slot::new(number).unwrap();
        let visitors = (0..4).map(|number| VisitorId::mint(slot(100 + number % 2), &mut entropy)).collect();
        let agents = (0..3).map(|_| AgentId::mint(slot(0), &mut entropy)).collect();
        let inbox = InboxId::mint(slot(0), &mut entropy);
        let mut conversations = Conversations::new(hot_bytes_max);
        assert_eq!(conversations.finish_replay(), []);
        World {
            conversations,
            log: Vec::new(),
            clock_ms: 1_000,
            visitors,
            agents,
            inbox,
            entropy,
            scratch: Scratch::new(),
        }
    }

    pub fn another_visitor(&mut self) -> usize {
        let slot = Slot::new((self.visitors.len() % 4096) as u16).unwrap();
        self.visitors.push(VisitorId::mint(slot, &mut self.entropy));
        self.visitors.len() - 1
    }

    /// Journals and applies.
    pub fn put(&mut self, record: &Record<'_>) -> ConvIx {
        self.log.push(Written::of(record, &mut self.scratch));
        self.clock_ms += 1;
        let applied = self.conversations.apply(record).expect("it was decided");
        assert_eq!(applied.numbered, record.numbers());
        applied.ix
    }

    pub fn start(&mut self, visitor: usize, device: u128, cid: u128) -> Result<StartDecision, Refusal> {
        let id = self.visitors[visitor];
        let decision = self.conversations.decide_start(id, device, cid)?;
        if decision == StartDecision::New {
            let name = format!("Visitor {visitor}");
            let c = ConversationId::mint(id.slot(), &mut self.entropy);
            self.put(&Record::Started(Started {
                c,
                visitor: id,
                inbox: self.inbox,
                ts_ms: self.clock_ms,
                device,
                cid,
                name: &name,
                page: "https://example.org/价格",
                locale: "zh-CN",
            }));
        }
        Ok(decision)
    }

    pub fn begin(&mut self, visitor: usize) -> ConvIx {
        self.start(visitor, 1, 1_000).unwrap();
        self.conversations.of_visitor(self.visitors[visitor]).unwrap()
    }

    fn author(&self, ix: ConvIx, who: Who) -> (AuthorKind, u128) {
        match who {
            Who::Visitor => (AuthorKind::Visitor, self.conversations.conversation(ix).visitor.bits()),
            Who::Agent(agent) => (AuthorKind::Agent, agent.bits()),
        }
    }

    pub fn reopen(&mut self, ix: ConvIx) {
        let (s, vs) = self.conversations.decide_reopen(ix).expect("it is closed");
        let (by_kind, by) = self.author(ix, Who::Visitor);
        let c = self.conversations.conversation(ix).id;
        self.put(&Record::Reopened(Reopened { c, s, vs, ts_ms: self.clock_ms, by_kind, by }));
    }

    pub fn say(
        &mut self,
        ix: ConvIx,
        who: Who,
        note: bool,
        device: u128,
        cid: u128,
        body: &str,
    ) -> Result<Say, Refusal> {
        let body_hash = hash_of(body);
        let decision = self.conversations.decide_say(ix, who, note, device, cid, body_hash, body.len())?;
        if let Say::New { s, vs, reopens } = decision {
            if reopens {
                assert_eq!(self.conversations.decide_reopen(ix), Some((s - 1, vs - 1)));
                self.reopen(ix);
            }
            let (author_kind, author) = self.author(ix, who);
            let c = self.conversations.conversation(ix).id;
            let ts_ms = self.clock_ms;
            let message = Message { c, s, vs, ts_ms, author_kind, author, device, cid, body_hash, body };
            self.put(&if note { Record::Note(message) } else { Record::Message(message) });
        }
        Ok(decision)
    }

    pub fn accept(
        &mut self,
        ix: ConvIx,
        agent: usize,
        expect_epoch: u32,
        device: u128,
        cid: u128,
    ) -> Result<Assign, Refusal> {
        let agent_name = format!("Agent {agent}");
        let agent = self.agents[agent];
        let decision = self.conversations.decide_assign(ix, agent, expect_epoch, device, cid)?;
        if let Assign::New { s, vs, epoch } = decision {
            let c = self.conversations.conversation(ix).id;
            let ts_ms = self.clock_ms;
            let agent_name = &agent_name;
            let assigned = Assigned { c, s, vs, ts_ms, agent, agent_name, epoch, device, cid };
            self.put(&Record::Assigned(assigned));
        }
        Ok(decision)
    }

    pub fn close(&mut self, ix: ConvIx, who: Who, device: u128, cid: u128) -> Result<Close, Refusal> {
        let decision = self.conversations.decide_close(ix, who, device, cid)?;
        if let Close::New { s, vs } = decision {
            let (by_kind, by) = self.author(ix, who);
            let c = self.conversations.conversation(ix).id;
            let ts_ms = self.clock_ms;
            self.put(&Record::Closed(Closed { c, s, vs, ts_ms, by_kind, by, device, cid }));
        }
        Ok(decision)
    }

    pub fn queue(&mut self, ix: ConvIx, ticket: u64) {
        let c = self.conversations.conversation(ix).id;
        self.put(&Record::Queued { c, ticket });
    }

    pub fn seen(&mut self, ix: ConvIx, party: Party, number: u32) -> bool {
        match self.conversations.decide_seen(ix, party, number) {
            Some(mark) => self.conversations.mark(ix, mark),
            None => false,
        }
    }

    pub fn delivered(&mut self, ix: ConvIx, party: Party, number: u32) -> bool {
        match self.conversations.decide_delivered(ix, party, number) {
            Some(mark) => self.conversations.mark(ix, mark),
            None => false,
        }
    }

    pub fn write_receipts(&mut self, ix: ConvIx) -> bool {
        let Some(record) = self.conversations.take_receipts(ix) else { return false };
        self.put(&record);
        true
    }

    /// One step of a conversation's checkpoint, journaled. True when it is complete.
    pub fn snapshot(&mut self, ix: ConvIx, cursor: &mut SnapCursor, budget_size: usize) -> bool {
        let (log, scratch) = (&mut self.log, &mut self.scratch);
        let before = log.len();
        let emit = &mut |record: Record<'_>| log.push(Written::of(&record, scratch));
        let is_complete = self.conversations.snapshot(ix, cursor, budget_size, emit);
        assert!(self.log.len() > before, "each step gets somewhere");
        is_complete
    }
}

/// What a restart makes of a log.
pub fn replayed<'a>(log: impl IntoIterator<Item = &'a Written>) -> (Conversations, Vec<Damage>) {
    let mut conversations = Conversations::new(64 << 20);
    for written in log {
        conversations.apply(&written.record()).expect("what was applied once can be applied again");
    }
    let damage = conversations.finish_replay();
    (conversations, damage)
}

/// Everything that can be known of a conversation, whatever order it came in.
pub fn image(conversations: &Conversations, c: ConversationId) -> String {
    let ix = conversations.find(c).expect("it is there");
    let conversation = conversations.conversation(ix);
    let mut image = format!(
        "{:?}\n{:?} {:?} {} {:?} {} {} {}\n{:?} {} {} {:?} {:?}\n",
        conversations.started(ix),
        conversation.status,
        conversation.owner,
        conversation.epoch,
        conversation.ticket,
        conversations.name(ix),
        conversations.preview(ix),
        conversation.changed_ms,
        conversation.inbox,
        conversation.s,
        conversation.vs,
        conversation.receipts,
        conversations.of_visitor(conversation.visitor).map(|ix| conversations.conversation(ix).id),
    );
    for s in 0..=conversation.s + 1 {
        image += &format!("{:?} {:?}\n", conversations.event(ix, s), conversations.record(ix, s));
    }
    for vs in 0..=conversation.vs + 1 {
        image += &format!("{:?} ", conversations.s_of_vs(ix, vs));
    }
    for device in 1..4 {
        for cid in 0..12 {
            let said = conversations.decide_say(ix, Who::Visitor, false, device, cid, hash_of("a"), 1);
            let closed = conversations.decide_close(ix, Who::Visitor, device, cid);
            image += &format!("{said:?} {closed:?}\n");
        }
    }
    image
}

/// The images of all, by id.
pub fn images(conversations: &Conversations) -> Vec<(ConversationId, String)> {
    let mut images: Vec<_> = conversations
        .iter()
        .map(|ix| conversations.conversation(ix).id)
        .map(|c| (c, image(conversations, c)))
        .collect();
    images.sort_by_key(|&(c, _)| c);
    images
}
