//! A durable message in steady state allocates nothing: through the complete step of every shard involved, delivery and answer included.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use common::{Node, Probe, field};

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; only a number is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(u64::from(COUNTING.load(Relaxed)), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the system's.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(u64::from(COUNTING.load(Relaxed)), Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`, which is the system's.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts what happens inside `step`, and nothing of the test around it.
struct Inside;

impl Probe for Inside {
    fn around<R>(&mut self, step: impl FnOnce() -> R) -> R {
        COUNTING.store(true, Relaxed);
        let result = step();
        COUNTING.store(false, Relaxed);
        result
    }
}

#[test]
fn a_durable_message_allocates_nothing_but_the_growth_of_pools() {
    for shard_count in 1..=3 {
        let mut node = Node::new(shard_count, Inside);
        let agent = node.agent(shard_count - 1);
        node.say(agent, r#"{"id":2,"op":"avail","d":{"state":"online","cap":500}}"#);
        let mut chats = Vec::new();
        for shard in 0..shard_count {
            let visitor = node.visitor(shard);
            let start = format!(
                r#"{{"id":1,"op":"auth","d":{{"device":"device-of-visitor-{shard}"}}}}
{{"id":2,"op":"start","d":{{"cid":"start-cid-000000000{shard}","first":{{"cid":"first-cid-000000000{shard}","type":"text","body":"hello"}}}}}}"#
            );
            node.say(visitor, &start);
            let heard = node.heard(visitor);
            let c = field(heard.iter().find(|text| text.contains("\"re\":2")).unwrap(), "c").to_owned();
            node.say(
                agent,
                &format!(r#"{{"id":4,"op":"accept","d":{{"c":"{c}","cid":"accept-cid-00000000{shard}"}}}}"#),
            );
            node.say(agent, &format!(r#"{{"id":5,"op":"sync","d":{{"cursors":[{{"c":"{c}","s":0}}]}}}}"#));
            chats.push((visitor, c));
        }
        let talk = |node: &mut Node<Inside>, round: usize| {
            for (at, (visitor, c)) in chats.iter().enumerate() {
                let body = "It has been raining here since the morning, and the parcel is still not there.";
                node.say(*visitor, &format!(r#"{{"id":9,"op":"send","d":{{"c":"{c}","cid":"visitor-{round:08}-{at}","type":"text","body":"{body}"}}}}"#));
                node.say(agent, &format!(r#"{{"id":9,"op":"send","d":{{"c":"{c}","cid":"agent---{round:08}-{at}","type":"text","body":"{body}"}}}}"#));
                for client in [*visitor, agent] {
                    let heard = node.heard(client);
                    assert!(
                        heard.iter().any(|text| text.contains("\"level\":\"disk\"")),
                        "acknowledged: {heard:?}"
                    );
                }
                node.say(
                    *visitor,
                    &format!(r#"{{"op":"ack","d":{{"c":"{c}","s":{}}}}}"#, 2 + 2 * (round + 1)),
                );
            }
            let p = chats.len() * (2 + 2 * (round + 1));
            node.say(agent, &format!(r#"{{"op":"ack","d":{{"p":{p}}}}}"#));
        };
        for round in 0..600 {
            talk(&mut node, round);
        }
        node.advance(1_500);
        let grown = |node: &mut Node<Inside>| node.shards.iter().map(|shard| shard.grown()).sum::<u64>();
        let (grown_before, before) = (grown(&mut node), ALLOCATED.load(Relaxed));
        let messages = 1_000 * chats.len() * 2;
        for round in 600..1_600 {
            talk(&mut node, round);
        }
        let allocated = ALLOCATED.load(Relaxed) - before;
        let grown = grown(&mut node) - grown_before;
        println!(
            "{shard_count} shards: {messages} messages, {allocated} allocations, {grown} of them growth of pools"
        );
        assert!(allocated <= grown, "{allocated} allocations, of which {grown} are growth of pools");
    }
}
