//! The run as a whole: a server, workers as child processes, a progress line, and the sum of what they measured.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::audit;
use crate::clock::now_ns;
use crate::figures::Figures;
use crate::notices;
use crate::observe::{self, Moment, Spent};
use crate::report::{Host, Report, Second};
use crate::scenario::{Kind, Scenario, Storm};
use crate::server::Server;
use crate::worker::{Said, Share, Target, Word};

/// Where the load goes.
pub(crate) enum Place {
    /// A server of our own, started for the run: its binary, and where its data directory is made.
    Spawn {
        /// The program.
        bin: PathBuf,
        /// The directory.
        dir: PathBuf,
    },
    /// A server that runs somewhere.
    Remote {
        /// Where, and who may speak to it.
        target: Target,
        /// Its private listener, if that can be reached from here.
        admin: Option<SocketAddr>,
        /// What that listener wants to be shown; empty = nothing is asked of it that wants it.
        admin_key: String,
    },
}

/// Everything but the scenario.
pub(crate) struct Setup {
    /// Where the load goes.
    pub(crate) place: Place,
    /// Worker processes; 0 = as many as the descriptor limit demands.
    pub(crate) workers: u32,
    /// How this program starts itself as a worker.
    pub(crate) worker_command: Vec<String>,
    /// Of all chance.
    pub(crate) seed: u64,
    /// Kill the server at the end and read everything back.
    pub(crate) audit: bool,
}

/// Descriptors of a worker that are not connections.
const SPARE_FILES: u64 = 200;
/// Connections of one source address: what the ephemeral ports of a host allow, with room for those that are still closing.
const PER_SOURCE: u32 = 20_000;
/// Longest time in which everybody connects and logs in.
const PATIENCE: Duration = Duration::from_secs(300);
/// Shortest time over which a rate is told.
const SECOND_LEAST_NS: u64 = 500_000_000;
/// From the word to begin until the first message.
const RUN_UP_NS: u64 = 200_000_000;

struct Crew {
    workers: Vec<(Child, ChildStdin)>,
    said: Receiver<(usize, Said)>,
    latest: Vec<Figures>,
    done: Vec<bool>,
}

