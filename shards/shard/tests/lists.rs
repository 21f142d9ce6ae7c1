//! Lists of more than a page: every row once, whatever changes between two pages.

mod common;

use common::{NoProbe, Node, field};

const ROWS_MAX: usize = 200;

/// Visitors who wait, in the order in which they came; their conversations.
fn waiting(node: &mut Node<NoProbe>, count: usize) -> Vec<String> {
    let shards = node.shards.len();
    let first = node.clients.len();
    let mut came = Vec::new();
    for at in 0..count {
        let visitor = node.visitor((at % shards) as u16);
        node.say(visitor, &format!("{}\n{}",
            format_args!(r#"{{"id":1,"op":"auth","d":{{"device":"device-of-visitor-{first}-{at}"}}}}"#),
            r#"{"id":2,"op":"start","d":{"cid":"start-cid-0000000001","name":"Vera","first":{"cid":"first-cid-0000000001","type":"text","body":"hello"}}}"#));
        let heard = node.heard(visitor);
        came.push(
            field(heard.iter().find(|text| text.contains("\"re\":2")).expect("started"), "c").to_owned(),
        );
    }
    came
}

/// The rows of a list or page, how many there are in all, and behind which more are left.
fn page(text: &str) -> (Vec<String>, usize, Option<String>) {
    let rows = text.split("{\"c\":\"").skip(1).map(|row| row[..26].to_owned()).collect();
    let next = text.contains("\"next\":").then(|| field(text, "next").to_owned());
    (rows, field(text, "total").parse().expect("a number"), next)
}

/// What `op` about a list tells: the push that follows `sub`, or the reply to `list`.
fn ask(
    node: &mut Node<NoProbe>,
    agent: usize,
    scope: &str,
    after: Option<&str>,
) -> (Vec<String>, usize, Option<String>) {
    node.heard(agent);
    let (request, begins) = match after {
        None => (
            format!(r#"{{"id":7,"op":"sub","d":{{"scope":"{scope}"}}}}"#),
            format!(r#"{{"op":"list","d":{{"scope":"{scope}""#),
        ),
        Some(after) => (
            format!(r#"{{"id":8,"op":"list","d":{{"scope":"{scope}","after":"{after}"}}}}"#),
            format!(r#"{{"re":8,"d":{{"scope":"{scope}""#),
        ),
    };
    node.say(agent, &request);
    let heard = node.heard(agent);
    page(
        heard
            .iter()
            .find(|text| text.starts_with(&begins))
            .unwrap_or_else(|| panic!("{begins} in {heard:?}")),
    )
}

fn busy_agent(node: &mut Node<NoProbe>, shard: u16) -> usize {
    let agent = node.agent(shard);
    node.say(agent, r#"{"id":2,"op":"avail","d":{"state":"busy","cap":500}}"#);
    agent
}

fn accept(node: &mut Node<NoProbe>, agent: usize, c: &str) {
    node.say(agent, &format!(r#"{{"id":4,"op":"accept","d":{{"c":"{c}","cid":"accept-{c}"}}}}"#));
    let heard = node.heard(agent);
    assert!(heard.iter().any(|text| text.contains("\"re\":4") && !text.contains("\"err\"")), "{heard:?}");
}

#[test]
fn the_queue_is_told_whole_page_by_page_while_people_come_and_go() {
    for shard_count in 1..=3 {
        let mut node = Node::new(shard_count, NoProbe);
        let agent = busy_agent(&mut node, shard_count - 1);
        let came = waiting(&mut node, 450);
        let (first, total, next) = ask(&mut node, agent, "queue", None);
        assert_eq!((first.as_slice(), total), (&came[..ROWS_MAX], 450));
        // Between the pages: the last row that was told leaves, one of the next page leaves, others come.
        accept(&mut node, agent, &came[199]);
        accept(&mut node, agent, &came[230]);
        let late = waiting(&mut node, 3);
        let (second, total, next) = ask(&mut node, agent, "queue", next.as_deref());
        let left: Vec<&String> = came[200..].iter().filter(|&c| c != &came[230]).collect();
        assert!(second.iter().eq(left[..ROWS_MAX].iter().copied()), "{shard_count} shards");
        assert_eq!(total, 451);
        let (third, total, next) = ask(&mut node, agent, "queue", next.as_deref());
        assert!(third.iter().eq(left[ROWS_MAX..].iter().copied().chain(&late)), "{shard_count} shards");
        assert_eq!((total, next), (451, None));
    }
}

#[test]
fn a_row_says_its_place_in_the_queue_on_every_page() {
    let mut node = Node::new(2, NoProbe);
    let agent = busy_agent(&mut node, 1);
    waiting(&mut node, 203);
    let (_, _, next) = ask(&mut node, agent, "queue", None);
    node.say(
        agent,
        &format!(r#"{{"id":9,"op":"list","d":{{"scope":"queue","after":"{}"}}}}"#, next.expect("more")),
    );
    let heard = node.heard(agent);
    let reply = heard.iter().find(|text| text.starts_with("{\"re\":9")).expect("a page");
    let places: Vec<&str> = reply.split("\"pos\":").skip(1).map(|rest| &rest[..3]).collect();
    assert_eq!(places, ["201", "202", "203"]);
}

#[test]
fn ones_own_are_told_whole_and_counted_without_what_is_only_offered() {
    for shard_count in 1..=3 {
        let mut node = Node::new(shard_count, NoProbe);
        let agent = busy_agent(&mut node, shard_count - 1);
        let mut own = waiting(&mut node, 405);
        for c in &own {
            accept(&mut node, agent, c);
        }
        own.sort();
        let (first, total, next) = ask(&mut node, agent, "mine", None);
        assert_eq!((first.as_slice(), total), (&own[..ROWS_MAX], 405));
        // The row that the next page stands behind is his no more.
        node.say(
            agent,
            &format!(r#"{{"id":5,"op":"close","d":{{"c":"{}","cid":"close-cid-0000000001"}}}}"#, own[199]),
        );
        node.say(
            agent,
            &format!(r#"{{"id":5,"op":"close","d":{{"c":"{}","cid":"close-cid-0000000001"}}}}"#, own[10]),
        );
        let (second, total, next) = ask(&mut node, agent, "mine", next.as_deref());
        assert_eq!((second.as_slice(), total), (&own[200..400], 403));
        let (third, total, next) = ask(&mut node, agent, "mine", next.as_deref());
        assert_eq!((third.as_slice(), total, next), (&own[400..], 403, None));
        // What is offered keeps a place for him and is not his.
        node.say(agent, r#"{"id":2,"op":"avail","d":{"state":"online","cap":500}}"#);
        let offered = waiting(&mut node, 1).remove(0);
        node.advance(200);
        assert!(
            node.heard(agent).iter().any(|text| text.contains("\"op\":\"offer\"") && text.contains(&offered))
        );
        assert_eq!(ask(&mut node, agent, "mine", None).1, 403);
    }
}

#[test]
fn a_list_that_does_not_fit_is_told_when_there_is_room_again() {
    for shard_count in 1..=3 {
        let mut node = Node::new(shard_count, NoProbe);
        let came = waiting(&mut node, 100);
        let agent = busy_agent(&mut node, shard_count - 1);
        node.heard(agent);
        node.clients[agent].holds = true;
        // More than an outbox of answers that nobody reads, and what should come by itself behind them.
        let mut asked: Vec<String> =
            (0..40).map(|id| format!(r#"{{"id":{id},"op":"list","d":{{"scope":"queue"}}}}"#)).collect();
        asked.push(r#"{"id":77,"op":"sub","d":{"scope":"queue"}}"#.to_owned());
        node.say(agent, &asked.join("\n"));
        node.release(agent);
        node.advance(200);
        let heard = node.heard(agent);
        assert!(heard.iter().any(|text| text.contains("\"code\":\"overloaded\"")), "the socket was full");
        let lists: Vec<&String> = heard.iter().filter(|text| text.starts_with("{\"op\":\"list\"")).collect();
        assert_eq!(lists.len(), 1);
        assert_eq!(page(lists[0]).0, came);
    }
}

#[test]
fn what_is_no_place_of_a_list_is_refused_and_so_are_visitors() {
    let mut node = Node::new(1, NoProbe);
    let agent = busy_agent(&mut node, 0);
    for after in ["\"\"", "\"7\"", "\"x.00000000000000000000000000\"", "\"7.short\"", "7"] {
        node.say(agent, &format!(r#"{{"id":9,"op":"list","d":{{"scope":"mine","after":{after}}}}}"#));
        let heard = node.heard(agent);
        assert!(heard.iter().any(|text| text.contains("\"bad_request\"")), "{after}: {heard:?}");
    }
    let visitor = node.visitor(0);
    node.say(
        visitor,
        r#"{"id":1,"op":"auth","d":{"device":"device-of-visitor"}}
{"id":2,"op":"list","d":{"scope":"queue"}}"#,
    );
    assert!(
        node.heard(visitor).iter().any(|text| text.contains("\"re\":2") && text.contains("\"forbidden\""))
    );
}

/// A start: who waits has no place before every home has said who waits there, and then no row changes that would tell of him.
#[test]
fn a_list_that_was_told_before_everybody_had_his_place_is_told_anew() {
    let mut node = Node::new(3, NoProbe);
    // Nobody hears of him: his conversation gets no place in the queue before the power goes.
    node.silent = Some(1);
    let came = waiting(&mut node, 3);
    let disks = node.disks;
    let mut node = Node::on_while_silent(disks, NoProbe, Some(2));
    let agent = busy_agent(&mut node, 0);
    let (rows, total, _) = ask(&mut node, agent, "queue", None);
    assert_eq!(
        (rows.as_slice(), total),
        (&came[..1], 2),
        "one has his place, one waits for it, of one nothing is known"
    );
    node.silent = None;
    node.advance(200);
    let heard = node.heard(agent);
    let list = heard.iter().rfind(|text| text.starts_with("{\"op\":\"list\"")).expect("the list again");
    let (mut rows, total, _) = page(list);
    rows.sort();
    let mut all = came.clone();
    all.sort();
    assert_eq!((rows, total), (all, 3));
}
