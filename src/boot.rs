//! From arguments to a running server and back: plan cores → settings → shards → control plane → signals → stop in reverse.

mod announce;
mod layout;
mod stop;

pub(crate) use layout::Layout;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, RwLock};

use edge::node::{Running, Start, StartError};
use journal::Level;
use tokio::sync::{oneshot, watch};

use crate::cli::{EchoArgs, Overrides, ServeArgs};
use crate::clock::Clock;
use crate::config::{Config, Durability, Sync};
use crate::control::{self, AdminKey, Counts, Current, Ports, Shared, Stage};
use crate::exit::Exit;
use crate::followers::{Journal, Progress};
use crate::store::{Known, SettingsFile, Store, StoreError};
use crate::verbs::{complain, say, try_say};
use desk::settings::Settings;

/// A message on the echo path, unless a flag says otherwise: the product's own bound.
const ECHO_MESSAGE: u32 = 65_536;
/// Fragments of a message on the echo path, unless a flag says otherwise: the product's own bound.
const ECHO_FRAGMENTS: u16 = 1_024;

/// `ringdesk serve`
pub(crate) fn serve(args: ServeArgs) -> Exit {
    let ServeArgs { overrides, echo } = args;
    let config = match overrides.clone().load() {
        Ok(config) => config,
        Err(complaints) => {
            complain(complaints);
            return Exit::Config;
        }
    };
    crate::log::start(config.log.level, config.log.format);
    // Whatever is made from here on is readable by this user alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match run(config, overrides, echo) {
        Ok(exit) => exit,
        Err(refusal) => {
            complain(&refusal.cause);
            refusal.exit
        }
    }
}

/// Why the server does not start.
struct Refusal {
    cause: String,
    exit: Exit,
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        let exit = if matches!(error, StoreError::Untold(_)) { Exit::Failed } else { Exit::Store };
        Refusal { cause: error.to_string(), exit }
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Refusal {
        Refusal { cause: error.to_string(), exit: Exit::Edge(error.exit_status()) }
    }
}

fn run(config: Config, overrides: Overrides, echo: EchoArgs) -> Result<Exit, Refusal> {
    let clock = Clock::system();
    let layout = Layout::of(&config)
        .map_err(|error| Refusal { cause: error.to_string(), exit: Exit::Edge(edge::exit::PLAN) })?;
    layout.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    // Nobody else may be at work where we are going to write; of two servers the second is told that, and not that a port is taken.
    let data_dir = &config.storage.data_dir;
    let lock = if data_dir.is_dir() { Some(edge::node::lock(data_dir)?) } else { None };
    // Told before anything is made: what cannot be bound has no use for a data directory.
    let admin = control::bind_admin(config.server.admin_listen).map_err(|error| Refusal {
        cause: format!(
            "cannot listen on {} [server.admin_listen]: {error}; give another --admin-listen",
            config.server.admin_listen
        ),
        exit: Exit::Edge(edge::exit::LISTEN),
    })?;
    let lock = match lock {
        Some(lock) => lock,
        None => {
            make_data_dir(data_dir)?;
            edge::node::lock(data_dir)?
        }
    };
    let mut told = false;
    let settings = settings(&config, &clock, &mut told).map_err(|error| {
        let mut refusal = Refusal::from(error);
        if told {
            refusal.cause.push_str("\nthe login above holds unless the next start tells another one");
        }
        refusal
    })?;
    let admin_key = AdminKey::open(&config.storage.data_dir)?;
    let settings = Arc::new(settings);
    let running = start_shards(&config, &layout, &echo, &settings, lock)?;
    supervise(Parts { config, overrides, layout, echo, clock, admin, admin_key, settings, running })
}

fn make_data_dir(path: &Path) -> Result<(), Refusal> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| Refusal {
        cause: format!(
            "{}: {error}; the data directory must be one, and be writable: give another --data-dir",
            path.display()
        ),
        exit: Exit::Edge(edge::exit::DISK),
    })
}

/// The settings to start with: the durable copy with the configuration laid over it; at the first start, or when the copy is gone, from control.db. At the
/// first start the login is told, and `told` says so even if something fails then.
fn settings(config: &Config, clock: &Clock, told: &mut bool) -> Result<Settings, StoreError> {
    let data_dir = &config.storage.data_dir;
    let file = SettingsFile::new(data_dir);
    let last = file.read()?;
    let settings = match &last {
        Some(last) => Known::of(last).with(config, Some(last)),
        None => on_a_runtime(async {
            let store = Store::open(data_dir).await?;
            let tell = |login: &_| try_say(&announce::login(login)).inspect(|()| *told = true);
            store.first_start(clock.wall_ms(), config.routing.capacity, tell).await?;
            let mut settings = store.known().await?.with(config, None);
            settings.version += store.settings_version().await?;
            store.keep_settings_version(settings.version).await?;
            store.close().await;
            Ok(settings)
        })?,
    };
    if last.as_ref() != Some(&settings) {
        file.write(&settings)?;
    }
    Ok(settings)
}

