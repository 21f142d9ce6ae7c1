//! 10,000 flipped bits in a sealed journal that shards wrote: each is named with its range, and nothing that was damaged is ever handed on or told.

mod common;

use std::collections::BTreeMap;

use common::{Disk, NoProbe, Node, field};
use desk::id::Entropy;
use journal::{Geometry, LogOffset};
use mail::Order;
use ringdesk_shard::Input;

const VISITORS: usize = 8;
const FLIPS: usize = 10_000;
/// Every so many flips the shards are started on what is left, and everything is read through the protocol.
const READ_EVERY: usize = 100;

/// Conversations with everything that is durable in them, then a clean stop.
fn sealed() -> (Vec<Disk>, Vec<String>) {
    let geometry = Geometry { segment_size: 128 << 10, align: 512 };
    let mut node = Node::on((0..2).map(|shard| Disk::new(shard, 2, geometry)).collect(), NoProbe);
    let agent = node.agent(1);
    node.say(agent, r#"{"id":2,"op":"avail","d":{"state":"online","cap":500}}"#);
    let mut conversations = Vec::new();
    for number in 0..VISITORS {
        let device = format!("device-of-visitor-{number}");
        let (visitor, _, c) = node.begin(number as u16 % 2, &device, "hello");
        node.advance(200);
        node.say(
            agent,
            &format!(r#"{{"id":4,"op":"accept","d":{{"c":"{c}","cid":"accept-cid-{number:09}"}}}}"#),
        );
        node.say(agent, &format!(r#"{{"id":5,"op":"sync","d":{{"cursors":[{{"c":"{c}","s":0}}]}}}}"#));
        conversations.push((visitor, c));
    }
    for round in 0..150 {
        for (visitor, c) in &conversations {
            let body = "It has been raining here since the morning. ".repeat(1 + round % 5);
            node.say(*visitor, &format!(r#"{{"id":6,"op":"send","d":{{"c":"{c}","cid":"visitor-cid-{round:08}","type":"text","body":"{body}"}}}}"#));
            node.say(agent, &format!(r#"{{"id":7,"op":"note","d":{{"c":"{c}","cid":"note-{c}-{round:03}","body":"Soon {round}."}}}}"#));
            if round % 20 == 19 {
                node.say(
                    agent,
                    &format!(r#"{{"id":8,"op":"close","d":{{"c":"{c}","cid":"close-{c}-{round:03}"}}}}"#),
                );
                node.say(*visitor, &format!(r#"{{"id":9,"op":"send","d":{{"c":"{c}","cid":"again-cid-{round:010}","type":"text","body":"Once more."}}}}"#));
                node.advance(200);
                node.say(
                    agent,
                    &format!(r#"{{"id":4,"op":"accept","d":{{"c":"{c}","cid":"accept-{c}-{round:03}"}}}}"#),
                );
            }
            let heard = node.heard(agent);
            let told = heard.iter().filter(|text| text.contains("\"s\":")).count();
            assert!(told > 0, "{heard:?}");
            let s = field(heard.iter().rfind(|text| text.contains("\"op\":\"note\"")).expect("a note"), "s")
                .to_owned();
            node.say(agent, &format!(r#"{{"op":"ack","d":{{"c":"{c}","s":{s}}}}}"#));
            node.say(agent, &format!(r#"{{"op":"seen","d":{{"c":"{c}","s":{s}}}}}"#));
            let _ = node.heard(*visitor);
            node.say(*visitor, &format!(r#"{{"op":"ack","d":{{"c":"{c}","s":{}}}}}"#, round + 1));
        }
        node.advance(500);
    }
    for shard in 0..2 {
        node.step(shard, Input::Order(Order::Drain { after_ms: 0, grace_ms: 0 }));
    }
    node.advance(5_000);
    for disk in &node.disks {
        assert!(disk.superblock.clean_end.is_some(), "the journal is sealed");
        assert!(disk.segments.len() > 2, "it has several segments: {}", disk.segments.len());
        assert!(disk.superblock.replay_from > geometry.first(), "a checkpoint went round");
    }
    (node.disks, conversations.into_iter().map(|(_, c)| c).collect())
}

/// Every event an agent is told of each conversation: its words by conversation and number, and the numbers that are said to be lost.
fn told(disks: &[Disk], conversations: &[String]) -> BTreeMap<(usize, u32), String> {
    let mut node = Node::on(disks.to_vec(), NoProbe);
    let agent = node.agent(1);
    let mut told = BTreeMap::new();
    for (at, c) in conversations.iter().enumerate() {
        let mut since = 0;
        loop {
            node.say(
                agent,
                &format!(r#"{{"id":5,"op":"history","d":{{"c":"{c}","before":{},"limit":50}}}}"#, since + 51),
            );
            let heard = node.heard(agent);
            let page = heard.iter().find(|text| text.contains("\"re\":5")).expect("an answer");
            let before = told.len();
            for event in page.split("{\"op\":").skip(1).filter(|event| event.contains("\"s\":")) {
                let s: u32 = field(event, "s").parse().expect("a number");
                if s > since {
                    told.insert((at, s), event.trim_end_matches(['}', ',', ']']).to_owned());
                }
            }
            since += 50;
            if told.len() == before {
                break;
            }
        }
    }
    told
}

#[test]
fn a_flipped_bit_is_named_with_its_range_and_never_served() {
    let (disks, conversations) = sealed();
    let whole = told(&disks, &conversations);
    assert!(whole.len() > VISITORS * 300, "everything is told of a whole journal: {}", whole.len());

    // The acknowledged blocks of each journal, and every record as it was stored.
    let mut blocks: Vec<(usize, LogOffset, u32)> = Vec::new();
    let mut records: Vec<BTreeMap<LogOffset, Vec<u8>>> = Vec::new();
    for (at, disk) in disks.iter().enumerate() {
        let superblock = disk.superblock.clone();
        let mut kept = BTreeMap::new();
        let report = journal::dump(&mut disk.clone(), &superblock, &mut |entry| match entry {
            journal::Entry::Block(header) => blocks.push((at, header.offset, header.size())),
            journal::Entry::Record(record) => _ = kept.insert(record.offset, record.raw.to_vec()),
            journal::Entry::Damage(damage) => panic!("{damage}"),
        });
        assert!(report.expect("it can be read").found.sealed);
        records.push(kept);
    }

    let mut entropy = Entropy::new([7; 32]);
    let (mut in_records, mut lost, mut reads) = (0, 0, 0);
    for flip in 0..FLIPS {
        let (at, offset, size) = blocks[entropy.below(blocks.len() as u64) as usize];
        let place = offset.plus(entropy.below(size.into()));
        let mut disk = disks[at].clone();
        let superblock = disk.superblock.clone();
        *disk.byte(place) ^= 1 << entropy.below(8);

        let report = journal::verify(&mut disk, &superblock).expect("the rest can be read");
        let named = report.found.damage.iter().find(|damage| (damage.from..damage.to).contains(&place));
        let named = named.unwrap_or_else(|| panic!("flip {flip} at {place}: {:?}", report.found.damage));
        assert!(
            named.from >= offset && named.to <= offset.plus(size.into()),
            "flip {flip} at {place} in the block {offset} costs more than that block: {named}"
        );

        let served = &mut |record: journal::RecordRef<'_>| {
            assert_eq!(records[at].get(&record.offset).map(Vec::as_slice), Some(record.raw), "flip {flip}");
        };
        let recovered = journal::recover(&mut disk, &superblock, &[0; 16], served).expect("it can be opened");
        in_records += u32::from(!recovered.damage.is_empty());

        if flip % READ_EVERY == 0 {
            let mut all = disks.clone();
            all[at] = disk;
            let left = told(&all, &conversations);
            for (key, event) in &left {
                assert_eq!(whole.get(key), Some(event), "flip {flip} at {place}: what is told was said");
            }
            lost += whole.len() - left.len();
            reads += 1;
        }
    }
    assert!(in_records > 0 && reads == FLIPS / READ_EVERY);
    println!(
        "{FLIPS} flips: {in_records} in what a replay reads; {reads} readings, {lost} events missing in them"
    );
}
