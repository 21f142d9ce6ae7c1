//! The list. One entry per setting; the file that `init` writes, the checks, the environment's names and the typed value all come from here.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::complaint::Complaint;
use super::kind::{Durability, Kind, LogFormat, LogLevel, Mib, Millis, Origin, Sync};
use super::layer::{Layer, Raw};

/// One setting, for whoever shows or checks it.
pub(crate) struct Setting {
    /// Its section.
    pub(crate) section: &'static str,
    /// Its key.
    pub(crate) key: &'static str,
    /// What it wants.
    pub(crate) wants: &'static str,
    /// The bounds as they are written in the file.
    pub(crate) bounds: Option<(String, String)>,
    /// The default as it is written in the file.
    pub(crate) default: String,
    /// Whether a change needs no restart.
    pub(crate) hot: bool,
    /// What it is for, and why it is as it is.
    pub(crate) doc: &'static [&'static str],
    /// The effective value as it is written in the file.
    show: fn(&Config) -> String,
    /// Copies the value of the second into the first.
    copy: fn(&mut Config, &Config),
}

impl Setting {
    /// The name of its variable.
    pub(crate) fn variable(&self) -> String {
        format!("RINGDESK__{}__{}", self.section, self.key).to_uppercase()
    }
    /// The effective value as it is written in the file.
    pub(crate) fn show(&self, config: &Config) -> String {
        (self.show)(config)
    }
    /// Gives `into` the value that `from` has.
    pub(super) fn copy(&self, into: &mut Config, from: &Config) {
        (self.copy)(into, from);
    }
}

/// The last layer that has the setting wins, but every layer is read, so that no mistake hides behind an override.
fn read<K: Kind>(
    (section, key): (&'static str, &'static str),
    bounds: Option<(u64, u64)>,
    default: &str,
    layers: &[Layer],
    complaints: &mut Vec<Complaint>,
) -> K {
    let mut value = K::read(&Raw::Loose(default.to_owned()), bounds).expect("a default is within its bounds");
    for found in layers.iter().filter_map(|layer| layer.get(section, key)) {
        match K::read(&found.raw, bounds) {
            Ok(read) => value = read,
            Err(what) => {
                let (place, name) = (found.place.clone(), format!("{section}.{key}"));
                complaints.push(Complaint { place, name, what });
            }
        }
    }
    value
}

macro_rules! bounds {
    () => {
        None
    };
    ($low:literal ..= $high:expr) => {
        Some(($low as u64, $high as u64))
    };
}

