//! Everything a shard must know to admit people and to bound them: one immutable value with a version, replaced whole.
//!
//! It comes from the control plane, or at boot from its own durable copy (`encode`, `decode`), so shards start while the control plane is down.

mod durable;

use crate::id::{AgentId, InboxId, SiteId};
use core::ops::RangeInclusive;

pub use durable::SettingsError;

/// Most keys in a [`Settings`]: the one that signs, and those whose tokens are still honoured.
pub const MAX_KEYS: usize = 16;
/// Longest name of an inbox or an agent, in bytes.
pub const MAX_NAME_BYTES: usize = 320;
/// Longest origin in an inbox's list, in bytes.
pub const MAX_ORIGIN_BYTES: usize = 512;
/// Most conversations an agent may own at a time.
pub const MAX_CAPACITY: u16 = 500;

/// One value of all settings that shards use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Rises with every change; a shard reports the version it applied.
    pub version: u64,
    /// The one site of this server.
    pub site: SiteId,
    /// The first signs, all verify; 1 to [`MAX_KEYS`], no two with the same id.
    pub keys: Vec<SigningKey>,
    /// Where visitors may come from; no two with the same id.
    pub inboxes: Vec<Inbox>,
    /// Who may answer; no two with the same id.
    pub agents: Vec<Agent>,
    /// The bounds of sessions.
    pub limits: Limits,
}

/// A key for visitors' tokens and agents' tickets.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Stands in every token the key has signed; never used again for another secret.
    pub id: u32,
    /// 256 random bits.
    pub secret: [u8; 32],
}

impl core::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).field("secret", &"redacted").finish()
    }
}

/// One place on the web where visitors come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inbox {
    /// Its id, public: it is in the address of the widget's socket.
    pub id: InboxId,
    /// For people; at most [`MAX_NAME_BYTES`].
    pub name: String,
    /// Origins whose pages may open a socket, each `scheme://host[:port]` as a browser writes it. Empty means any.
    pub origins: Vec<String>,
    /// A disabled inbox admits nobody.
    pub enabled: bool,
}

impl Inbox {
    /// Whether a socket with this `Origin` header may be opened.
    ///
    /// The comparison is exact, byte for byte: no prefix, suffix or wildcard can be played with. With a list, a missing origin is refused and
    /// the opaque origin `null` passes only if it is listed.
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        if self.origins.is_empty() {
            return true;
        }
        origin.is_some_and(|origin| self.origins.iter().any(|allowed| allowed == origin))
    }
}

/// What an agent may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Answers visitors.
    Agent,
    /// Answers visitors and changes settings.
    Admin,
}

/// A person who answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// Who it is.
    pub id: AgentId,
    /// As visitors see it; at most [`MAX_NAME_BYTES`].
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// Raised to end all his sessions: tickets of a lower epoch are refused.
    pub session_epoch: u32,
    /// Conversations he may own at a time, at most [`MAX_CAPACITY`].
    pub capacity: u16,
    /// A disabled agent is admitted nowhere.
    pub enabled: bool,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $default:literal, $low:literal ..= $high:literal;)*) => {
        /// The bounds of sessions. Every field has a default and its own bounds, see [`Limits::check`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct Limits {
            $(
                $(#[$doc])*
                #[doc = concat!("\n\nDefault ", stringify!($default), ", from ", stringify!($low), " to ", stringify!($high), ".")]
                pub $name: $kind,
            )*
        }

        impl Default for Limits {
            fn default() -> Limits {
                Limits { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Names the first field that is out of its bounds, and the bounds.
            pub fn check(&self) -> Result<(), &'static str> {
                $(
                    const { assert!($low <= $default && $default <= $high, "a default lies within its bounds") };
                    let bounds: RangeInclusive<$kind> = $low..=$high;
                    if !bounds.contains(&self.$name) {
                        return Err(concat!("limits.", stringify!($name), " must be from ", stringify!($low), " to ", stringify!($high)));
                    }
                )*
                Ok(())
            }

            fn write(&self, out: &mut Vec<u8>) {
                $(out.extend_from_slice(&self.$name.to_le_bytes());)*
            }

            fn read(from: &mut durable::Reader<'_>) -> Result<Limits, SettingsError> {
                Ok(Limits { $($name: <$kind>::from_le_bytes(from.array()?),)* })
            }
        }
    };
}

