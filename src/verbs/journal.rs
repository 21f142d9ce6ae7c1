//! `ringdesk journal dump|verify`: what the journals hold, and whether it holds.

use std::io::{BufWriter, Write};
use std::path::Path;

use edge::disk::{Files, generation_of, journal_directory};
use journal::{BlockFlags, Damage, Entry, Superblock};
use serde_json::json;

use super::complain;
use crate::cli::{JournalArgs, JournalVerb};
use crate::exit::Exit;

/// Reads every journal of the data directory, or the one of a shard.
pub(crate) fn journal(verb: JournalVerb) -> Exit {
    let (args, dump) = match verb {
        JournalVerb::Dump(args) => (args, true),
        JournalVerb::Verify(args) => (args, false),
    };
    let JournalArgs { json, shard, place } = args;
    let config = match place.load() {
        Ok(config) => config,
        Err(complaints) => {
            complain(complaints);
            return Exit::Config;
        }
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let exit = all(&config.storage.data_dir, shard, Show { json, dump }, &mut out);
    // A reader that went away is no error of ours.
    let _ = out.flush();
    exit
}

#[derive(Clone, Copy)]
struct Show {
    json: bool,
    dump: bool,
}

fn all(data_dir: &Path, only: Option<u16>, show: Show, out: &mut impl Write) -> Exit {
    let found = generation_of(data_dir).map_err(|error| error.to_string()).and_then(|generation| {
        shards(data_dir, generation).map(|shards| (generation, shards)).map_err(|error| error.to_string())
    });
    let (generation, shards) = match found {
        Ok((generation, shards)) if !shards.is_empty() => (generation, shards),
        Ok(_) => {
            complain(format_args!(
                "{} has no journals; name the data directory with --data-dir",
                data_dir.display()
            ));
            return Exit::Failed;
        }
        Err(error) => {
            complain(format_args!("{}: {error}", data_dir.display()));
            return Exit::Failed;
        }
    };
    // Any superblock knows how many there must be.
    let there_must_be = shards.iter().find_map(|&shard| {
        let path = journal_directory(data_dir, generation, shard).join("superblock");
        Superblock::decode_best(&std::fs::read(path).ok()?).ok().map(|superblock| superblock.shards)
    });
    let mut all: Vec<u16> = shards.iter().copied().chain(0..there_must_be.unwrap_or(0)).collect();
    all.sort_unstable();
    all.dedup();
    if let Some(only) = only {
        if !all.contains(&only) {
            complain(format_args!("there is no shard {only}; there are {} (from 0)", all.len()));
            return Exit::Failed;
        }
        all.retain(|&shard| shard == only);
    }
    let mut exit = Exit::Good;
    for shard in all {
        let directory = journal_directory(data_dir, generation, shard);
        match one(&directory, shard, show, out) {
            Ok(true) => {}
            Ok(false) => exit = Exit::Damaged,
            Err(Unreadable::Superblock(what)) => {
                let _ = match show.json {
                    true => writeln!(out, "{}", json!({ "what": "unreadable", "shard": shard, "why": what })),
                    false => writeln!(out, "shard {shard}: DAMAGED; {what}; restore it from a backup"),
                };
                exit = Exit::Damaged;
            }
            Err(Unreadable::Journal(error)) => {
                complain(format_args!("shard {shard}: {error}"));
                return Exit::Edge(edge::exit::JOURNAL);
            }
        }
    }
    exit
}

/// Why a journal could not be read at all.
enum Unreadable {
    /// Without this file nothing else can be told.
    Superblock(String),
    Journal(String),
}

/// The shards that have a journal in this generation, ascending.
fn shards(data_dir: &Path, generation: u32) -> std::io::Result<Vec<u16>> {
    let path = data_dir.join("journal").join(generation.to_string());
    let mut shards = Vec::new();
    for entry in std::fs::read_dir(path)? {
        shards.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u16>().ok()));
    }
    shards.sort_unstable();
    Ok(shards)
}

