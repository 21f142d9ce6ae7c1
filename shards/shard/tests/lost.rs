//! What damage took is told in its place and counted like it: a count of what was told goes on naming a place in the stream.

mod common;

use common::{Disk, NoProbe, Node, field};
use journal::Geometry;

/// Numbers 1 to 400 are words of the visitor.
const COUNT: u32 = 400;
/// Of them these are lost: more than a visitor's session may leave unacknowledged (256).
const LOST: core::ops::RangeInclusive<u32> = 20..=340;

/// A visitor's conversation in which damage took [`LOST`]; his token and its id.
fn damaged(shard_count: u16) -> (Vec<Disk>, String, String) {
    let geometry = Geometry { segment_size: 1 << 20, align: 512 };
    let disks = (0..shard_count).map(|shard| Disk::new(shard, shard_count, geometry)).collect();
    let mut node = Node::on(disks, NoProbe);
    let (visitor, token, c) = node.begin(0, "device-of-visitor", "word-0001");
    for at in 2..=COUNT {
        node.say(visitor, &format!(r#"{{"id":9,"op":"send","d":{{"c":"{c}","cid":"v-cid-00000000000{at:04}","type":"text","body":"word-{at:04}"}}}}
{{"op":"ack","d":{{"p":{at}}}}}"#));
        assert!(
            node.heard(visitor)
                .iter()
                .any(|text| text.contains("\"re\":9") && field(text, "s") == at.to_string())
        );
    }
    let mut disks = node.disks;
    for at in LOST {
        let word = format!("word-{at:04}");
        let file = disks[0].segments.values_mut().find_map(|file| {
            let place = file.windows(word.len()).position(|found| found == word.as_bytes())?;
            Some((file, place))
        });
        let (file, place) = file.expect("it was written");
        file[place] ^= 1;
    }
    (disks, token, c)
}

/// What a client counts by the rule of docs/protocol.md, the numbers that it was told and those that are lost.
struct Counted {
    p: u32,
    last: u32,
    lost: u32,
}

impl Counted {
    /// Takes in what was heard; true if the server waits for an acknowledgement.
    fn hear(&mut self, heard: &[String]) -> bool {
        let mut lags = false;
        for text in heard {
            let number = |name| field(text, name).parse::<u32>().expect("a number");
            if text.starts_with("{\"op\":\"msg\"") {
                assert_eq!(number("s"), self.last + 1, "{text}");
                self.p += 1;
                self.last += 1;
            } else if text.starts_with("{\"op\":\"history_lost\"") {
                assert_eq!(number("from"), self.last + 1, "{text}");
                self.p += number("to") + 1 - number("from");
                self.lost += number("to") + 1 - number("from");
                self.last = number("to");
            } else if text.starts_with("{\"op\":\"lag\"") {
                assert_eq!(number("p"), self.p, "both sides count the same");
                lags = true;
            }
        }
        lags
    }
}

#[test]
fn a_visitor_who_counts_what_is_lost_passes_over_more_than_he_may_leave_unacknowledged() {
    for shard_count in 1..=3 {
        let (disks, token, c) = damaged(shard_count);
        let mut node = Node::on(disks, NoProbe);
        let agent = node.agent(shard_count - 1);
        node.say(agent, &format!(r#"{{"id":5,"op":"sync","d":{{"cursors":[{{"c":"{c}","s":{COUNT}}}]}}}}"#));
        let visitor = node.visitor(0);
        let auth = |last: &str| {
            format!(r#"{{"id":1,"op":"auth","d":{{"device":"device-of-visitor","token":"{token}"{last}}}}}"#)
        };
        node.say(visitor, &auth(""));
        let heard = node.heard(visitor);
        let ready = heard.iter().find(|text| text.contains("\"re\":1")).expect("ready");
        let (sid, epoch) = (field(ready, "sid").to_owned(), field(ready, "epoch").to_owned());
        let mut counted = Counted { p: field(ready, "p").parse().expect("a number"), last: 0, lost: 0 };
        node.say(
            visitor,
            &format!(r#"{{"id":2,"op":"sync","d":{{"cursors":[{{"c":"{c}","s":0}}],"limit":500}}}}"#),
        );
        assert!(counted.hear(&node.heard(visitor)), "the server waits for an acknowledgement");
        assert_eq!(counted.p, 256);
        // A drop in the middle of what is lost: the session goes on where it was.
        let (shard, door) = (node.clients[visitor].shard, node.clients[visitor].door);
        node.step(shard, ringdesk_shard::Input::Gone { door });
        let visitor = node.visitor(0);
        let p = counted.p;
        node.say(visitor, &auth(&format!(r#","last":{{"sid":"{sid}","epoch":"{epoch}","p":{p}}}"#)));
        let heard = node.heard(visitor);
        let ready = heard.iter().find(|text| text.contains("\"re\":1")).expect("ready");
        assert_eq!(field(ready, "resumed"), "true", "{ready}");
        assert_eq!(field(ready, "replay"), "0", "everything was counted");
        counted.hear(&heard);
        let p = counted.p;
        node.say(visitor, &format!(r#"{{"op":"ack","d":{{"p":{p}}}}}"#));
        counted.hear(&node.heard(visitor));
        assert_eq!((counted.last, counted.lost), (COUNT, LOST.count() as u32));
        // What he acknowledges is what the agent hears that he got.
        node.heard(agent);
        let p = counted.p;
        node.say(visitor, &format!(r#"{{"op":"ack","d":{{"p":{p}}}}}"#));
        node.advance(2_000);
        let heard = node.heard(agent);
        let delivered = heard.iter().rfind(|text| text.contains("\"op\":\"delivered\"")).expect("a receipt");
        assert_eq!(field(delivered, "s"), COUNT.to_string());
        assert!(!node.clients[visitor].closed);
    }
}

#[test]
fn an_agent_counts_what_is_lost_too() {
    for shard_count in 1..=3 {
        let (disks, _, c) = damaged(shard_count);
        let mut node = Node::on(disks, NoProbe);
        let shard = shard_count - 1;
        let ticket = node.ticket();
        let auth = |last: &str| {
            format!(
                r#"{{"id":1,"op":"auth","d":{{"device":"device-of-an-agent","token":"{ticket}"{last}}}}}"#
            )
        };
        let agent = node.connect(shard, "/ws/v1/agent");
        node.say(agent, &auth(""));
        let heard = node.heard(agent);
        let ready = heard.iter().find(|text| text.contains("\"re\":1")).expect("ready");
        let (sid, epoch) = (field(ready, "sid").to_owned(), field(ready, "epoch").to_owned());
        node.say(
            agent,
            &format!(r#"{{"id":2,"op":"sync","d":{{"cursors":[{{"c":"{c}","s":0}}],"limit":500}}}}"#),
        );
        let mut counted = Counted { p: 0, last: 0, lost: 0 };
        counted.hear(&node.heard(agent));
        assert_eq!((counted.p, counted.last, counted.lost), (COUNT, COUNT, LOST.count() as u32));
        node.say(agent, r#"{"op":"ack","d":{"p":100}}"#);
        let door = node.clients[agent].door;
        node.step(shard, ringdesk_shard::Input::Gone { door });
        // He comes back having counted some of what is lost and no more: the rest is told again, in its place.
        let agent = node.connect(shard, "/ws/v1/agent");
        node.say(agent, &auth(&format!(r#","last":{{"sid":"{sid}","epoch":"{epoch}","p":150}}"#)));
        let heard = node.heard(agent);
        let ready = heard.iter().find(|text| text.contains("\"re\":1")).expect("ready");
        assert_eq!(field(ready, "resumed"), "true", "{ready}");
        assert_eq!(field(ready, "replay"), (COUNT - 150).to_string());
        let mut counted = Counted { p: 150, last: 150, lost: 131 };
        counted.hear(&heard);
        assert_eq!((counted.p, counted.last, counted.lost), (COUNT, COUNT, LOST.count() as u32));
    }
}
