use super::*;
use crate::config::Layer;
use crate::scratch::Scratch;
use crate::small_journal::SmallJournal;

/// What a life needs, beside no shards at all.
async fn shared(scratch: &Scratch, journals: Vec<Journal>, counts: &Arc<Counts>) -> Arc<Shared> {
    let config = Config::load(None, std::iter::empty(), Layer::default()).unwrap();
    let store = Store::open(&scratch.0).await.unwrap();
    store.first_start(0, 5, |_| Ok(())).await.unwrap();
    let settings = store.known().await.unwrap().with(&config, None);
    store.close().await;
    Arc::new(Shared {
        ports: Ports::new(Vec::new(), &[], 1, ReportBell::new().unwrap(), Default::default()),
        settings: Arc::new(Current::new(Arc::new(settings))),
        config: RwLock::new(Arc::new(config)),
        settings_file: SettingsFile::new(&scratch.0),
        data_dir: scratch.0.clone(),
        journals,
        echo_path: None,
        admin: bind_admin("127.0.0.1:0".parse().unwrap()).unwrap(),
        admin_key: AdminKey::open(&scratch.0).unwrap(),
        counts: Arc::clone(counts),
        progress: Arc::default(),
        stage: watch::Sender::new(Stage::Running),
        clock: Clock::system(),
        workers: 1,
        end: EndOfLife::default(),
    })
}

#[test]
fn a_panic_of_the_followers_task_starts_the_next_life() {
    let scratch = Scratch::new();
    let counts = Arc::new(Counts::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A journal of a shard that has no port: what drives its follower cannot even begin.
    let journal = SmallJournal::new(&scratch.0, 0, 1).journal;
    let broken = runtime.block_on(shared(&scratch, vec![journal], &counts));
    let sound = runtime.block_on(shared(&scratch, Vec::new(), &counts));
    let mut lives = Vec::new();
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn({
        let counts = Arc::clone(&counts);
        move || {
            supervise(&counts, || {
                lives.push(());
                life(if lives.len() == 1 { &broken } else { &sound })
            });
            let _ = ended.send(lives.len());
        }
    });
    let lives =
        end.recv_timeout(Duration::from_secs(60)).expect("a life whose followers are gone does not live on");
    assert_eq!(
        (lives, counts.lives.load(Ordering::Relaxed), counts.panics.load(Ordering::Relaxed)),
        (2, 2, 1)
    );
}