/// What the kind of a record is called.
fn name(kind: u16) -> &'static str {
    use desk::record::kind;
    match kind {
        kind::STARTED => "started",
        kind::MESSAGE => "message",
        kind::NOTE => "note",
        kind::ASSIGNED => "assigned",
        kind::CLOSED => "closed",
        kind::REOPENED => "reopened",
        kind::QUEUED => "queued",
        kind::RECEIPTS => "receipts",
        kind::SNAPSHOT_CONVERSATION => "snapshot_conversation",
        kind::SNAPSHOT_EVENTS => "snapshot_events",
        kind::EVICTED => "evicted",
        kind::THAWED => "thawed",
        kind::HISTORY_LOST => "history_lost",
        _ => "unknown",
    }
}

/// Whether everything that was acknowledged in this journal holds.
fn one(directory: &Path, shard: u16, show: Show, out: &mut impl Write) -> Result<bool, Unreadable> {
    let path = directory.join("superblock");
    let unreadable =
        |error: &dyn std::fmt::Display| Unreadable::Superblock(format!("{}: {error}", path.display()));
    let bytes = std::fs::read(&path).map_err(|error| unreadable(&error))?;
    let superblock = Superblock::decode_best(&bytes).map_err(|error| unreadable(&error))?;
    let mut files = Files::to_read(directory);
    let mut tell = |entry: Entry<'_>| {
        let line = if show.json { as_json(shard, entry) } else { as_text(shard, entry) };
        if show.dump || matches!(entry, Entry::Damage(_)) {
            let _ = writeln!(out, "{line}");
        }
    };
    let report = journal::dump(&mut files, &superblock, &mut tell)
        .map_err(|error| Unreadable::Journal(error.to_string()))?;
    let found = &report.found;
    let _ = if show.json {
        let summary = json!({
            "what": "journal", "shard": shard, "generation": superblock.generation, "clean": report.is_clean(),
            "from": report.from.0, "end": found.end.0, "blocks": found.blocks, "records": found.records, "bytes": found.bytes,
            "damaged_ranges": found.damage.len(), "sealed": found.sealed, "torn_tail": found.torn_tail.map(|tail| tail.at.0),
        });
        writeln!(out, "{summary}")
    } else {
        let verdict = if report.is_clean() { "every acknowledged byte holds" } else { "DAMAGED" };
        let end = match (found.sealed, found.torn_tail) {
            (true, _) => "sealed by a clean stop".to_owned(),
            (false, Some(tail)) => {
                format!("the last block ({} bytes at {}) is torn; nobody was told of it", tail.size, tail.at)
            }
            (false, None) => "not sealed".to_owned(),
        };
        writeln!(
            out,
            "shard {shard}: {verdict}; {} blocks, {} records, {} bytes, offsets {}..{}; {end}",
            found.blocks, found.records, found.bytes, report.from, found.end
        )
    };
    Ok(report.is_clean())
}

fn as_json(shard: u16, entry: Entry<'_>) -> String {
    let value = match entry {
        Entry::Block(block) => json!({
            "what": "block", "shard": shard, "segment": block.segment, "offset": block.offset.0, "boot": block.boot_id,
            "records": block.record_count, "bytes": block.payload_len, "seal": block.flags.contains(BlockFlags::SEAL),
        }),
        Entry::Record(record) => json!({
            "what": "record", "shard": shard, "offset": record.offset.0, "kind": record.kind, "name": name(record.kind), "version": record.version,
            "slot": record.slot, "bytes": record.body.len(),
        }),
        Entry::Damage(damage) => damage_json(shard, damage),
    };
    value.to_string()
}

fn damage_json(shard: u16, damage: &Damage) -> serde_json::Value {
    json!({
        "what": "damage", "shard": shard, "segment": damage.segment, "from": damage.from.0, "to": damage.to.0,
        "kind": damage.what.name(), "slot": damage.slot,
    })
}

fn as_text(shard: u16, entry: Entry<'_>) -> String {
    match entry {
        Entry::Block(block) => format!(
            "shard {shard} block   {} segment {} boot {}: {} records, {} bytes{}",
            block.offset,
            block.segment,
            block.boot_id,
            block.record_count,
            block.payload_len,
            if block.flags.contains(BlockFlags::SEAL) { ", seal" } else { "" }
        ),
        Entry::Record(record) => format!(
            "shard {shard} record  {} {} ({}) version {} slot {}: {} bytes",
            record.offset,
            name(record.kind),
            record.kind,
            record.version,
            record.slot,
            record.body.len()
        ),
        Entry::Damage(damage) => format!("shard {shard} DAMAGE  {damage}"),
    }
}

#[cfg(test)]
mod tests;
