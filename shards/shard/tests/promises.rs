//! What a refusal says, and to whom it is said: on one, two and three shards.

mod common;

use std::sync::Arc;

use common::{Disk, NoProbe, Node, field};
use desk::settings::Limits;
use journal::Geometry;
use mail::Order;
use ringdesk_shard::Input;

const GEOMETRY: Geometry = Geometry { segment_size: 128 << 10, align: 512 };

fn node(shard_count: u16) -> Node<NoProbe> {
    Node::on((0..shard_count).map(|shard| Disk::new(shard, shard_count, GEOMETRY)).collect(), NoProbe)
}

/// From now on a session may say `burst` durable things, and one more every second.
fn slow_down(node: &mut Node<NoProbe>, burst: u32, rate_strikes: u16) {
    let (mut settings, ..) = common::settings(node.shards.len() as u16);
    settings.limits = Limits { message_rate_per_s: 1, message_burst: burst, rate_strikes, ..settings.limits };
    settings.version = 2;
    let settings = Arc::new(settings);
    for shard in 0..node.shards.len() as u16 {
        node.step(shard, Input::Order(Order::Settings(settings.clone())));
    }
    node.run();
}

/// What was answered to request `re`.
fn answer(node: &mut Node<NoProbe>, client: usize, re: u32) -> String {
    let heard = node.heard(client);
    let key = format!("\"re\":{re},");
    heard.iter().find(|text| text.contains(&key)).unwrap_or_else(|| panic!("no answer: {heard:?}")).clone()
}

