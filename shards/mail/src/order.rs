//! The complete list of what the two planes can say to each other.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use desk::id::InboxId;
use desk::settings::Settings;
use journal::LogOffset;

/// From the control plane to one shard. At most 256 wait; then the control plane answers 503.
#[derive(Debug)]
pub enum Order {
    /// Use these settings from now on. Answered with [`Report::SettingsApplied`].
    Settings(Arc<Settings>),
    /// Tell everybody in scope; ephemeral. At most 2,000 bytes of text.
    Notice {
        /// What to tell.
        text: Box<str>,
        /// Whom.
        scope: NoticeScope,
    },
    /// Take over a connection that spoke HTTP before and now asks for an upgrade. Carried out by the edge.
    Adopt {
        /// The connection, non-blocking.
        stream: OwnedFd,
        /// Who is at the other end.
        peer: SocketAddr,
        /// What was read from it and not answered: the upgrade request, and perhaps more.
        bytes: Vec<u8>,
    },
    /// Stop: end accepts, say `goaway`, commit, close 1001, seal. Answered with [`Report::Sealed`].
    Drain {
        /// How long clients are told to wait before they come back, in milliseconds.
        after_ms: u32,
        /// How long the shard waits between `goaway` and closing, in milliseconds.
        grace_ms: u32,
    },
}

/// Whom a notice reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoticeScope {
    /// Every visitor and every agent of the site.
    All,
    /// The open visitors of one inbox.
    Inbox(InboxId),
}

/// From one shard to the control plane. At most 256 wait; marks are coalesced.
#[derive(Debug)]
pub enum Report {
    /// The shard has recovered and serves.
    Serving,
    /// Settings of this version are in use; the value they replaced comes back to be freed off the shard.
    SettingsApplied {
        /// The version now in use.
        version: u64,
        /// What it replaced.
        old: Arc<Settings>,
    },
    /// Everything in the journal before this offset is durable; followers may read up to it.
    Durable(LogOffset),
    /// A connection whose request is not ours to answer. Made by the edge.
    HandedOver {
        /// The connection, non-blocking.
        stream: OwnedFd,
        /// Who is at the other end.
        peer: SocketAddr,
        /// What was read from it: the whole request head, and perhaps more.
        bytes: Vec<u8>,
    },
    /// The next segment cannot be prepared: new messages are refused with `storage_full`, reading goes on.
    StorageFull(String),
    /// There is room again.
    StorageBack,
    /// The journal is sealed and the shard's thread is about to end.
    Sealed(LogOffset),
}
