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
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use crash::server::{Plan, find_bin, metric};

use site::Site;

#[derive(Parser, Debug, Clone)]
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

/// What a test told, and how long it took.
type Told = (&'static str, Duration, Result<String, String>);

/// Runs one test.
macro_rules! test {
    ($cli:expr, $site:expr, $test:path) => {{
        let name = stringify!($test).trim_start_matches("suite::");
        let began = Instant::now();
        match name.contains(&$cli.only) {
            true => {
                let run = tokio::time::timeout(TEST_TIME, $test(&$site)).await;
                Some((name, began.elapsed(), run.unwrap_or_else(|_| Err("takes too long".to_owned()))))
            }
            false => None,
        }
    }};
}

/// Tests that mostly wait, one after the other beside all others.
async fn patient(cli: Cli, tight: Rc<Site>) -> Vec<Told> {
    let told = [
        test!(cli, tight, suite::sessions::auth_in_time),
        test!(cli, tight, suite::sessions::resume_too_late),
        test!(cli, tight, suite::sessions::heartbeats),
        test!(cli, tight, suite::sessions::slow_reader),
        test!(cli, tight, suite::sessions::lag),
    ];
    told.into_iter().flatten().collect()
}

async fn all(cli: &Cli, shards: u16, tally: &mut Tally) -> Result<(), String> {
    let wide = Rc::new(Site::start(plan(cli, shards, "wide", "")?, cli.seed, cli.crowd).await?);
    let tight = Rc::new(Site::start(plan(cli, shards, "tight", TIGHT)?, cli.seed ^ 1, cli.crowd).await?);
    let failed = tally.failed;
    // Offers want the agent of that site for themselves.
    tally.count(shards, test!(cli, tight, suite::lists::offers));
    let half_open = suite::sessions::half_open(tight.listen, tight.inbox.clone(), tight.chance());
    let half_open = tokio::task::spawn_local(half_open);
    let patient = tokio::task::spawn_local(patient(cli.clone(), Rc::clone(&tight)));
    tally.count(shards, test!(cli, wide, suite::chat::hello_and_ready));
    tally.count(shards, test!(cli, wide, suite::chat::conversation));
    tally.count(shards, test!(cli, wide, suite::chat::many_conversations));
    tally.count(shards, test!(cli, wide, suite::chat::notes_and_numbers));
    tally.count(shards, test!(cli, wide, suite::chat::history_pages));
    tally.count(shards, test!(cli, wide, suite::chat::seen_and_delivered));
    tally.count(shards, test!(cli, wide, suite::chat::typing));
    tally.count(shards, test!(cli, wide, suite::chat::presence));
    tally.count(shards, test!(cli, wide, suite::chat::first_words_with_auth));
    tally.count(shards, test!(cli, wide, suite::chat::notice));
    tally.count(shards, test!(cli, wide, suite::lists::queue_and_mine));
    tally.count(shards, test!(cli, wide, suite::lists::positions));
    tally.count(shards, test!(cli, wide, suite::lists::capacity));
    tally.count(shards, test!(cli, wide, suite::lists::pages));
    tally.count(shards, test!(cli, wide, suite::refusals::said_twice));
    tally.count(shards, test!(cli, wide, suite::refusals::tokens));
    tally.count(shards, test!(cli, wide, suite::refusals::foreign_conversations));
    tally.count(shards, test!(cli, wide, suite::refusals::roles_and_states));
    tally.count(shards, test!(cli, wide, suite::refusals::bounds));
    tally.count(shards, test!(cli, tight, suite::refusals::rate_limit));
    tally.count(shards, test!(cli, wide, suite::frames::bad_frames));
    tally.count(shards, test!(cli, wide, suite::frames::nonsense));
    tally.count(shards, test!(cli, wide, suite::frames::byte_by_byte));
    tally.count(shards, test!(cli, wide, suite::frames::fragments_and_pings));
    tally.count(shards, test!(cli, wide, suite::frames::many_envelopes));
    tally.count(shards, test!(cli, wide, suite::frames::echo));
    tally.count(shards, test!(cli, wide, suite::sessions::wrong_slot));
    tally.count(shards, test!(cli, wide, suite::sessions::newer_socket));
    tally.count(shards, test!(cli, wide, suite::sessions::resume));
    tally.count(shards, test!(cli, wide, suite::sessions::never_reads));
    tally.count(shards, test!(cli, wide, suite::upgrades::refused));
    tally.count(shards, test!(cli, tight, suite::upgrades::origins));
    tally.count(shards, test!(cli, wide, suite::upgrades::keep_alive_pages));
    tally.count(shards, test!(cli, wide, suite::upgrades::upgrade_after_http));
    tally.count(shards, test!(cli, wide, suite::crowd::idle));
    let crossed = crossing(&wide).await;
    tally.count(shards, test!(cli, wide, suite::refusals::ended_sessions));
    let few = plan(cli, shards, "few", "")?;
    tally.count(shards, test!(cli, few, suite::crowd::few_descriptors));
    for told in patient.await.map_err(|error| error.to_string())? {
        tally.count(shards, Some(told));
    }
    if "sessions::half_open".contains(&cli.only) {
        let outcome = half_open.await.map_err(|error| error.to_string())?;
        tally.count(shards, Some(("sessions::half_open", Duration::ZERO, outcome)));
    } else {
        half_open.abort();
    }
    if cli.only.is_empty() {
        tally.count(shards, Some(("crossing", Duration::ZERO, crossed)));
    }
    for site in [wide, tight] {
        tally.count(shards, Some(("stop", Duration::ZERO, suite::crowd::stop(&site).await)));
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

impl Tally {
    fn count(&mut self, shards: u16, told: Option<Told>) {
        let Some((name, took, outcome)) = told else { return };
        let ms = took.as_millis();
        match outcome {
            Ok(what) => {
                self.passed += 1;
                println!("ok      {shards} shards, {name} ({ms} ms) {what}");
            }
            Err(what) => {
                self.failed += 1;
                println!("FAILED  {shards} shards, {name} ({ms} ms): {what}");
            }
        }
    }
}