impl Crew {
    fn start(command: &[String], shares: &[Share]) -> Result<Crew, String> {
        let (to, said) = channel();
        let mut workers = Vec::new();
        for (number, share) in shares.iter().enumerate() {
            let mut child = Command::new(&command[0])
                .args(&command[1..])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| format!("{}: {error}", command[0]))?;
            let mut input = child.stdin.take().expect("it was asked for");
            let line = serde_json::to_string(share).expect("a share is JSON");
            writeln!(input, "{line}").map_err(|error| format!("worker {number}: {error}"))?;
            let output = child.stdout.take().expect("it was asked for");
            hear(number, output, to.clone());
            workers.push((child, input));
        }
        let count = workers.len();
        Ok(Crew { workers, said, latest: vec![Figures::default(); count], done: vec![false; count] })
    }

    fn tell(&mut self, word: Word) {
        let line = serde_json::to_string(&word).expect("a word is JSON");
        for (_, input) in &mut self.workers {
            // One that is gone has said so, or will.
            let _ = writeln!(input, "{line}");
        }
    }

    fn sum(&self) -> Figures {
        let mut sum = Figures::default();
        self.latest.iter().for_each(|figures| sum.add(figures));
        sum
    }

    /// Takes what workers say for `time`. Returns how many have become ready meanwhile.
    fn listen(&mut self, time: Duration) -> Result<usize, String> {
        let until = Instant::now() + time;
        let mut ready = 0;
        loop {
            match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((worker, Said::Progress(figures))) => self.latest[worker] = figures,
                Ok((worker, Said::Ready(figures))) => {
                    self.latest[worker] = figures;
                    ready += 1;
                }
                Ok((worker, Said::Done(figures))) => {
                    self.latest[worker] = figures;
                    self.done[worker] = true;
                    if self.done.iter().all(|&done| done) {
                        return Ok(ready);
                    }
                }
                Ok((worker, Said::Failed(error))) => return Err(format!("worker {worker}: {error}")),
                Err(RecvTimeoutError::Timeout) => return Ok(ready),
                Err(RecvTimeoutError::Disconnected) => return Err("the workers have ended".into()),
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (child, _) in &mut self.workers {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn hear(worker: usize, output: impl std::io::Read + Send + 'static, to: Sender<(usize, Said)>) {
    std::thread::spawn(move || {
        let mut ended = false;
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            let said = match serde_json::from_str(&line) {
                Ok(said) => said,
                Err(error) => Said::Failed(format!("said something else than figures: {error}")),
            };
            ended |= matches!(said, Said::Done(_) | Said::Failed(_));
            if to.send((worker, said)).is_err() {
                return;
            }
        }
        if !ended {
            let _ = to.send((worker, Said::Failed("ended without a word".into())));
        }
    });
}

fn nofile() -> u64 {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limits.maximum.or(limits.current).unwrap_or(1 << 20)
}

/// Raises the soft limit of descriptors to the hard one; children inherit it.
fn raise_nofile() {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limits.maximum, maximum: limits.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// Runs a scenario and returns what was measured. Progress goes to standard error.
///
/// # Errors
/// In words, when nothing could be measured.
pub(crate) fn run(scenario: &Scenario, setup: &Setup, command_line: String) -> Result<Report, String> {
    raise_nofile();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| error.to_string())?;
    }
    let cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    let (server_cores, worker_cores) = match (&setup.place, cores.as_slice()) {
        // The server gets as many cores as it has shards, and the generator what is left.
        (Place::Spawn { .. }, [_, _, ..]) => {
            cores.split_at(usize::from(scenario.shards).clamp(1, cores.len() - 1))
        }
        _ => (&[][..], cores.as_slice()),
    };
    let mut server = match &setup.place {
        Place::Remote { .. } => None,
        Place::Spawn { bin, dir } => Some(spawn(bin, dir, scenario, server_cores)?),
    };
    let most = nofile().saturating_sub(SPARE_FILES).clamp(1, 1 << 20) as u32;
    let workers = setup.workers.max(scenario.connections.div_ceil(most)).min(scenario.connections);
    let target = match (&setup.place, &server) {
        (Place::Remote { target, .. }, _) => target.clone(),
        (Place::Spawn { .. }, Some(server)) => Target {
            address: server.address,
            inbox: server.inbox.clone(),
            tickets: match scenario.kind {
                Kind::Chat => {
                    // A worker's share is rounded up.
                    server.tickets((scenario.agents() + workers).div_ceil(scenario.sessions_per_agent()))?
                }
                Kind::Idle | Kind::Echo => Vec::new(),
            },
            shards: Some(scenario.shards),
        },
        (Place::Spawn { .. }, None) => unreachable!("it was spawned above"),
    };
    let mut pid = server.as_ref().map(Server::pid);
    let admin = match &setup.place {
        Place::Remote { admin, .. } => *admin,
        Place::Spawn { .. } => server.as_ref().map(|server| server.admin),
    };

    // A remote host sees one address; on loopback each 20,000 connections get another.
    let sources: Vec<Ipv4Addr> = match target.address.ip().is_loopback() && scenario.connections > PER_SOURCE
    {
        true => (0..scenario.connections.div_ceil(PER_SOURCE))
            .map(|at| Ipv4Addr::new(127, 0, 0, 2 + at as u8))
            .collect(),
        false => Vec::new(),
    };
    let shares: Vec<Share> = (0..workers)
        .map(|worker| Share {
            scenario: scenario.clone(),
            target: target.clone(),
            worker,
            workers,
            core: (!worker_cores.is_empty()).then(|| worker_cores[worker as usize % worker_cores.len()]),
            sources: sources.clone(),
            seed: setup.seed,
        })
        .collect();
    let mut crew = Crew::start(&setup.worker_command, &shares)?;

    let began = Instant::now();
    let mut ready = 0;
    while ready < workers as usize {
        ready += crew.listen(Duration::from_millis(500))?;
        eprintln!(
            "{:>4} s  connecting: {} of {}",
            began.elapsed().as_secs(),
            crew.sum().counts.connected,
            scenario.connections
        );
        if stop.load(Ordering::Relaxed) {
            return Err("stopped before everybody was connected".into());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("not everybody was connected within {} s", PATIENCE.as_secs()));
        }
    }
    let connected_in = began.elapsed();

    let start_ns = now_ns() + RUN_UP_NS;
    crew.tell(Word::Go(start_ns));
    let measured_ns = start_ns + scenario.warm_up.as_nanos() as u64;
    let end_ns = measured_ns + scenario.duration.as_nanos() as u64;
    let storm_ns = measured_ns + scenario.storm_after().as_nanos() as u64;
    let mut restart = scenario.storm == Some(Storm::Restart);
    let key = match (&setup.place, &server) {
        (Place::Remote { admin_key, .. }, _) => admin_key.clone(),
        (Place::Spawn { .. }, Some(server)) => server.admin_key()?,
        (Place::Spawn { .. }, None) => String::new(),
    };
    let notices = admin
        .filter(|_| scenario.notices > 0.0)
        .map(|admin| notices::post(scenario, admin, &key, start_ns, Arc::clone(&stop)));
    let mut ready_after_ms = None;
    let mut seconds = Vec::new();
    let (mut from, mut before): (Option<(Moment, Figures)>, Figures) = (None, crew.sum());
    let mut last = observe::look(pid, None);
    let mut to = None;
    let mut spent_from_ns = measured_ns;
    while !crew.done.iter().all(|&done| done) {
        crew.listen(Duration::from_secs(1))?;
        if let Some(server) = server.as_mut().filter(|_| restart && now_ns() >= storm_ns) {
            eprintln!("kill -9, and start again");
            ready_after_ms = Some(server.kill_and_restart()?.as_millis() as u64);
            restart = false;
            pid = Some(server.pid());
            // Its counters begin again.
            (from, last) = (None, observe::look(pid, None));
            spent_from_ns = now_ns();
        }
        let (now, sum) = (observe::look(pid, None), crew.sum());
        // A part of a second, as at the end, would look like a spike.
        if now.at_ns.saturating_sub(last.at_ns) >= SECOND_LEAST_NS {
            let second = Second::between(&last, &now, &before, &sum, start_ns);
            eprintln!("{}", second.line(&sum));
            seconds.push(second);
            (last, before) = (now, sum);
        }
        if from.is_none() && now_ns() >= spent_from_ns {
            from = Some((observe::look(pid, admin), crew.sum()));
        }
        if to.is_none() && now_ns() + 500_000_000 >= end_ns {
            to = Some((observe::look(pid, admin), crew.sum()));
        }
        if stop.load(Ordering::Relaxed) {
            to.get_or_insert_with(|| (observe::look(pid, admin), crew.sum()));
            crew.tell(Word::Stop);
        }
        if now_ns() > end_ns + 30_000_000_000 {
            return Err("the workers do not end".into());
        }
    }
    let mut figures = crew.sum();
    match notices.map(JoinHandle::join) {
        Some(Ok(Err(error))) => figures.error(error),
        Some(Err(_)) => figures.error("the thread that posts notices panicked".into()),
        Some(Ok(Ok(_))) | None => {}
    }
    let acknowledged = core::mem::take(&mut figures.acknowledged);
    let spent = match (from, to) {
        (Some((from, first)), Some((to, last))) => {
            let messages = last.counts.since(&first.counts);
            let messages = messages.sent.max(messages.heartbeats).max(messages.noticed);
            Some(Spent::between(&from, &to, messages))
        }
        _ => None,
    };
    // The server is killed under the load's own connections, as it would be.
    let audit = match &mut server {
        Some(server) if setup.audit => {
            eprintln!("kill -9, start again, read back {} conversations", acknowledged.len());
            let ready = server.kill_and_restart()?;
            Some(audit::read_back(
                server.address,
                &server.ticket()?,
                &acknowledged,
                ready.as_millis() as u64,
            )?)
        }
        _ => None,
    };
    drop(crew);
    Ok(Report {
        audit,
        command_line,
        scenario: scenario.clone(),
        workers,
        stopped_early: stop.load(Ordering::Relaxed),
        ready_after_ms,
        connected_in_ms: connected_in.as_millis() as u64,
        figures,
        seconds,
        spent,
        host: Host::look(match &setup.place {
            Place::Spawn { bin, .. } => Some((bin, scenario.shards)),
            Place::Remote { .. } => None,
        }),
        server: server.map_or_else(|| target.address.to_string(), |_| "started for this run".into()),
    })
}

fn spawn(bin: &Path, dir: &Path, scenario: &Scenario, cores: &[usize]) -> Result<Server, String> {
    Server::start_on(bin, dir, scenario.shards, &scenario.durability, &["--echo-path", "/echo"], cores)
}