/// Runs something short on a runtime of its own.
pub(crate) fn on_a_runtime<T>(future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| StoreError::File("a runtime".into(), error))?;
    runtime.block_on(future)
}

fn start_shards(
    config: &Config,
    layout: &Layout,
    echo: &EchoArgs,
    settings: &Arc<Settings>,
    lock: edge::disk::Lock,
) -> Result<Running, StartError> {
    use edge::disk::{Choice, Strategy};
    let tuning = edge::node::Tuning { table: layout.table, ..Default::default() };
    let start = Start {
        data_dir: config.storage.data_dir.clone(),
        lock: Some(Arc::new(lock)),
        listen: config.server.listen,
        cores: layout.plan.shard_cpus.iter().map(|&cpu| Some(usize::from(cpu))).collect(),
        config: edge::node::Config {
            shard: 0,
            shard_count: layout.plan.shard_cpus.len() as u16,
            site: settings.site,
            epoch: 0,
            seed: [0; 32],
            mailbox_size: tuning.mailbox,
            hot_bytes_max: layout.hot_bytes_per_shard,
            session_count_max: layout.sessions_per_shard,
            segment_count_max: layout.segments_per_shard,
            echo_path: echo.echo_path.clone(),
            echo_message_size_max: echo.echo_max_message.unwrap_or(ECHO_MESSAGE),
            echo_fragment_count_max: echo.echo_max_fragments.unwrap_or(ECHO_FRAGMENTS),
            server: concat!("ringdesk/", env!("CARGO_PKG_VERSION")).to_owned(),
        },
        level: match config.storage.durability {
            Durability::Disk => Level::Disk,
            Durability::Memory => Level::Memory,
        },
        segment_size: config.storage.segment_mb.bytes() as u32,
        disk: match config.storage.sync {
            Sync::Auto => Choice::Measured,
            Sync::Direct => Choice::Fixed(Strategy::Overwrite),
            Sync::Buffered => Choice::Fixed(Strategy::WriteThenFlush),
        },
        tuning,
    };
    let settings = Arc::clone(settings);
    edge::node::start(start, move |config| edge::node::Builder::new(config, Arc::clone(&settings)))
}

/// Everything the running server is made of.
struct Parts {
    config: Config,
    overrides: Overrides,
    layout: Layout,
    echo: EchoArgs,
    clock: Clock,
    admin: std::net::TcpListener,
    admin_key: AdminKey,
    settings: Arc<Settings>,
    running: Running,
}

/// Starts the control plane, tells where everything is, waits for signals, stops in reverse.
fn supervise(parts: Parts) -> Result<Exit, Refusal> {
    let Parts { config, overrides, layout, echo, clock, admin, admin_key, settings, mut running } = parts;
    for boot in &running.boots {
        announce::recovered(boot);
    }
    say(&announce::addresses(&config, &layout, &settings, running.listen, admin.local_addr().ok()));
    let journals = running.boots.iter().map(|boot| Journal {
        shard: boot.shard,
        directory: boot.directory.clone(),
        superblock: boot.superblock.clone(),
    });
    let ends: Vec<journal::LogOffset> = running.boots.iter().map(|boot| boot.recovered.end).collect();
    let ports = std::mem::take(&mut running.ports);
    let ports = Ports::new(ports, &ends, settings.version, running.bell.clone(), running.hand_overs.clone());
    let shared = Arc::new(Shared {
        ports,
        settings: Arc::new(Current::new(settings)),
        settings_file: SettingsFile::new(&config.storage.data_dir),
        data_dir: config.storage.data_dir.clone(),
        journals: journals.collect(),
        echo_path: echo.echo_path.as_deref().map(Arc::from),
        admin,
        admin_key,
        counts: Arc::new(Counts::default()),
        progress: Arc::new(Progress::default()),
        stage: watch::Sender::new(Stage::Running),
        clock,
        workers: layout.plan.control_cpus.len().min(2),
        config: RwLock::new(Arc::new(config)),
        end: Default::default(),
    });
    let ended = start_control(&shared, layout.plan.control_cpus);
    let signal = stop::wait(&shared, &overrides);
    let exit = signal.and_then(|signal| stop::stop(&shared, ended, running, signal));
    exit.map_err(|error| Refusal {
        cause: format!("signals cannot be waited for: {error}"),
        exit: Exit::Failed,
    })
}

/// The control plane's own thread, on the cores that are left; its runtimes inherit them.
fn start_control(shared: &Arc<Shared>, cpus: Vec<u16>) -> oneshot::Receiver<()> {
    let (tell, ended) = oneshot::channel();
    let shared = Arc::clone(shared);
    let run = move || {
        let mut set = rustix::thread::CpuSet::new();
        cpus.iter().for_each(|&cpu| set.set(usize::from(cpu)));
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            log::warn!("the control plane stays on any core: {error}");
        }
        control::supervise(&shared.counts, || control::life(&shared));
        let _ = tell.send(());
    };
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(run)
        .expect("the system has a thread for us");
    ended
}
