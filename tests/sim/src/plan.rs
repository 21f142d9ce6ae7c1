//! What kind of world a seed makes: how many shards and people, how slow and how faulty everything is.

use desk::settings::Limits;
use journal::{Geometry, Level};

use crate::chance::Chance;

/// How a byte stream is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// As it was sent.
    Whole,
    /// Anywhere.
    Anywhere,
    /// Mostly whole, sometimes byte by byte for a while.
    Bytes,
}

/// The kind of a world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shard_count: u16,
    pub(crate) mailbox_size: u32,
    /// Descriptors of one shard.
    pub(crate) table_size: u32,
    pub(crate) geometry: Geometry,
    pub(crate) segment_count_max: u32,
    pub(crate) level: Level,
    pub(crate) hot_bytes_max: usize,
    pub(crate) session_count_max: u32,
    pub(crate) limits: Limits,

    pub(crate) visitor_count: usize,
    pub(crate) agent_count: usize,
    pub(crate) hostile_count: usize,
    pub(crate) capacity: u16,

    /// Messages to be said before the faults stop.
    pub(crate) messages_min: u64,
    pub(crate) events_min: u64,
    pub(crate) crashes_min: u64,
    /// Events between two crashes, about.
    pub(crate) crash_every: u64,
    /// Of a hundred crashes, so many take the power.
    pub(crate) power_percent: u64,
    /// Of a hundred crashes, so many are followed by one during recovery.
    pub(crate) crash_again_percent: u64,
    /// Of a hundred ends of a process, so many are asked for.
    pub(crate) drain_percent: u64,

    pub(crate) cut: Cut,
    /// Bytes a socket takes at once.
    pub(crate) window: usize,
    pub(crate) latency_us: (u64, u64),
    pub(crate) mail_us: (u64, u64),
    /// From the first arrival to the turn that takes it.
    pub(crate) turn_us: (u64, u64),
    /// Most letters taken from one mailbox in a turn.
    pub(crate) letters_per_turn: u64,
    pub(crate) disk_us: (u64, u64),
    /// Of a thousand writes, so many take very long.
    pub(crate) disk_stall_permille: u64,
    pub(crate) disk_stall_us: u64,
    /// Of ten thousand writes, so many fail.
    pub(crate) disk_fail: u64,
    pub(crate) segment_us: (u64, u64),
    /// Of a hundred preparations, so many fail.
    pub(crate) segment_fail_percent: u64,
    /// For so long the disk stays full once it is.
    pub(crate) full_us: u64,

    /// Of a thousand things a client does, so many are the end of its socket.
    pub(crate) drop_permille: u64,
    /// Of a hundred ends, so many are not noticed by the server.
    pub(crate) vanish_percent: u64,
    /// Of a thousand things a client does, so many are to stop reading for a while.
    pub(crate) slow_permille: u64,
    /// Of a hundred clients, so many never acknowledge.
    pub(crate) lazy_percent: u64,
    /// Of a hundred messages, so many are long.
    pub(crate) long_percent: u64,
    pub(crate) act_us: (u64, u64),
    /// Of a hundred of those, so many are very long.
    pub(crate) very_long_percent: u64,
    /// Of a thousand turns, so many come very late.
    pub(crate) pause_permille: u64,
    /// Of a hundred crashes, so many leave a flipped bit in what was acknowledged.
    pub(crate) rot_percent: u64,
    pub(crate) clock_jumps: bool,
    pub(crate) orders_permille: u64,
    /// The effects of letters are carried out after each one rather than after a mailbox.
    pub(crate) eager_effects: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Plan {
        let chance = &mut Chance::new(seed, "plan");
        let mut shard_count = chance.weighted(&[(4, 1), (58, 2), (38, 3)]);
        let mut limits = limits(chance);
        let window = chance.weighted(&[(10, 300), (30, 4 << 10), (60, 64 << 10)]);
        let slow_world = chance.percent(12);
        // Long messages on a slow disk.
        let heavy = chance.percent(5);
        if heavy {
            shard_count = 3;
            (limits.message_rate_per_s, limits.message_burst) = (100, 100);
        }
        // Shards that take their mail more slowly than it comes.
        let congested = chance.percent(5);
        let level = if chance.percent(14) { Level::Memory } else { Level::Disk };
        // So much is said that segments are left behind, and the power goes at a level that does not flush each word. Streams that are cut would only
        // cost time.
        let rolls = level == Level::Memory && !heavy && chance.percent(40);
        let window = if rolls { 64 << 10 } else { window };
        let long = match (heavy, rolls) {
            (true, _) => 70,
            (false, true) => 50,
            (false, false) => chance.weighted(&[(60, 1), (25, 5), (15, 40)]),
        };
        Plan {
            shard_count,
            mailbox_size: if congested { 64 } else { chance.weighted(&[(40, 64), (20, 96), (40, 1024)]) },
            table_size: chance.weighted(&[(15, 6), (35, 16), (50, 64)]),
            geometry: Geometry {
                segment_size: if heavy || rolls {
                    128 << 10
                } else {
                    chance.weighted(&[(60, 128 << 10), (25, 256 << 10), (10, 512 << 10), (5, 1 << 20)])
                },
                align: chance.weighted(&[(70, 512), (30, 4096)]),
            },
            segment_count_max: chance.weighted(&[(12, 1), (10, 2), (78, 256)]),
            level,
            hot_bytes_max: chance.weighted(&[(8, 4 << 10), (8, 24 << 10), (84, 8 << 20)]),
            session_count_max: chance.weighted(&[(6, 5), (94, 1000)]),
            limits,
            visitor_count: chance.weighted(&[(30, 2), (50, 3), (20, 5)]),
            agent_count: if heavy || congested { 3 } else { chance.weighted(&[(50, 1), (35, 2), (15, 3)]) },
            hostile_count: chance.weighted(&[(50, 1), (10, 2), (40, 0)]),
            capacity: chance.between(1, 5) as u16,
            messages_min: chance.between(50, 60) * if heavy || congested || rolls { 3 } else { 1 },
            events_min: 500,
            crashes_min: chance.weighted(&[(55, 2), (35, 3), (10, 6)]),
            crash_every: chance.weighted(&[(30, 150), (50, 500), (20, 1500)]),
            power_percent: if rolls { 80 } else { chance.pick(&[10, 50, 90]) },
            crash_again_percent: chance.pick(&[10, 40]),
            drain_percent: chance.pick(&[10, 30]),
            cut: if rolls {
                Cut::Whole
            } else {
                chance.weighted(&[(30, Cut::Whole), (45, Cut::Anywhere), (25, Cut::Bytes)])
            },
            window,
            latency_us: chance.pick(&[(20, 200), (200, 3_000), (1_000, 40_000)]),
            mail_us: chance.pick(&[(1, 20), (10, 500), (100, 20_000)]),
            turn_us: if congested {
                (2_000, 30_000)
            } else {
                chance.pick(&[(1, 40), (20, 400), (100, 3_000)])
            },
            letters_per_turn: if congested { 1 } else { chance.weighted(&[(15, 2), (25, 8), (60, 1000)]) },
            disk_us: if heavy {
                (200_000, 700_000)
            } else {
                chance.pick(&[(50, 400), (300, 3_000), (2_000, 30_000)])
            },
            disk_stall_permille: if heavy { 150 } else { chance.pick(&[0, 0, 5, 30]) },
            disk_stall_us: if heavy { 400_000 } else { chance.between(100_000, 2_500_000) },
            disk_fail: chance.pick(&[0, 0, 0, 20, 80]),
            segment_us: chance.pick(&[(100, 2_000), (5_000, 100_000)]),
            segment_fail_percent: chance.pick(&[0, 0, 30, 80]),
            full_us: chance.between(100_000, 3_000_000),
            drop_permille: chance.pick(&[5, 25, 80]),
            vanish_percent: chance.pick(&[0, 0, 10, 30]),
            slow_permille: if slow_world || window < 1000 { 60 } else { 5 },
            lazy_percent: chance.pick(&[0, 0, 30]),
            long_percent: long,
            act_us: if congested || heavy {
                (3_000, 30_000)
            } else {
                chance.pick(&[(5_000, 60_000), (20_000, 250_000)])
            },
            very_long_percent: if heavy || rolls { 60 } else { 5 },
            pause_permille: if congested { 40 } else { chance.weighted(&[(70, 0), (15, 4), (15, 15)]) },
            rot_percent: if level == Level::Disk && chance.percent(6) { 60 } else { 0 },
            clock_jumps: chance.percent(40),
            orders_permille: chance.pick(&[0, 2, 10]),
            eager_effects: chance.percent(30),
        }
    }
}

fn limits(chance: &mut Chance) -> Limits {
    Limits {
        heartbeat_ms: chance.pick(&[1_000, 3_000, 25_000]),
        resume_ttl_visitor_ms: chance.pick(&[1_000, 4_000, 120_000]),
        resume_ttl_agent_ms: chance.pick(&[1_000, 4_000, 600_000]),
        inflight_visitor: chance.pick(&[64, 256]),
        inflight_agent: chance.pick(&[64, 2_048]),
        outbox_bytes: chance.pick(&[65_536, 262_144]),
        stuck_ms: chance.pick(&[1_000, 30_000]),
        auth_ms: chance.pick(&[1_000, 10_000]),
        offer_ttl_ms: chance.pick(&[1_000, 2_000, 20_000]),
        message_rate_per_s: chance.weighted(&[(15, 5), (85, 100)]),
        message_burst: chance.weighted(&[(15, 10), (85, 100)]),
        request_rate_per_s: chance.weighted(&[(10, 10), (90, 200)]),
        request_burst: chance.weighted(&[(10, 20), (90, 400)]),
        rate_strikes: chance.pick(&[5, 100]),
    }
}
