use std::os::unix::fs::PermissionsExt as _;

use desk::settings::{Role, Settings};

use super::known::limits;
use super::*;
use crate::config::{Config, Layer};
use crate::password;
use crate::scratch::Scratch;

fn config() -> Config {
    Config::load(None, std::iter::empty(), Layer::default()).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn the_first_start_makes_a_site_an_inbox_a_key_and_somebody_who_may_log_in() {
    let scratch = Scratch::new();
    run(async {
        let store = Store::open(&scratch.0).await.unwrap();
        let login = store.first_start(1_000, 7, |_| Ok(())).await.unwrap().unwrap();
        let account = store.account("AGENT@localhost").await.unwrap().unwrap();
        assert!(password::verify(&login.password, Some(&account.password)));
        assert_eq!((account.name.as_str(), account.session_epoch), ("Agent", 0));
        let settings = store.known().await.unwrap().with(&config(), None);
        assert_eq!(settings.check(), Ok(()));
        assert_eq!((settings.keys.len(), settings.inboxes.len(), settings.agents.len()), (1, 1, 1));
        assert_eq!((settings.agents[0].id, settings.agents[0].capacity), (account.id, 7));
        store.close().await;

        // The second start makes nothing, whatever process does it.
        let store = Store::open(&scratch.0).await.unwrap();
        assert!(store.first_start(2_000, 7, |_| Ok(())).await.unwrap().is_none());
        assert_eq!(store.known().await.unwrap().with(&config(), None), settings);
    });
}

#[test]
fn no_account_is_left_whose_password_nobody_was_told() {
    let scratch = Scratch::new();
    run(async {
        let store = Store::open(&scratch.0).await.unwrap();
        let refused = store.first_start(1_000, 7, |_| Err(std::io::Error::other("the screen is full"))).await;
        assert!(matches!(refused, Err(StoreError::Untold(_))));
        assert_eq!(store.account("agent@localhost").await.unwrap(), None);

        // While it is being told, nobody else sees anything of it: a power cut here leaves nothing behind.
        let folder = scratch.0.clone();
        let seen_meanwhile = move || {
            run(async {
                Store::open_existing(&folder).await.unwrap().account("agent@localhost").await.unwrap()
            })
        };
        let mut told = String::new();
        let login = store
            .first_start(2_000, 7, |login| {
                told.clone_from(&login.password);
                assert_eq!(std::thread::spawn(seen_meanwhile).join().unwrap(), None);
                Ok(())
            })
            .await;
        assert_eq!(login.unwrap().unwrap().password, told);
        let account = store.account("agent@localhost").await.unwrap().unwrap();
        assert!(password::verify(&told, Some(&account.password)));
    });
}

#[test]
fn two_installations_have_nothing_in_common() {
    let (one, two) = (Scratch::new(), Scratch::new());
    let of = |scratch: &Scratch| {
        run(async {
            let store = Store::open(&scratch.0).await.unwrap();
            let login = store.first_start(1_000, 7, |_| Ok(())).await.unwrap().unwrap();
            (login.password, store.known().await.unwrap().with(&config(), None))
        })
    };
    let ((a_password, a), (b_password, b)) = (of(&one), of(&two));
    assert_ne!(a_password, b_password);
    assert!(a.site != b.site && a.keys[0].secret != b.keys[0].secret);
    assert!(a.inboxes[0].id != b.inboxes[0].id && a.agents[0].id != b.agents[0].id);
}

#[test]
fn settings_come_back_from_their_copy_and_the_version_rises_only_with_a_change() {
    let scratch = Scratch::new();
    let file = SettingsFile::new(&scratch.0);
    assert_eq!(file.read().unwrap(), None);
    run(async {
        let store = Store::open(&scratch.0).await.unwrap();
        store.first_start(1_000, 7, |_| Ok(())).await.unwrap();
        let first = store.known().await.unwrap().with(&config(), None);
        file.write(&first).unwrap();
        assert_eq!(file.read().unwrap(), Some(first.clone()));
        let mode = std::fs::metadata(scratch.0.join("settings.bin")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        assert_eq!(store.known().await.unwrap().with(&config(), Some(&first)).version, first.version);
        let mut changed = config();
        changed.session.heartbeat_ms.0 = 31_000;
        let second = store.known().await.unwrap().with(&changed, Some(&first));
        assert_eq!((second.version, second.limits.heartbeat_ms), (first.version + 1, 31_000));
        // Without the database the configuration still lays over what the copy knows.
        assert_eq!(Known::of(&first).with(&changed, Some(&first)), second);
    });
}

#[test]
fn a_damaged_copy_is_not_taken() {
    let scratch = Scratch::new();
    let file = SettingsFile::new(&scratch.0);
    run(async {
        let store = Store::open(&scratch.0).await.unwrap();
        store.first_start(1_000, 7, |_| Ok(())).await.unwrap();
        file.write(&store.known().await.unwrap().with(&config(), None)).unwrap();
    });
    let path = scratch.0.join("settings.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(file.read().unwrap(), None);
}

#[test]
fn a_new_password_ends_sessions_and_is_seen_as_a_change() {
    let scratch = Scratch::new();
    run(async {
        let store = Store::open(&scratch.0).await.unwrap();
        store.first_start(1_000, 7, |_| Ok(())).await.unwrap();
        let before = store.changes().await.unwrap();
        let hash = password::hash("another password").unwrap();
        assert!(store.set_password("agent@localhost", &hash).await.unwrap());
        assert!(!store.set_password("nobody@localhost", &hash).await.unwrap());
        let account = store.account("agent@localhost").await.unwrap().unwrap();
        assert_eq!((account.session_epoch, account.password == hash), (1, true));
        assert!(store.changes().await.unwrap() > before);
    });
}

#[test]
fn an_agent_is_added_once_and_is_seen_as_a_change() {
    let scratch = Scratch::new();
    run(async {
        let store = Store::open(&scratch.0).await.unwrap();
        let new = NewAgent {
            email: "Li@example.com",
            name: "李雷",
            role: Role::Agent,
            password: "hash",
            capacity: 500,
        };
        assert!(matches!(store.add_agent(&new, 1_000).await, Err(StoreError::Row("no site"))));
        store.first_start(1_000, 7, |_| Ok(())).await.unwrap();
        let before = store.changes().await.unwrap();
        assert!(store.add_agent(&new, 2_000).await.unwrap());
        assert!(store.changes().await.unwrap() > before);
        assert!(!store.add_agent(&NewAgent { email: "li@EXAMPLE.com", ..new }, 3_000).await.unwrap());
        let account = store.account("li@example.com").await.unwrap().unwrap();
        assert_eq!((account.name.as_str(), account.role, account.session_epoch), ("李雷", Role::Agent, 0));
        let agents = store.known().await.unwrap().with(&config(), None).agents;
        assert_eq!((agents.len(), agents[1].capacity, agents[1].enabled), (2, 500, true));
        let slots: Vec<_> = agents.iter().map(|agent| agent.id.slot()).collect();
        assert_eq!(slots[0], slots[1], "all have the slot of their site");
    });
}

#[test]
fn cursors_are_kept_with_all_their_bits() {
    let scratch = Scratch::new();
    run(async {
        let store = Store::open(&scratch.0).await.unwrap();
        assert_eq!(store.cursor("count", 0).await.unwrap(), None);
        let cursor = Cursor { generation: 3, place: u64::MAX - 1, records: 1 << 63, bytes: 9 };
        store.keep_cursors("count", &[(0, cursor), (1, Cursor::default())]).await.unwrap();
        store.keep_cursors("count", &[(0, Cursor { records: 5, ..cursor })]).await.unwrap();
        assert_eq!(store.cursor("count", 0).await.unwrap(), Some(Cursor { records: 5, ..cursor }));
        assert_eq!(store.cursor("count", 1).await.unwrap(), Some(Cursor::default()));
        assert_eq!(store.cursor("other", 0).await.unwrap(), None);
    });
}

#[test]
fn the_version_outlives_its_copy_and_never_falls() {
    let scratch = Scratch::new();
    run(async {
        let store = Store::open(&scratch.0).await.unwrap();
        store.keep_settings_version(9).await.unwrap();
        store.keep_settings_version(4).await.unwrap();
        assert_eq!(store.settings_version().await.unwrap(), 9);
    });
}

#[test]
fn a_database_of_another_version_is_refused_with_a_next_step() {
    let scratch = Scratch::new();
    run(async {
        let store = Store::open(&scratch.0).await.unwrap();
        sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9, 'later', 1, x'00', 0)")
            .execute(&store.pool)
            .await
            .unwrap();
        store.close().await;
        let told = Store::open(&scratch.0).await.unwrap_err().to_string();
        assert!(told.contains("another version of ringdesk"), "{told}");
    });
}

#[test]
fn a_file_that_is_no_database_is_told() {
    let scratch = Scratch::new();
    std::fs::write(scratch.0.join("control.db"), vec![7u8; 8_192]).unwrap();
    let told = run(Store::open(&scratch.0)).unwrap_err().to_string();
    assert!(told.contains("control.db") && told.contains("not a database"), "{told}");
}

#[test]
fn limits_of_the_configuration_are_those_of_the_desk() {
    // The same defaults and bounds stand in both lists; this keeps them the same.
    assert_eq!(limits(&config()), desk::settings::Limits::default());
    for setting in
        crate::config::SETTINGS.iter().filter(|s| s.hot && s.bounds.is_some() && s.section != "security")
    {
        let (low, high) = setting.bounds.clone().unwrap();
        for value in [low, high] {
            let mut flags = Layer::default();
            flag(&mut flags, setting.section, setting.key, value);
            let config = Config::load(None, std::iter::empty(), flags).unwrap();
            assert_eq!(limits(&config).check(), Ok(()), "{}.{}", setting.section, setting.key);
        }
    }
}

fn flag(layer: &mut Layer, section: &'static str, key: &'static str, value: String) {
    layer.flag("--test", section, key, Some(value));
}

#[test]
fn secrets_do_not_show() {
    let scratch = Scratch::new();
    let settings: Settings = run(async {
        let store = Store::open(&scratch.0).await.unwrap();
        store.first_start(1_000, 7, |_| Ok(())).await.unwrap();
        store.known().await.unwrap().with(&config(), None)
    });
    assert!(format!("{settings:?}").contains("redacted"));
}
