//! Keeps the shards' settings up to date: after a change of the configuration (SIGHUP), or of control.db by another process.

use std::sync::Arc;
use std::time::Duration;

use super::{Life, PAUSE};
use crate::store::{Known, Store, StoreError};

/// How often control.db is asked whether something changed. An agent whose sessions are ended is out within this, and a turn of his shard.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Opens control.db; tries until it can.
pub(super) async fn store(life: &Life) -> Store {
    let mut told = false;
    loop {
        if let Some(store) = life.store.get() {
            return store.clone();
        }
        match Store::open_existing(&life.data_dir).await {
            Ok(store) => return life.store.get_or_init(|| store).clone(),
            Err(error) => {
                if !told {
                    log::error!("{error}; logins and followers wait, chats go on");
                    told = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Runs for ever.
pub(super) async fn keep(life: Arc<Life>) {
    give(&life);
    let store = store(&life).await;
    let mut seen = None;
    loop {
        match store.changes().await {
            Ok(changes) if seen == Some(changes) => {}
            Ok(changes) => match refresh(&life, &store).await {
                Ok(()) => seen = Some(changes),
                Err(error) => log::error!("settings were not taken over: {error}; it is tried again"),
            },
            Err(error) => log::warn!("control.db cannot be asked for changes: {error}"),
        }
        give(&life);
        let reload = life.end.reload.notified();
        if tokio::time::timeout(LOOK_EVERY, reload).await.is_ok() {
            seen = None;
        }
    }
}

/// Takes over what control.db and the configuration say now, if it differs.
async fn refresh(life: &Arc<Life>, store: &Store) -> Result<(), StoreError> {
    let known: Known = store.known().await?;
    let last = life.settings.get();
    if known.site() != last.site {
        return Err(StoreError::Row("another site than the journals"));
    }
    let settings = Arc::new(known.with(&life.config(), Some(&last)));
    if settings.version == last.version {
        return Ok(());
    }
    // The durable copy first: shards never use what a restart would not bring back.
    let (file, copy) = (life.settings_file.clone(), Arc::clone(&settings));
    let written = tokio::task::spawn_blocking(move || file.write(&copy)).await;
    written.expect("writing a file does not panic")?;
    store.keep_settings_version(settings.version).await?;
    log::info!("settings {} are taken over", settings.version);
    life.settings.set(settings);
    Ok(())
}

/// Gives the settings in effect to the shards that do not have them; a full mailbox is tried again with the next look.
fn give(life: &Life) {
    if life.ports.give_settings(&life.settings.get()).is_err() {
        super::Counts::add(&life.counts.orders_refused);
    }
}
