//! Counts the user instructions of a durable message in memory: parse, route, append, encode. Run it under callgrind:
//!
//! ```text
//! bench/instructions
//! ```
//! The toggle is [`measured_step`]: everything outside of a step (this harness) is not counted.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Node, Probe, field, masked};

struct Measured;

impl Probe for Measured {
    fn around<R>(&mut self, step: impl FnOnce() -> R) -> R {
        measured_step(step)
    }
}

/// Callgrind counts what happens in here.
#[inline(never)]
fn measured_step<R>(step: impl FnOnce() -> R) -> R {
    step()
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let mut argument = |default| arguments.next().unwrap_or(default);
    let (shard_count, rounds, visitor_count) = (argument(2), argument(1_000), argument(1));
    let mut node = Node::new(shard_count as u16, Measured);
    let agent = node.agent(shard_count as u16 - 1);
    node.say(agent, r#"{"id":2,"op":"avail","d":{"state":"online","cap":500}}"#);
    let visitors: Vec<(usize, String)> = (0..visitor_count)
        .map(|number| {
            let visitor = node.visitor(0);
            node.say(
                visitor,
                &format!(
                    r#"{{"id":1,"op":"auth","d":{{"device":"device-of-visitor-{number}"}}}}
{{"id":2,"op":"start","d":{{"cid":"start-cid-0000000000","first":{{"cid":"first-cid-0000000000","type":"text","body":"hello"}}}}}}"#
                ),
            );
            let heard = node.heard(visitor);
            let started = heard.iter().find(|text| text.contains("\"re\":2")).expect("started");
            let c = field(started, "c").to_owned();
            node.say(agent, &format!(r#"{{"id":4,"op":"accept","d":{{"c":"{c}","cid":"accept-cid-{number:09}"}}}}"#));
            node.say(agent, &format!(r#"{{"id":5,"op":"sync","d":{{"cursors":[{{"c":"{c}","s":0}}]}}}}"#));
            (visitor, c)
        })
        .collect();
    let body = "It has been raining here since the morning, and the parcel is still not there.";
    for round in 0..rounds {
        for (visitor, c) in &visitors {
            let text = format!(
                r#"{{"id":9,"op":"send","d":{{"c":"{c}","cid":"visitor-{round:08}-0","type":"text","body":"{body}"}}}}"#
            );
            node.receive(*visitor, masked(1, text.as_bytes()));
        }
        node.run();
        if round % 32 == 31 {
            for (visitor, c) in &visitors {
                node.say(*visitor, &format!(r#"{{"op":"ack","d":{{"c":"{c}","s":{}}}}}"#, 2 + round + 1));
            }
            let told = (2 + round + 1) * visitor_count;
            node.say(agent, &format!(r#"{{"op":"ack","d":{{"p":{told}}}}}"#));
        }
        let told = visitors.iter().map(|(visitor, _)| node.heard(*visitor).len()).sum::<usize>();
        assert!(told >= 2 * visitor_count, "each was answered and told");
        assert!(node.heard(agent).len() >= visitor_count, "the agent was told");
    }
}
