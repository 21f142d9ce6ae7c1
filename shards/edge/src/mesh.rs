//! Letters to and from the other shards.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use mail::Letter;
use mail::queue::{Inbox, Outbox};
use mail::sleep::Doorbell;

use crate::metrics::Counters;
use crate::ring::Ring;

/// What one shard has of another.
pub(crate) struct Peer {
    pub(crate) outbox: Outbox<Letter>,
    pub(crate) inbox: Inbox<Letter>,
    pub(crate) doorbell: Doorbell,
}

/// One shard's ends of all mailboxes.
pub(crate) struct Mesh {
    /// By shard; `None` is this one.
    peers: Vec<Option<Peer>>,
    rings: Arc<[OwnedFd]>,
    rooms: Vec<u32>,
}

impl Mesh {
    pub(crate) fn new(peers: Vec<Option<Peer>>, rings: Arc<[OwnedFd]>) -> Mesh {
        let rooms = vec![0; peers.len()];
        Mesh { peers, rings, rooms }
    }

    /// How many letters each mailbox can take.
    pub(crate) fn rooms(&mut self) -> &[u32] {
        for (room, peer) in self.rooms.iter_mut().zip(&self.peers) {
            *room = peer.as_ref().map_or(0, |peer| peer.outbox.room() as u32);
        }
        &self.rooms
    }

    /// Stages a letter; it is published at the end of the turn.
    pub(crate) fn post(&mut self, to: u16, letter: Letter) {
        let peer = self.peers.get_mut(usize::from(to)).and_then(Option::as_mut);
        peer.expect("a letter goes to another shard of this node").outbox.push(letter);
    }

    /// Publishes what was staged and wakes those who sleep.
    pub(crate) fn flush(&mut self, ring: &mut Ring<'_>, counters: &mut Counters) {
        for (to, peer) in self.peers.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            let count = peer.outbox.flush();
            if count > 0 {
                counters.mail_batches += 1;
                counters.letters_sent += count as u64;
                let target = self.rings[to].as_fd();
                if peer.doorbell.ring(|| ring.wake(target)) {
                    counters.wakes_sent += 1;
                }
            }
        }
    }

    /// Whether no letter has come; reads the senders' own indices.
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.iter().flatten().all(|peer| peer.inbox.is_empty())
    }

    /// How many shards there are, this one included.
    pub(crate) fn count(&self) -> u16 {
        self.peers.len() as u16
    }

    /// How many letters of one shard are there.
    pub(crate) fn arrived(&self, from: u16) -> usize {
        self.peers[usize::from(from)].as_ref().map_or(0, |peer| peer.inbox.len())
    }

    /// Takes letters of one shard that were counted before.
    pub(crate) fn drain(&mut self, from: u16, count: usize, take: impl FnMut(Letter)) {
        if let Some(peer) = &mut self.peers[usize::from(from)] {
            peer.inbox.drain_at_most(count, take);
        }
    }
}