// The order is the order on disk: a new limit goes to the end, with a new format number in `durable`.
limits! {
    /// The server sends `{}` when it has sent nothing for so long, in milliseconds.
    heartbeat_ms: u32 = 25_000, 1_000..=55_000;
    /// How long a visitor's session may be resumed after its socket ended, in milliseconds.
    resume_ttl_visitor_ms: u32 = 120_000, 1_000..=86_400_000;
    /// How long an agent's session may be resumed after its socket ended, in milliseconds.
    resume_ttl_agent_ms: u32 = 600_000, 1_000..=86_400_000;
    /// Durable events a visitor's session may be told without an acknowledgement. Clients acknowledge every 32, hence the least.
    inflight_visitor: u16 = 256, 64..=16_384;
    /// Durable events an agent's session may be told without an acknowledgement.
    inflight_agent: u16 = 2_048, 64..=16_384;
    /// Bytes waiting for a socket above which it is behind. One whole frame must fit, hence the least.
    outbox_bytes: u32 = 262_144, 65_536..=16_777_216;
    /// A socket that is behind and takes nothing for so long is closed with 4110, in milliseconds.
    stuck_ms: u32 = 30_000, 1_000..=600_000;
    /// Time to authenticate after the upgrade, then close 4200, in milliseconds.
    auth_ms: u32 = 10_000, 1_000..=60_000;
    /// How long an agent alone holds an offer, in milliseconds.
    offer_ttl_ms: u32 = 20_000, 1_000..=600_000;
    /// Durable requests (`start`, `send`, `note`, `accept`, `close`) a session may make per second in the long run.
    message_rate_per_s: u32 = 5, 1..=10_000;
    /// Durable requests a session may make at once.
    message_burst: u32 = 20, 1..=100_000;
    /// All other requests a session may make per second in the long run.
    request_rate_per_s: u32 = 50, 1..=100_000;
    /// All other requests a session may make at once.
    request_burst: u32 = 200, 1..=1_000_000;
    /// Refusals for rate in a row after which the socket is closed with 4111.
    rate_strikes: u16 = 100, 1..=10_000;
}

impl Settings {
    /// The inbox of this id. Linear in the number of inboxes.
    pub fn inbox(&self, id: InboxId) -> Option<&Inbox> {
        self.inboxes.iter().find(|inbox| inbox.id == id)
    }

    /// The agent of this id. Linear in the number of agents: ask at `auth` and keep the answer.
    pub fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.id == id)
    }

    /// Names the first thing that is out of bounds. Whoever makes a value calls this before sending it to shards.
    pub fn check(&self) -> Result<(), &'static str> {
        self.limits.check()?;
        if self.keys.is_empty() || self.keys.len() > MAX_KEYS {
            return Err("keys: from 1 to 16 are needed");
        }
        if has_twice(self.keys.iter().map(|key| u128::from(key.id))) {
            return Err("keys: two have the same id");
        }
        if has_twice(self.inboxes.iter().map(|inbox| inbox.id.bits())) {
            return Err("inboxes: two have the same id");
        }
        if has_twice(self.agents.iter().map(|agent| agent.id.bits())) {
            return Err("agents: two have the same id");
        }
        for inbox in &self.inboxes {
            if inbox.name.len() > MAX_NAME_BYTES {
                return Err("inboxes.name must be at most 320 bytes");
            }
            if inbox.origins.len() > usize::from(u16::MAX) {
                return Err("inboxes.origins must be at most 65535");
            }
            if inbox.origins.iter().any(|origin| origin.is_empty() || origin.len() > MAX_ORIGIN_BYTES) {
                return Err("inboxes.origins must be from 1 to 512 bytes each");
            }
        }
        for agent in &self.agents {
            if agent.name.len() > MAX_NAME_BYTES {
                return Err("agents.name must be at most 320 bytes");
            }
            if agent.capacity > MAX_CAPACITY {
                return Err("agents.capacity must be at most 500");
            }
        }
        Ok(())
    }
}

fn has_twice(ids: impl Iterator<Item = u128>) -> bool {
    let mut ids: Vec<u128> = ids.collect();
    ids.sort_unstable();
    ids.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests;
