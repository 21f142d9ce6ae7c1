//! The checker's own log: what was said, acknowledged and heard, flushed to a disk that the crashes do not touch. The judge reads it, not the memory
//! of the clients.
//!
//! One entry a line, words parted by a space:
//!
//! ```text
//! P client role                    a client: v or a
//! C conv id client                 a conversation and the visitor whose it is
//! S client k conv op hash          said for the first time: m message, n note, a accept, c close; hash of the text
//! A client k conv s op dup         acknowledged with number s of the client's stream
//! F client k code                  refused, to be said again
//! X client k code                  refused for good
//! R client conv s hash             heard: number s of the client's stream has this content
//! ```

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::words::Word;

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A client exists.
    Client(u16, Role),
    /// A conversation exists.
    Conversation(u32, String, u16),
    /// Said for the first time.
    Said(Word, u32, Op, u64),
    /// Acknowledged.
    Acked(Word, u32, u32, Op, bool),
    /// Refused for now.
    Refused(Word, String),
    /// Refused for good.
    Dropped(Word, String),
    /// Heard.
    Heard(u16, u32, u32, u64),
}

/// Visitor or agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A visitor.
    Visitor,
    /// An agent.
    Agent,
}

/// What is said durably.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// A message, by `send` or with `start`.
    Message,
    /// A note.
    Note,
    /// `accept`
    Accept,
    /// `close`
    Close,
}

impl Op {
    fn letter(self) -> char {
        match self {
            Op::Message => 'm',
            Op::Note => 'n',
            Op::Accept => 'a',
            Op::Close => 'c',
        }
    }
    fn of(letter: &str) -> Option<Op> {
        Some(match letter {
            "m" => Op::Message,
            "n" => Op::Note,
            "a" => Op::Accept,
            "c" => Op::Close,
            _ => return None,
        })
    }
    /// The `op` of the event it makes.
    pub fn event(self) -> &'static str {
        match self {
            Op::Message => "msg",
            Op::Note => "note",
            Op::Accept => "agent",
            Op::Close => "status",
        }
    }
}

impl Entry {
    /// Appends the line.
    pub fn write(&self, out: &mut String) {
        use std::fmt::Write as _;
        let done = match self {
            Entry::Client(client, role) => {
                writeln!(out, "P {client} {}", if *role == Role::Agent { 'a' } else { 'v' })
            }
            Entry::Conversation(conv, id, client) => writeln!(out, "C {conv} {id} {client}"),
            Entry::Said(word, conv, op, hash) => {
                writeln!(out, "S {} {} {conv} {} {hash:x}", word.client, word.k, op.letter())
            }
            Entry::Acked(word, conv, s, op, dup) => {
                writeln!(out, "A {} {} {conv} {s} {} {}", word.client, word.k, op.letter(), u8::from(*dup))
            }
            Entry::Refused(word, code) => writeln!(out, "F {} {} {code}", word.client, word.k),
            Entry::Dropped(word, code) => writeln!(out, "X {} {} {code}", word.client, word.k),
            Entry::Heard(client, conv, s, hash) => writeln!(out, "R {client} {conv} {s} {hash:x}"),
        };
        done.expect("writing to a string does not fail");
    }

    /// Reads a line.
    pub fn read(line: &str) -> Option<Entry> {
        let words: Vec<&str> = line.split(' ').collect();
        let word = |client: &str, k: &str| Some(Word { client: client.parse().ok()?, k: k.parse().ok()? });
        let hash = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(match *words.as_slice() {
            ["P", client, role] => {
                Entry::Client(client.parse().ok()?, if role == "a" { Role::Agent } else { Role::Visitor })
            }
            ["C", conv, id, client] => {
                Entry::Conversation(conv.parse().ok()?, id.to_owned(), client.parse().ok()?)
            }
            ["S", client, k, conv, op, text] => {
                Entry::Said(word(client, k)?, conv.parse().ok()?, Op::of(op)?, hash(text)?)
            }
            ["A", client, k, conv, s, op, dup] => {
                Entry::Acked(word(client, k)?, conv.parse().ok()?, s.parse().ok()?, Op::of(op)?, dup == "1")
            }
            ["F", client, k, code] => Entry::Refused(word(client, k)?, code.to_owned()),
            ["X", client, k, code] => Entry::Dropped(word(client, k)?, code.to_owned()),
            ["R", client, conv, s, content] => {
                Entry::Heard(client.parse().ok()?, conv.parse().ok()?, s.parse().ok()?, hash(content)?)
            }
            _ => return None,
        })
    }
}

/// Writes the log on a thread of its own.
pub struct Record {
    path: PathBuf,
    lines: String,
    to_thread: Option<Sender<String>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Record {
    /// Begins a log.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Record> {
        let file = File::create(path)?;
        let (to_thread, lines) = channel();
        let thread = std::thread::spawn(move || write(file, lines));
        Ok(Record {
            path: path.to_owned(),
            lines: String::new(),
            to_thread: Some(to_thread),
            thread: Some(thread),
        })
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        entry.write(&mut self.lines);
        if self.lines.len() > 64 << 10 {
            self.pass();
        }
    }

    /// Passes what was added to the disk.
    pub fn pass(&mut self) {
        if !self.lines.is_empty()
            && let Some(to_thread) = &self.to_thread
        {
            // The thread ends early only on an error, which `finish` tells.
            let _ = to_thread.send(core::mem::take(&mut self.lines));
        }
    }

    /// Flushes everything; returns the path.
    ///
    /// # Errors
    /// If a line could not be written.
    pub fn finish(&mut self) -> io::Result<PathBuf> {
        self.pass();
        self.to_thread = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread does not panic")?;
        }
        Ok(self.path.clone())
    }
}

fn write(mut file: File, lines: Receiver<String>) -> io::Result<()> {
    while let Ok(some) = lines.recv() {
        file.write_all(some.as_bytes())?;
        while let Ok(more) = lines.try_recv() {
            file.write_all(more.as_bytes())?;
        }
        file.sync_data()?;
    }
    Ok(())
}

/// Reads a log.
///
/// # Errors
/// If the file cannot be read or a line is no entry.
pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        let entry = Entry::read(&line)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no entry: {line}")))?;
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_were_written() {
        let word = Word { client: 3, k: 77 };
        let entries = [
            Entry::Client(3, Role::Agent),
            Entry::Conversation(5, "01ABC".to_owned(), 4),
            Entry::Said(word, 5, Op::Note, 0xdead_beef),
            Entry::Acked(word, 5, 12, Op::Close, true),
            Entry::Refused(word, "overloaded".to_owned()),
            Entry::Dropped(word, "closed".to_owned()),
            Entry::Heard(3, 5, 12, u64::MAX),
        ];
        let path = std::env::temp_dir().join(format!("ringdesk-crash-record-{}", std::process::id()));
        let mut record = Record::create(&path).unwrap();
        entries.iter().for_each(|entry| record.add(entry));
        assert_eq!(read(&record.finish().unwrap()).unwrap(), entries);
        std::fs::remove_file(path).unwrap();
    }
}