macro_rules! settings {
    ($($(#[doc = $section_doc:literal])* $section:ident: $struct:ident {
        $($(#[doc = $doc:literal])* $key:ident: $kind:ty = $default:literal $([$low:literal ..= $high:expr])? $heat:ident;)*
    })*) => {
        $(
            $(#[doc = $section_doc])*
            #[derive(Clone, PartialEq, Debug)]
            pub(crate) struct $struct {
                $($(#[doc = $doc])* pub(crate) $key: $kind,)*
            }
        )*

        /// All settings as they are in effect.
        #[derive(Clone, PartialEq, Debug)]
        pub(crate) struct Config {
            $($(#[doc = $section_doc])* pub(crate) $section: $struct,)*
        }

        impl Config {
            pub(super) fn build(layers: &[Layer], complaints: &mut Vec<Complaint>) -> Config {
                Config {
                    $($section: $struct {
                        $($key: read::<$kind>((stringify!($section), stringify!($key)), bounds!($($low ..= $high)?), $default, layers, complaints),)*
                    },)*
                }
            }
        }

        /// Every setting, in the order of the file.
        pub(crate) static SETTINGS: std::sync::LazyLock<Vec<Setting>> = std::sync::LazyLock::new(|| vec![
            $($(Setting {
                section: stringify!($section),
                key: stringify!($key),
                wants: <$kind as Kind>::WANTS,
                bounds: {
                    let bounds: Option<(u64, u64)> = bounds!($($low ..= $high)?);
                    bounds.map(|(low, high)| (<$kind as Kind>::show_bound(low), <$kind as Kind>::show_bound(high)))
                },
                default: <$kind as Kind>::read(&Raw::Loose($default.to_owned()), bounds!($($low ..= $high)?))
                    .expect("a default is within its bounds").show(),
                hot: stringify!($heat).len() == "hot".len(),
                doc: &[$($doc),*],
                show: |config| Kind::show(&config.$section.$key),
                copy: |into, from| into.$section.$key = Clone::clone(&from.$section.$key),
            },)*)*
        ]);
    };
}

settings! {
    /// Where the server listens and how wide it is.
    server: Server {
        /// The public port: pages, login and web sockets. Put a proxy with TLS in front of it, or keep it on a private network.
        listen: SocketAddr = "0.0.0.0:8080" cold;
        /// Health, metrics and administration. Private: never expose it.
        admin_listen: SocketAddr = "127.0.0.1:9100" cold;
        /// Shards, each a pinned thread. 0 takes a shard for each physical core, and leaves one of sixteen (at least one, if there are two) to everything else.
        shards: u16 = "0" [0..=64] cold;
        /// Connections the server is built for. 0 takes what this host can hold (descriptors and memory), which the start prints.
        max_connections: u32 = "0" [0..=4_000_000] cold;
    }
    /// Where data live, and when an acknowledgement may leave.
    storage: Storage {
        /// Journals, control.db and keys. Made at the first start, readable by this user alone; one server at a time.
        data_dir: PathBuf = "ringdesk-data" cold;
        /// "disk": an acknowledged message survives a power cut. "memory": it survives the process, not the power. Every acknowledgement names it.
        durability: Durability = "disk" cold;
        /// How the journal is written. "auto" takes what was measured on this disk at the first start; `ringdesk doctor` shows the figures.
        sync: Sync = "auto" cold;
        /// Size of a journal's segment. Written once with zeros, then reused.
        segment_mb: Mib = "64MiB" [1..=256] cold;
        /// Room all journals together may take. At the bound new messages are refused with `storage_full`; reading goes on.
        journal_budget_mb: Mib = "4GiB" [16..=16_777_216] cold;
    }
    /// What one client may ask for, and what all together may use.
    limits: Limits {
        /// Memory for open and recent conversations. At the bound new conversations are refused with `overloaded`. 0 takes a quarter of the memory.
        hot_mb: Mib = "0MiB" [0..=16_777_216] cold;
        /// Durable requests (start, send, note, accept, close) that all sessions of a visitor, or one of an agent, may make per second in the long run.
        message_rate: u32 = "5" [1..=10_000] hot;
        /// Durable requests they may make at once.
        message_burst: u32 = "20" [1..=100_000] hot;
        /// All other requests a session may make per second in the long run.
        request_rate: u32 = "50" [1..=100_000] hot;
        /// All other requests a session may make at once.
        request_burst: u32 = "200" [1..=1_000_000] hot;
        /// Refusals for rate in a row after which the socket is closed with 4111. A shard counts them in one byte.
        rate_strikes: u16 = "100" [1..=255] hot;
        /// Bytes waiting for a socket above which it is behind and pulls later, in KiB.
        outbox_kib: u32 = "256" [64..=16_384] hot;
        /// Logins per minute from one address (IPv6: one /64), and twice as many at once.
        login_rate: u32 = "30" [1..=60_000] cold;
    }
    /// Sockets and sessions of visitors and agents.
    session: Session {
        /// The server speaks when it has been silent for so long; a peer silent for ten seconds longer is gone. Below the idle time-out of every proxy on the way.
        heartbeat_ms: Millis = "25s" [1_000..=55_000] hot;
        /// How long a visitor's session may be resumed after its socket ended; at most 16 of one visitor, and none that was told nothing.
        resume_ttl_visitor_ms: Millis = "2m" [1_000..=86_400_000] hot;
        /// How long an agent's session may be resumed after its socket ended.
        resume_ttl_agent_ms: Millis = "10m" [1_000..=86_400_000] hot;
        /// Durable events a visitor's session is told without an acknowledgement.
        inflight_visitor: u16 = "256" [64..=16_384] hot;
        /// Durable events an agent's session is told without an acknowledgement.
        inflight_agent: u16 = "2048" [64..=16_384] hot;
        /// A socket that is behind and takes nothing for so long is closed with 4110.
        stuck_ms: Millis = "30s" [1_000..=600_000] hot;
        /// Time to authenticate after the upgrade; then close 4200.
        auth_ms: Millis = "10s" [1_000..=60_000] hot;
    }
    /// How conversations reach agents.
    routing: Routing {
        /// How long an agent alone holds an offer before it goes to the next.
        offer_ttl_ms: Millis = "20s" [1_000..=600_000] hot;
        /// Open conversations a new agent may own at a time.
        capacity: u16 = "10" [0..=500] cold;
    }
    /// Who may connect from where.
    security: Security {
        /// Origins whose pages may open a visitor's socket in the first inbox. Empty allows any.
        origins: Vec<Origin> = "" [0..=256] hot;
    }
    /// The log, on standard error. It never holds what people write to each other.
    log: Log {
        /// The least important level that is written.
        level: LogLevel = "info" cold;
        /// "text" for people, "json" for collectors.
        format: LogFormat = "text" cold;
    }
}
