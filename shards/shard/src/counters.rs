//! What a shard counts. Plain numbers, one writer; the driver publishes them.

/// Whether a number only rises or goes up and down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CounterKind {
    /// Rises until the process ends.
    Counter,
    /// What is there now.
    Gauge,
}

/// A number's name and meaning, as `/metrics` shows them.
#[derive(Clone, Copy, Debug)]
pub struct CounterName {
    /// Without prefix or unit of the whole server, e.g. `frames_received`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Its kind.
    pub kind: CounterKind,
}

macro_rules! counters {
    ($($kind:ident $name:ident: $help:literal;)*) => {
        /// All of a shard's numbers.
        #[derive(Clone, Debug, Default)]
        pub struct Counters {
            $(#[doc = $help] pub $name: u64,)*
        }

        impl Counters {
            /// The names, in the order of [`Counters::values`].
            pub const NAMES: &'static [CounterName] =
                &[$(CounterName { name: stringify!($name), help: $help, kind: CounterKind::$kind },)*];

            /// Writes all values in the order of [`Counters::NAMES`]; `out` must be that long.
            pub fn values(&self, out: &mut [u64]) {
                assert_eq!(out.len(), Self::NAMES.len(), "one place for each name");
                for (place, value) in out.iter_mut().zip([$(self.$name,)*]) {
                    *place = value;
                }
            }
        }
    };
}

counters! {
    Gauge connections: "Sockets this shard holds.";
    Gauge sessions: "Sessions this shard holds, with and without a socket.";
    Gauge sessions_visitor: "Visitors' sessions with a socket.";
    Gauge sessions_agent: "Agents' sessions with a socket.";
    Gauge conversations: "Conversations in memory.";
    Gauge hot_bytes: "Bytes of events in memory.";
    Counter accepted: "Connections accepted or adopted.";
    Counter moved_out: "Connections given to the shard of their slot.";
    Counter moved_in: "Connections taken over from another shard.";
    Counter handed_over: "Connections given to the control plane.";
    Counter upgrades: "Upgrades to WebSocket answered with 101.";
    Counter upgrades_refused: "Upgrade requests refused.";
    Counter heads_refused: "Request heads that were malformed or too large.";
    Counter bytes_received: "Bytes received on WebSockets.";
    Counter messages_received: "WebSocket messages received.";
    Counter envelopes_received: "Envelopes received.";
    Counter requests_bad: "Envelopes refused as bad requests.";
    Counter violations_protocol: "Connections closed with 1002.";
    Counter violations_utf8: "Connections closed with 1007.";
    Counter violations_size: "Connections closed with 1009.";
    Counter closed_auth: "Connections closed with 42xx.";
    Counter closed_dead: "Connections closed because nothing came from the peer.";
    Counter closed_slow: "Connections closed because the peer read too slowly.";
    Counter closed_moved: "Connections closed with 4000 because of a wrong slot hint.";
    Counter closed_replaced: "Connections closed because a newer socket took the session.";
    Counter closed_other: "Connections closed by this side for other reasons.";
    Counter sessions_resumed: "Sessions resumed after a short drop.";
    Counter sessions_expired: "Sessions ended because nobody came back.";
    Counter acks_ignored: "Acknowledgements of numbers that were never told, or lower than before.";
    Counter rate_limited: "Requests refused by a token bucket.";
    Counter records: "Records appended to the journal.";
    Counter messages_stored: "Messages and notes stored.";
    Counter messages_crossed: "Of them, said at a door on another shard.";
    Counter duplicates: "Durable requests answered from what was stored before.";
    Counter refused_overloaded: "Requests refused with overloaded.";
    Counter refused_storage: "Requests refused with storage_full.";
    Counter commits: "Blocks that became durable.";
    Counter commit_bytes: "Bytes of blocks written.";
    Gauge pending: "Answers and pushes that wait for the journal.";
    Counter events_told: "Durable events written to sockets.";
    Counter events_crossed: "Durable events posted to doors on other shards.";
    Counter deliveries_behind: "Deliveries not posted for want of room; the listener pulls instead.";
    Counter pulls: "Times a door pulled what it missed.";
    Counter hints_dropped: "Ephemeral pushes dropped for want of room.";
    Counter letters_posted: "Letters posted to other shards.";
    Gauge letters_owed: "State letters that wait for room in another shard's mailbox.";
    Gauge letters_waiting: "Letters taken from the mailbox that wait for room in the journal's block.";
    Gauge conversations_behind: "Conversations some door of which waits to be told the head.";
    Gauge requests_unanswered: "Requests to other shards without an answer yet.";
    Gauge pool_spare: "Spare buffers that are kept.";
    Counter pool_grown: "Buffers and slabs made because no spare one was there.";
    Counter letters_parked: "Letters that waited because the journal's block was full.";
    Counter stalls: "Times a socket was not read because the journal or a mailbox was full.";
    Counter offers: "Offers told to agents.";
    Counter notices: "Notices told to sockets.";
    Counter checkpoint_bytes: "Bytes of snapshots appended.";
    Counter checkpoint_rounds: "Times every slot had been snapshotted.";
    Counter events_lost: "Events that damage took; their ranges are told as history_lost.";
    Gauge storage_full: "1 while new messages are refused for want of disk.";
    Gauge journal_segments: "Segments the journal holds.";
}
