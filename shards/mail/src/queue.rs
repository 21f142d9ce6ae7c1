//! Bounded mailboxes: one sender, one reader, no lock.
//!
//! Letters are staged on the sender's side and published in one batch at the end of its turn, so the shared indices move once a turn and not once a
//! letter. A mailbox is full or it is not; it never grows and never waits. What happens at the bound is for the poster to decide (`LetterClass`).

use rtrb::{Consumer, Producer, RingBuffer};

/// A mailbox for at most `capacity` (> 0) letters, staged ones included.
pub fn mailbox<T>(capacity: usize) -> (Outbox<T>, Inbox<T>) {
    assert!(capacity > 0, "a mailbox that holds nothing delivers nothing");
    let (producer, consumer) = RingBuffer::new(capacity);
    (Outbox { ring: producer, staged: Vec::with_capacity(capacity) }, Inbox { ring: consumer })
}

/// The sender's end.
///
/// Dropping it does not publish what is staged: a letter that was not flushed was not posted.
pub struct Outbox<T> {
    ring: Producer<T>,
    /// Posted in this turn. Never longer than the room in the ring, which only its reader changes, and only upwards.
    staged: Vec<T>,
}

impl<T> Outbox<T> {
    /// How many letters it was made for.
    pub fn capacity(&self) -> usize {
        self.ring.buffer().capacity()
    }

    /// How many more letters may be pushed now. Reads the reader's index; never too many.
    pub fn room(&self) -> usize {
        self.ring.slots() - self.staged.len()
    }

    /// Whether `letters` more may be pushed. Looks at the reader's index only if what was seen of it last is not enough.
    pub fn has_room(&self, letters: usize) -> bool {
        self.ring.cached_slots() >= self.staged.len() + letters || self.room() >= letters
    }

    /// Stages a letter; `flush` publishes it. No allocation.
    ///
    /// # Panics
    /// If there is no room: the poster had to look.
    pub fn push(&mut self, letter: T) {
        assert!(self.has_room(1), "room is checked before a letter is pushed");
        self.staged.push(letter);
    }

    /// How many letters wait to be published.
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Publishes what is staged, in order, as one batch, and says how many letters that was. After one or more, ring the reader's doorbell.
    pub fn flush(&mut self) -> usize {
        let count = self.staged.len();
        if count == 0 {
            return 0;
        }
        let chunk =
            self.ring.write_chunk_uninit(count).expect("room was checked at every push and never shrinks");
        let written = chunk.fill_from_iter(self.staged.drain(..));
        assert_eq!(written, count, "a chunk takes as many letters as it was asked for");
        count
    }

    /// Whether the reader is gone. What was published after it left is never read.
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

/// The reader's end.
pub struct Inbox<T> {
    ring: Consumer<T>,
}

impl<T> Inbox<T> {
    /// Takes what was there on entry, in order, and says how many letters that was. What is published meanwhile stays for the next turn, so a busy sender
    /// cannot keep a reader here. The sender gets the room back at the end.
    pub fn drain(&mut self, take: impl FnMut(T)) -> usize {
        self.drain_at_most(self.ring.slots(), take)
    }

    /// [`Inbox::drain`] of letters that were counted before: one that came since then stays.
    pub fn drain_at_most(&mut self, count: usize, mut take: impl FnMut(T)) -> usize {
        let count = count.min(self.ring.slots());
        if count == 0 {
            return 0;
        }
        let chunk = self.ring.read_chunk(count).expect("only this end takes letters out");
        for letter in chunk {
            take(letter);
        }
        count
    }

    /// How many letters are there now.
    pub fn len(&self) -> usize {
        self.ring.slots()
    }

    /// Whether nothing is there. The look that `Sleeper::prepare` wants: it reads the sender's index itself, not what was seen of it last.
    pub fn is_empty(&self) -> bool {
        self.ring.slots() == 0
    }

    /// Whether the sender is gone. Letters that it published before may still be there.
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}
