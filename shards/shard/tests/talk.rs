//! A visitor and an agent talk, on one, two and three shards.

mod common;

use common::{NoProbe, Node, field};
use ringdesk_shard::Builder;

fn has(texts: &[String], op: &str) -> bool {
    texts.iter().any(|text| text.contains(&format!("\"op\":\"{op}\"")))
}

/// A visitor at shard 0 and an agent at the last shard, with an open conversation between them.
fn talking(shard_count: u16) -> (Node<NoProbe>, usize, usize, String) {
    let mut node = Node::new(shard_count, NoProbe);
    let visitor = node.visitor(0);
    assert!(has(&node.heard(visitor), "hello"));
    node.say(visitor, r#"{"id":1,"op":"auth","d":{"device":"device-of-visitor"}}
{"id":2,"op":"start","d":{"cid":"start-cid-0000000001","name":"Vera","first":{"cid":"first-cid-0000000001","type":"text","body":"hello"}}}"#);
    let heard = node.heard(visitor);
    let ready = heard.iter().find(|text| text.contains("\"re\":1")).expect("ready");
    assert_eq!(field(ready, "resumed"), "false");
    let started = heard.iter().find(|text| text.contains("\"re\":2")).expect("an answer to start");
    assert_eq!(field(started, "s"), "1");
    assert_eq!(field(started, "level"), "disk");
    let c = field(started, "c").to_owned();
    assert!(heard.iter().any(|text| text.contains("\"op\":\"msg\"") && text.contains("hello")), "{heard:?}");

    let agent = node.agent(shard_count - 1);
    node.say(
        agent,
        r#"{"id":2,"op":"avail","d":{"state":"online","cap":3}}
{"id":3,"op":"sub","d":{"scope":"queue"}}"#,
    );
    node.advance(200);
    let heard = node.heard(agent);
    assert!(heard.iter().any(|text| text.contains("\"op\":\"list\"") && text.contains(&c)), "{heard:?}");
    assert!(has(&heard, "offer"), "{heard:?}");
    node.say(agent, &format!(r#"{{"id":4,"op":"accept","d":{{"c":"{c}","cid":"accept-cid-000000001"}}}}"#));
    let heard = node.heard(agent);
    let accepted = heard.iter().find(|text| text.contains("\"re\":4")).expect("an answer to accept");
    assert_eq!(field(accepted, "s"), "2", "{heard:?}");
    node.say(agent, &format!(r#"{{"id":5,"op":"sync","d":{{"cursors":[{{"c":"{c}","s":0}}]}}}}"#));
    let heard = node.heard(agent);
    assert!(has(&heard, "sync") && has(&heard, "msg") && has(&heard, "agent"), "{heard:?}");
    assert!(has(&node.heard(visitor), "agent"));
    (node, visitor, agent, c)
}

#[test]
fn a_word_reaches_the_other_side_once_and_in_order_on_every_number_of_shards() {
    for shard_count in 1..=3 {
        let (mut node, visitor, agent, c) = talking(shard_count);
        node.say(visitor, &format!(r#"{{"id":9,"op":"send","d":{{"c":"{c}","cid":"v-cid-0000000000001","type":"text","body":"how are you"}}}}"#));
        let heard = node.heard(visitor);
        let stored = heard.iter().find(|text| text.contains("\"re\":9")).expect("an answer");
        assert_eq!(field(stored, "s"), "3");
        let heard = node.heard(agent);
        assert!(
            heard.iter().any(|text| text.contains("how are you") && field(text, "s") == "3"),
            "{heard:?}"
        );
        node.say(
            agent,
            &format!(
                r#"{{"id":10,"op":"note","d":{{"c":"{c}","cid":"n-cid-0000000000001","body":"a note"}}}}"#
            ),
        );
        node.say(agent, &format!(r#"{{"id":11,"op":"send","d":{{"c":"{c}","cid":"a-cid-0000000000001","type":"text","body":"well"}}}}"#));
        let heard = node.heard(agent);
        let stored = heard.iter().find(|text| text.contains("\"re\":11")).expect("an answer");
        assert_eq!(field(stored, "s"), "5", "{heard:?}");
        let heard = node.heard(visitor);
        assert!(!heard.iter().any(|text| text.contains("a note")), "notes stay on the agent stream");
        assert!(heard.iter().any(|text| text.contains("well") && field(text, "s") == "4"), "{heard:?}");
        node.say(agent, &format!(r#"{{"id":12,"op":"send","d":{{"c":"{c}","cid":"a-cid-0000000000001","type":"text","body":"well"}}}}"#));
        let heard = node.heard(agent);
        assert!(
            heard.iter().any(|text| text.contains("\"dup\":true") && field(text, "s") == "5"),
            "{heard:?}"
        );
    }
}

#[test]
fn a_short_drop_is_resumed_with_what_was_not_acknowledged() {
    for shard_count in 1..=3 {
        let (mut node, visitor, agent, c) = talking(shard_count);
        let ticket = node.ticket();
        let (shard, door) = (node.clients[agent].shard, node.clients[agent].door);
        node.step(shard, ringdesk_shard::Input::Gone { door });
        let first = node.connect(shard, "/ws/v1/agent");
        let _ = node.heard(first);
        let auth = |last: &str| {
            format!(
                r#"{{"id":1,"op":"auth","d":{{"token":"{ticket}","device":"device-of-agent-resume"{last}}}}}"#
            )
        };
        node.say(first, &auth(""));
        let ready = node.heard(first).remove(0);
        assert_eq!(field(&ready, "resumed"), "false", "without `last` nothing is resumed");
        let (sid, epoch) = (field(&ready, "sid").to_owned(), field(&ready, "epoch").to_owned());
        node.say(first, &format!(r#"{{"id":2,"op":"sync","d":{{"cursors":[{{"c":"{c}","s":0}}]}}}}"#));
        assert_eq!(node.heard(first).iter().filter(|text| text.contains("\"s\":")).count(), 2, "two events");
        node.say(first, r#"{"op":"ack","d":{"p":1}}"#);
        let (shard, door) = (node.clients[first].shard, node.clients[first].door);
        node.step(shard, ringdesk_shard::Input::Gone { door });
        node.say(visitor, &format!(r#"{{"id":9,"op":"send","d":{{"c":"{c}","cid":"v-cid-0000000000001","type":"text","body":"are you there"}}}}"#));
        let again = node.connect(shard, "/ws/v1/agent");
        let _ = node.heard(again);
        node.say(again, &auth(&format!(r#","last":{{"sid":"{sid}","epoch":"{epoch}","p":1}}"#)));
        let heard = node.heard(again);
        assert_eq!(field(&heard[0], "resumed"), "true", "{heard:?}");
        assert_eq!(field(&heard[0], "replay"), "1");
        assert_eq!(field(&heard[0], "p"), "1");
        let numbered = |text: &&String| text.contains("\"op\":\"msg\"") || text.contains("\"op\":\"agent\"");
        let numbers: Vec<_> = heard.iter().filter(numbered).map(|text| field(text, "s").to_owned()).collect();
        assert_eq!(numbers, ["2", "3"], "what was not acknowledged, then what came meanwhile: {heard:?}");
    }
}

#[test]
fn what_is_no_envelope_three_times_closes_with_4300() {
    let mut node = Node::new(1, NoProbe);
    let visitor = node.visitor(0);
    let _ = node.heard(visitor);
    for _ in 0..3 {
        node.say(visitor, "no json");
    }
    assert!(node.heard(visitor).contains(&"close 4300".to_owned()));
    node.raw(visitor, common::masked(8, &4300u16.to_be_bytes()));
    assert!(node.clients[visitor].closed);
}

#[test]
fn a_peer_that_asks_and_never_reads_is_not_read_any_more() {
    let mut node = Node::new(1, NoProbe);
    let visitor = node.visitor(0);
    node.clients[visitor].holds = true;
    let ping = common::masked(9, &[7; 125]);
    let taken = (0..20_000).take_while(|_| {
        node.raw(visitor, ping.clone());
        !node.clients[visitor].paused
    });
    let bytes = taken.count() * (2 + 125);
    assert!(
        (200 * 1024..300 * 1024).contains(&bytes),
        "{bytes} bytes of answers wait for a peer that does not read"
    );
}

/// A send to a peer that does not read never ends; the door is given up all the same, and with it its place in the table.
#[test]
fn a_peer_that_never_reads_does_not_keep_its_door() {
    let mut node = Node::new(1, NoProbe);
    let visitor = node.visitor(0);
    node.clients[visitor].holds = true;
    node.say(visitor, r#"{"id":1,"op":"auth","d":{"device":"device-of-visitor"}}"#);
    node.raw(visitor, common::masked(9, b"still here"));
    for _ in 0..40 {
        // It goes on talking, so that it is never taken for gone.
        node.raw(visitor, common::masked(1, b"{}"));
        node.advance(1_000);
    }
    assert_eq!(node.shards[0].counters().closed_slow, 1);
    assert!(node.clients[visitor].closed, "the door is closed though its send has not ended");
    assert_eq!(node.shards[0].counters().connections, 0);
}

/// A visitor has one conversation: a request of 25 KB does not make the server write ten times as much.
#[test]
fn a_sync_that_names_the_same_conversation_many_times_is_answered_once() {
    let (mut node, visitor, _, c) = talking(1);
    node.heard(visitor);
    let cursors = |s: u32| vec![format!(r#"{{"c":"{c}","s":{s}}}"#); 256].join(",");
    node.say(
        visitor,
        &format!(r#"{{"id":9,"op":"sync","d":{{"cursors":[{},{}]}}}}"#, cursors(2), cursors(1)),
    );
    let heard = node.heard(visitor);
    assert_eq!(heard.iter().filter(|text| text.contains("\"op\":\"sync\"")).count(), 1, "{heard:?}");
    assert!(heard.iter().any(|text| text.contains("\"re\":9") && text.contains("\"n\":1")), "{heard:?}");
    assert!(heard.iter().any(|text| text.contains("\"s\":2,")), "the last cursor counts: {heard:?}");
}

/// Whoever did not hear the answer asks again, and by then the conversation may wait for somebody else: only its home still knows the `cid`.
#[test]
fn an_accept_that_was_granted_is_answered_again_after_the_conversation_has_moved_on() {
    for shard_count in 1..=3 {
        let (mut node, visitor, agent, c) = talking(shard_count);
        let accept =
            format!(r#"{{"id":7,"op":"accept","d":{{"c":"{c}","cid":"accept-cid-000000001","offer":1}}}}"#);
        node.say(agent, r#"{"id":6,"op":"avail","d":{"state":"away"}}"#);
        node.say(
            agent,
            &format!(r#"{{"id":6,"op":"close","d":{{"c":"{c}","cid":"close-cid-0000000001"}}}}"#),
        );
        node.say(visitor, &format!(r#"{{"id":6,"op":"send","d":{{"c":"{c}","cid":"again-cid-0000000001","type":"text","body":"one more thing"}}}}"#));
        node.advance(200);
        node.heard(agent);
        node.say(agent, &accept);
        let heard = node.heard(agent);
        let answer = heard.iter().find(|text| text.contains("\"re\":7")).expect("an answer");
        assert!(answer.contains("\"s\":2,") && answer.contains("\"dup\":true"), "{answer}");
        // Another one with such an offer is still told that it is gone.
        node.say(agent, &accept.replace("000000001", "000000002"));
        let heard = node.heard(agent);
        let answer = heard.iter().find(|text| text.contains("\"re\":7")).expect("an answer");
        assert!(answer.contains("\"stale\""), "{answer}");
    }
}

#[test]
fn one_frame_of_two_hundred_pages_does_not_fill_the_memory_on_any_number_of_shards() {
    for shard_count in 1..=3 {
        let (mut node, visitor, agent, c) = talking(shard_count);
        // Each byte of it is six in JSON: a page is counted as what is sent.
        let body = "\\u0001".repeat(10_000);
        for at in 0..4 {
            node.say(visitor, &format!(r#"{{"id":9,"op":"send","d":{{"c":"{c}","cid":"v-cid-000000000000{at}","type":"text","body":"{body}"}}}}"#));
        }
        assert!(node.heard(visitor).iter().any(|text| text.contains("\"re\":9") && field(text, "s") == "6"));
        node.heard(agent);
        for client in [visitor, agent] {
            let pages: Vec<String> = (100..220)
                .map(|id| format!(r#"{{"id":{id},"op":"history","d":{{"c":"{c}","before":99,"limit":50}}}}"#))
                .collect();
            node.say(client, &pages.join("\n"));
            let heard = node.heard(client);
            let told: usize = heard.iter().map(String::len).sum();
            let refused = heard.iter().filter(|text| text.contains("\"code\":\"overloaded\"")).count();
            let answered = heard.iter().filter(|text| text.contains("\"re\":")).count();
            assert_eq!(answered, 120, "each is answered");
            assert!(refused >= 100, "{refused} refused of 120");
            assert!(told < 2 * 262_144, "{told} bytes for one frame");
            node.advance(1_000);
            node.say(
                client,
                &format!(r#"{{"id":300,"op":"history","d":{{"c":"{c}","before":99,"limit":50}}}}"#),
            );
            assert!(
                node.heard(client).iter().any(|text| text.contains("\"re\":300") && text.contains("u0001"))
            );
        }
    }
}

#[test]
fn sessions_with_nothing_to_resume_do_not_outlive_their_sockets() {
    let mut node = Node::new(1, NoProbe);
    let keeper = node.visitor(0);
    node.say(keeper, r#"{"id":1,"op":"auth","d":{"device":"device-of-keeper"}}"#);
    for at in 0..50 {
        let client = node.visitor(0);
        node.say(client, &format!(r#"{{"id":1,"op":"auth","d":{{"device":"device-of-number-{at:04}"}}}}"#));
        assert!(node.heard(client).iter().any(|text| text.contains("\"re\":1") && !text.contains("\"err\"")));
        node.raw(client, common::masked(8, &[]));
    }
    node.advance(3_000);
    assert_eq!(node.shards[0].counters().sessions, 1, "the one that is there");
}

#[test]
fn one_visitor_keeps_a_few_sessions_and_the_oldest_go_first() {
    let mut node = Node::new(1, NoProbe);
    let (_, token, c) = node.begin(0, "device-of-visitor", "hello");
    for at in 0..40 {
        let client = node.visitor(0);
        node.say(client, &format!(
            "{{\"id\":1,\"op\":\"auth\",\"d\":{{\"device\":\"device-of-number-{at:04}\",\"token\":\"{token}\"}}}}\n{{\"op\":\"sync\",\"d\":{{\"cursors\":[{{\"c\":\"{c}\",\"s\":0}}]}}}}"
        ));
        let heard = node.heard(client);
        assert!(heard.iter().any(|text| text.contains("\"op\":\"msg\"")), "{heard:?}");
        node.raw(client, common::masked(8, &[]));
    }
    node.advance(3_000);
    assert_eq!(node.shards[0].counters().sessions, 1 + 16);
}

#[test]
fn records_of_a_newer_program_are_named_and_damage_is_not_taken_for_them() {
    let (settings, ..) = common::settings(1);
    let config = || common::config(0, 1, 1024, &settings);
    let record = |kind, version| journal::RecordRef {
        kind,
        version,
        slot: 0,
        flags: 0,
        key_id: 0,
        offset: journal::LogOffset::NONE,
        block: journal::LogOffset::NONE,
        boot_id: 1,
        body: &[],
        raw: &[],
    };
    let newer_after = |kind, version| {
        let mut builder = Builder::new(config(), settings.clone().into());
        builder.replay(&record(kind, version));
        builder.newer().map(|error| error.to_string())
    };
    assert_eq!(newer_after(1, 1), None, "an empty body is damage");
    assert!(newer_after(1, 99).is_some_and(|text| text.contains("version 99")));
    assert!(newer_after(60_000, 1).is_some_and(|text| text.contains("kind 60000")));
}