fn send(c: &str, re: u32, cid: &str, body: &str) -> String {
    format!(r#"{{"id":{re},"op":"send","d":{{"c":"{c}","cid":"{cid}","type":"text","body":"{body}"}}}}"#)
}

/// A visitor at shard 0 who has begun a conversation.
fn visitor(node: &mut Node<NoProbe>, number: u32) -> (usize, String, String) {
    let (visitor, token, c) = node.begin(0, &format!("device-of-visitor-{number}"), "hello");
    (visitor, c, token)
}

/// An agent at the last shard who has that conversation.
fn agent(node: &mut Node<NoProbe>, c: &str) -> usize {
    let agent = node.agent(node.shards.len() as u16 - 1);
    node.say(agent, r#"{"id":2,"op":"avail","d":{"state":"online","cap":9}}"#);
    node.advance(200);
    node.say(agent, &format!(r#"{{"id":4,"op":"accept","d":{{"c":"{c}","cid":"accept-cid-000000001"}}}}"#));
    assert_eq!(field(&answer(node, agent, 4), "s"), "2");
    agent
}

#[test]
fn what_is_stored_is_answered_however_fast_it_is_said_again() {
    for shard_count in 1..=3 {
        let mut node = node(shard_count);
        let (visitor, c, _) = visitor(&mut node, 1);
        let agent = agent(&mut node, &c);
        for (client, cid) in [(visitor, "visitor-cid-00000001"), (agent, "agent-cid-0000000001")] {
            node.say(client, &send(&c, 5, cid, "one"));
            assert!(answer(&mut node, client, 5).contains("\"level\""));
        }
        slow_down(&mut node, 1, 100);
        for (client, cid) in [(visitor, "visitor-cid-00000001"), (agent, "agent-cid-0000000001")] {
            node.advance(2_000);
            let _ = node.heard(client);
            for re in 10..15 {
                node.say(client, &send(&c, re, cid, "one"));
                assert!(answer(&mut node, client, re).contains("\"dup\":true"));
            }
            node.say(client, &send(&c, 20, &format!("{cid}-2"), "two"));
            let refused = answer(&mut node, client, 20);
            assert_eq!(field(&refused, "code"), "rate_limited");
            assert_eq!(field(&refused, "after_ms"), "1000", "{refused}");
            node.advance(1_000);
            node.say(client, &send(&c, 21, &format!("{cid}-2"), "two"));
            let stored = answer(&mut node, client, 21);
            assert!(stored.contains("\"level\"") && !stored.contains("dup"), "it was not stored: {stored}");
        }
        // What the dispatcher granted and what was closed, too.
        let accept = format!(r#"{{"id":30,"op":"accept","d":{{"c":"{c}","cid":"accept-cid-000000001"}}}}"#);
        node.say(agent, &accept);
        assert_eq!(field(&answer(&mut node, agent, 30), "s"), "2");
        let close =
            |re: u32| format!(r#"{{"id":{re},"op":"close","d":{{"c":"{c}","cid":"close-cid-00000001"}}}}"#);
        node.say(agent, &close(31));
        assert_eq!(field(&answer(&mut node, agent, 31), "code"), "rate_limited");
        node.advance(1_000);
        node.say(agent, &close(32));
        assert!(answer(&mut node, agent, 32).contains("\"level\""));
        node.say(agent, &close(33));
        assert!(answer(&mut node, agent, 33).contains("\"dup\":true"));
        node.say(agent, &accept);
        assert_eq!(field(&answer(&mut node, agent, 30), "s"), "2");
        // A start that is repeated begins nothing.
        let start = r#"{"id":40,"op":"start","d":{"cid":"start-cid-0000000001","first":{"cid":"first-cid-0000000001","type":"text","body":"hello"}}}"#;
        node.say(visitor, start);
        let told = answer(&mut node, visitor, 40);
        assert!(field(&told, "s") == "1" && told.contains("\"dup\":true"), "{told}");
    }
}

#[test]
fn who_is_told_too_often_that_he_is_too_fast_is_told_no_more() {
    for shard_count in 1..=3 {
        let mut node = node(shard_count);
        let (visitor, c, _) = visitor(&mut node, 1);
        let agent = agent(&mut node, &c);
        slow_down(&mut node, 1, 3);
        for client in [visitor, agent] {
            let all: Vec<_> =
                (0..5).map(|n| send(&c, 10 + n, &format!("client-{client}-cid-00000{n}"), "x")).collect();
            node.say(client, &all.join("\n"));
            let heard = node.heard(client);
            let refused = heard.iter().filter(|text| text.contains("rate_limited")).count();
            assert_eq!((refused, heard.last().map(String::as_str)), (3, Some("close 4111")), "{heard:?}");
        }
    }
}

/// With a bucket for each session he could say as much as he likes.
#[test]
fn a_visitors_sessions_share_one_bucket() {
    let mut node = node(2);
    let (first, c, token) = visitor(&mut node, 1);
    slow_down(&mut node, 4, 100);
    node.advance(10_000);
    let mut stored = 0;
    let mut sessions = vec![first];
    for number in 0..6 {
        let next = node.visitor(0);
        node.say(
            next,
            &format!(
                r#"{{"id":1,"op":"auth","d":{{"device":"device-of-visitor-{number}","token":"{token}"}}}}"#
            ),
        );
        let _ = node.heard(next);
        sessions.push(next);
        for re in [10, 11] {
            node.say(next, &send(&c, re, &format!("session-{number}-cid-{re}"), "x"));
            stored += u32::from(answer(&mut node, next, re).contains("\"level\""));
        }
    }
    assert_eq!(stored, 4, "the burst");
    // When the one that holds the bucket ends, it does not begin anew.
    let last = sessions.pop().expect("there are seven");
    let (shard, door) = (node.clients[last].shard, node.clients[last].door);
    node.step(shard, Input::Gone { door });
    node.advance(900);
    node.say(first, &send(&c, 50, "session-first-cid-50", "x"));
    assert_eq!(field(&answer(&mut node, first, 50), "code"), "rate_limited");
    node.advance(200);
    node.say(first, &send(&c, 51, "session-first-cid-50", "x"));
    assert!(answer(&mut node, first, 51).contains("\"level\""));
}

#[test]
fn a_full_disk_refuses_what_is_new_and_answers_what_is_stored() {
    for shard_count in 1..=3 {
        let mut node = node(shard_count);
        let (visitor, c, _) = visitor(&mut node, 1);
        let agent = agent(&mut node, &c);
        node.say(agent, &send(&c, 5, "agent-cid-0000000001", "one"));
        node.say(visitor, &send(&c, 5, "visitor-cid-00000001", "one"));
        node.disk_is_full = true;
        let body = "x".repeat(4_000);
        let mut count = 0;
        let refused = loop {
            count += 1;
            node.say(visitor, &send(&c, 9, &format!("filling-cid-{count:08}"), &body));
            let told = answer(&mut node, visitor, 9);
            if told.contains("\"err\"") {
                break told;
            }
            assert!(count < 1_000, "the disk never fills");
        };
        assert_eq!(field(&refused, "code"), "storage_full", "{refused}");
        assert_eq!(field(&refused, "retry"), "true");
        for (client, cid) in [(visitor, "visitor-cid-00000001"), (agent, "agent-cid-0000000001")] {
            let _ = node.heard(client);
            node.say(client, &send(&c, 20, cid, "one"));
            assert!(answer(&mut node, client, 20).contains("\"dup\":true"));
            node.say(client, &send(&c, 21, &format!("{cid}-2"), &body));
            assert_eq!(field(&answer(&mut node, client, 21), "code"), "storage_full");
            // Reads go on.
            node.say(client, &format!(r#"{{"id":22,"op":"history","d":{{"c":"{c}","before":3}}}}"#));
            assert!(answer(&mut node, client, 22).contains("hello"));
        }
        // There is room again.
        node.disk_is_full = false;
        node.advance(3_000);
        node.say(visitor, &send(&c, 30, &format!("filling-cid-{count:08}"), &body));
        let stored = answer(&mut node, visitor, 30);
        assert!(stored.contains("\"level\"") && !stored.contains("dup"), "{stored}");
    }
}

#[test]
fn what_nobody_was_told_is_neither_seen_nor_acknowledged() {
    for shard_count in 1..=3 {
        let mut node = node(shard_count);
        let (visitor, c, _) = visitor(&mut node, 1);
        let agent = agent(&mut node, &c);
        node.say(agent, &format!(r#"{{"id":5,"op":"sync","d":{{"cursors":[{{"c":"{c}","s":0}}]}}}}"#));
        let _ = node.heard(agent);
        node.say(visitor, &format!(r#"{{"op":"seen","d":{{"c":"{c}","s":4000000000}}}}"#));
        node.advance(3_000);
        let heard = node.heard(agent);
        assert!(!heard.iter().any(|text| text.contains("\"op\":\"seen\"")), "{heard:?}");
        node.say(visitor, &format!(r#"{{"op":"seen","d":{{"c":"{c}","s":1}}}}"#));
        node.advance(3_000);
        let heard = node.heard(agent);
        assert!(heard.iter().any(|text| text.contains("\"op\":\"seen\"")), "{heard:?}");
        // An acknowledgement of another conversation's events says nothing of his own.
        let other = c.chars().rev().collect::<String>();
        let ignored = node.shards[0].counters().acks_ignored;
        let foreign = if other.len() == c.len() { c.replace(&c[c.len() - 1..], "0") } else { other };
        node.say(visitor, &format!(r#"{{"op":"ack","d":{{"c":"{foreign}","s":1}}}}"#));
        assert_eq!(node.shards[0].counters().acks_ignored, ignored + 1, "{foreign}");
    }
}

#[test]
fn a_page_says_what_damage_took_from_it() {
    for shard_count in 1..=3 {
        let mut node = node(shard_count);
        let (visitor, c, token) = visitor(&mut node, 1);
        for number in 0..20 {
            node.say(visitor, &send(&c, 9, &format!("visitor-cid-{number:08}"), &format!("word {number}")));
        }
        let mut disks = node.disks.clone();
        let needle = b"word 7";
        let file = disks[0].segments.values_mut().next().expect("the first segment");
        let at = file.windows(needle.len()).position(|bytes| bytes == needle).expect("it was written");
        file[at] ^= 1;
        let mut node = Node::on(disks, NoProbe);
        let again = node.visitor(0);
        node.say(
            again,
            &format!(
                r#"{{"id":1,"op":"auth","d":{{"device":"device-of-visitor-1","token":"{token}"}}}}
{{"id":2,"op":"history","d":{{"c":"{c}","before":100}}}}"#
            ),
        );
        let page = answer(&mut node, again, 2);
        let lost = format!(r#"{{"op":"history_lost","c":"{c}","d":{{"from":9,"to":9,"reason":"damaged"}}}}"#);
        assert!(page.contains(&lost), "{page}");
        assert!(page.contains("word 6") && page.contains("word 8") && !page.contains("word 7"), "{page}");
    }
}
