//! `sockets`: what docs/protocol.md promises, over real sockets, with the same suite for one, two and three shards.

mod peer;
mod site;
mod suite {
    pub(crate) mod chat;
    pub(crate) mod crowd;
    pub(crate) mod frames;
    pub(crate) mod lists;
    pub(crate) mod refusals;
    pub(crate) mod sessions;
    pub(crate) mod upgrades;
}

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use crash::server::{Plan, find_bin, metric};

use site::Site;

#[derive(Parser, Debug)]
#[command(
    name = "sockets",
    about = "Real-socket tests. Statuses: 0 all passed, 1 something failed, 2 the run itself could not be made."
)]
struct Cli {
    /// The binary to test; else RINGDESK_BIN; else `ringdesk` beside this one
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Numbers of shards, one suite each
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    shards: Vec<u16>,
    /// Only tests whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Idle connections of the crowd
    #[arg(long, default_value_t = 2_000)]
    crowd: usize,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where data and logs go; kept if something fails
    #[arg(long, default_value = "/tmp/ringdesk-sockets")]
    work_dir: PathBuf,
}

/// How the tests went.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
}

/// Longest time of one test.
const TEST_TIME: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::from(2);
        }
    };
    let mut tally = Tally::default();
    for &shards in &cli.shards {
        let began = Instant::now();
        if let Err(error) = tokio::task::LocalSet::new().block_on(&runtime, all(&cli, shards, &mut tally)) {
            eprintln!("sockets: {error}");
            return ExitCode::from(2);
        }
        println!("        {shards} shards: {:.1} s", began.elapsed().as_secs_f64());
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn plan(cli: &Cli, shards: u16, name: &str, settings: &str) -> Result<Plan, String> {
    let work_dir = cli.work_dir.join(format!("{name}-{shards}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&work_dir);
    Ok(Plan {
        bin: find_bin(cli.bin.as_deref())?,
        data_dir: work_dir.join("data"),
        work_dir,
        shards,
        durability: "disk",
        segment_mb: 4,
        settings: settings.to_owned(),
        arguments: ["--echo-path", "/echo"].map(str::to_owned).to_vec(),
    })
}

/// Limits that are met within a test's time.
const TIGHT: &str = "[limits]\nmessage_rate = 5\nmessage_burst = 20\nrate_strikes = 20\noutbox_kib = 64\n\
[session]\nauth_ms = \"1200ms\"\nheartbeat_ms = \"1s\"\nstuck_ms = \"2s\"\ninflight_visitor = 64\nresume_ttl_visitor_ms = \"2s\"\n\
[routing]\noffer_ttl_ms = \"1200ms\"\n[security]\norigins = [\"https://shop.example\"]\n";

async fn all(cli: &Cli, shards: u16, tally: &mut Tally) -> Result<(), String> {
    let wide = Site::start(plan(cli, shards, "wide", "")?, cli.seed).await?;
    let tight = Site::start(plan(cli, shards, "tight", TIGHT)?, cli.seed ^ 1).await?;
    let failed = tally.failed;
    macro_rules! test {
        ($site:expr, $test:path) => {
            let name = stringify!($test).trim_start_matches("suite::");
            if name.contains(&cli.only) {
                let began = Instant::now();
                let outcome = tokio::time::timeout(TEST_TIME, $test(&$site))
                    .await
                    .unwrap_or_else(|_| Err("takes too long".to_owned()));
                count(tally, shards, name, began.elapsed(), outcome);
            }
        };
    }
    // Those that mostly wait do it beside the others.
    let half_open = tokio::task::spawn_local(suite::sessions::half_open(
        tight.listen,
        tight.inbox.clone(),
        tight.chance(),
    ));
    test!(wide, suite::chat::hello_and_ready);
    test!(wide, suite::chat::conversation);
    test!(wide, suite::chat::many_conversations);
    test!(wide, suite::chat::notes_and_numbers);
    test!(wide, suite::chat::history_pages);
    test!(wide, suite::chat::seen_and_delivered);
    test!(wide, suite::chat::typing);
    test!(wide, suite::chat::presence);
    test!(wide, suite::chat::first_words_with_auth);
    test!(wide, suite::chat::notice);
    test!(wide, suite::lists::queue_and_mine);
    test!(wide, suite::lists::positions);
    test!(tight, suite::lists::offers);
    test!(wide, suite::lists::capacity);
    test!(wide, suite::refusals::said_twice);
    test!(wide, suite::refusals::tokens);
    test!(wide, suite::refusals::foreign_conversations);
    test!(wide, suite::refusals::roles_and_states);
    test!(wide, suite::refusals::bounds);
    test!(tight, suite::refusals::rate_limit);
    test!(wide, suite::frames::bad_frames);
    test!(wide, suite::frames::nonsense);
    test!(wide, suite::frames::byte_by_byte);
    test!(wide, suite::frames::fragments_and_pings);
    test!(wide, suite::frames::many_envelopes);
    test!(wide, suite::frames::echo);
    test!(tight, suite::sessions::auth_in_time);
    test!(wide, suite::sessions::wrong_slot);
    test!(wide, suite::sessions::newer_socket);
    test!(wide, suite::sessions::resume);
    test!(tight, suite::sessions::resume_too_late);
    test!(tight, suite::sessions::heartbeats);
    test!(tight, suite::sessions::slow_reader);
    test!(tight, suite::sessions::lag);
    test!(wide, suite::upgrades::refused);
    test!(tight, suite::upgrades::origins);
    test!(wide, suite::upgrades::keep_alive_pages);
    test!(wide, suite::upgrades::upgrade_after_http);
    let told = crossing(&wide).await;
    test!(wide, suite::refusals::ended_sessions);
    if "suite::crowd::idle".contains(&cli.only) {
        let began = Instant::now();
        let outcome = suite::crowd::idle(&wide, cli.crowd).await;
        count(tally, shards, "crowd::idle", began.elapsed(), outcome);
    }
    if "crowd::few_descriptors".contains(&cli.only) {
        let began = Instant::now();
        let outcome = suite::crowd::few_descriptors(plan(cli, shards, "few", "")?, cli.seed).await;
        count(tally, shards, "crowd::few_descriptors", began.elapsed(), outcome);
    }
    if "sessions::half_open".contains(&cli.only) {
        let outcome = half_open.await.map_err(|error| error.to_string())?;
        count(tally, shards, "sessions::half_open", Duration::ZERO, outcome);
    } else {
        half_open.abort();
    }
    if cli.only.is_empty() {
        count(tally, shards, "crossing", Duration::ZERO, told);
    }
    for site in [wide, tight] {
        let outcome = suite::crowd::stop(&site).await;
        count(tally, shards, "stop", Duration::ZERO, outcome);
        let work_dir = site.server.borrow().plan().work_dir.clone();
        if tally.failed == failed {
            let _ = std::fs::remove_dir_all(work_dir);
        } else {
            println!("        kept: {}", work_dir.display());
        }
    }
    Ok(())
}

/// At least half of the chats crossed shards, by our account and by the server's.
async fn crossing(site: &Site) -> Result<String, String> {
    let (chats, crossed) = (site.chats.get(), site.crossed.get());
    let told = metric(site.admin, "ringdesk_events_crossed_total").await.unwrap_or(0.0);
    let said = format!("{crossed} of {chats} chats crossed shards; {told} events went from shard to shard");
    let good = site.shards == 1 || (crossed * 2 >= chats && told > 0.0);
    if good { Ok(said) } else { Err(said) }
}

fn count(tally: &mut Tally, shards: u16, name: &str, took: Duration, outcome: Result<String, String>) {
    let ms = took.as_millis();
    match outcome {
        Ok(what) => {
            tally.passed += 1;
            println!("ok      {shards} shards, {name} ({ms} ms) {what}");
        }
        Err(what) => {
            tally.failed += 1;
            println!("FAILED  {shards} shards, {name} ({ms} ms): {what}");
        }
    }
}
