use super::*;
use crate::id::{Entropy, Slot};

fn settings() -> Settings {
    let mut entropy = Entropy::new([3; 32]);
    let slot = Slot::new(9).unwrap();
    Settings {
        version: 41,
        site: SiteId::mint(slot, &mut entropy),
        keys: vec![SigningKey { id: 2, secret: [7; 32] }, SigningKey { id: 1, secret: [9; 32] }],
        inboxes: vec![
            Inbox {
                id: InboxId::mint(slot, &mut entropy),
                name: "店铺".into(),
                origins: vec!["https://shop.example".into(), "http://127.0.0.1:8080".into()],
                enabled: true,
            },
            Inbox {
                id: InboxId::mint(slot, &mut entropy),
                name: String::new(),
                origins: vec![],
                enabled: false,
            },
        ],
        agents: vec![Agent {
            id: AgentId::mint(slot, &mut entropy),
            name: "Ada".into(),
            role: Role::Admin,
            session_epoch: 5,
            capacity: 4,
            enabled: true,
        }],
        limits: Limits { heartbeat_ms: 30_000, ..Limits::default() },
    }
}

#[test]
fn settings_read_back_as_they_were_written() {
    let settings = settings();
    assert_eq!(Settings::decode(&settings.encode()), Ok(settings));
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_durable_copy_is_noticed() {
    let whole = settings().encode();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Settings::decode(&damaged).is_err(), "bit {bit}");
    }
    for length in 0..whole.len() {
        assert!(Settings::decode(&whole[..length]).is_err(), "length {length}");
    }
    let mut longer = whole;
    longer.push(0);
    assert_eq!(Settings::decode(&longer), Err(SettingsError::Length));
}

#[test]
fn a_copy_of_another_format_says_so() {
    let mut bytes = settings().encode();
    bytes[4] = 2;
    assert_eq!(Settings::decode(&bytes), Err(SettingsError::Format(2)));
    assert_eq!(Settings::decode(&[0; 64]), Err(SettingsError::Magic));
}

/// Changing this number is changing the format: give it a new number and keep reading the old one.
#[test]
fn the_durable_form_has_not_changed_its_bytes() {
    let bytes = settings().encode();
    assert_eq!((bytes.len(), xxhash_rust::xxh3::xxh3_64(&bytes)), (312, 5_641_295_745_267_878_777));
}

#[test]
fn the_defaults_are_within_their_bounds_and_each_bound_is_checked() {
    assert_eq!(Limits::default().check(), Ok(()));
    let slow = Limits { heartbeat_ms: 55_001, ..Limits::default() };
    assert_eq!(slow.check(), Err("limits.heartbeat_ms must be from 1_000 to 55_000"));
    let small = Limits { outbox_bytes: 65_535, ..Limits::default() };
    assert!(small.check().is_err());
}

#[test]
fn settings_that_contradict_themselves_are_named() {
    let mut twice = settings();
    twice.keys[1].id = 2;
    assert_eq!(twice.check(), Err("keys: two have the same id"));
    let mut none = settings();
    none.keys.clear();
    assert!(none.check().is_err());
    let mut agent = settings();
    agent.agents[0].capacity = 501;
    assert!(agent.check().is_err());
    let mut doubled = settings();
    doubled.agents.push(doubled.agents[0].clone());
    assert_eq!(doubled.check(), Err("agents: two have the same id"));
}

#[test]
fn an_inbox_and_an_agent_are_found_by_their_ids() {
    let settings = settings();
    assert_eq!(settings.inbox(settings.inboxes[1].id), Some(&settings.inboxes[1]));
    assert_eq!(settings.agent(settings.agents[0].id), Some(&settings.agents[0]));
    let stranger = AgentId::mint(Slot::new(1).unwrap(), &mut Entropy::new([8; 32]));
    assert_eq!(settings.agent(stranger), None);
}

#[test]
fn an_origin_passes_only_if_it_is_listed_exactly() {
    let settings = settings();
    let listed = &settings.inboxes[0];
    assert!(listed.allows_origin(Some("https://shop.example")));
    assert!(listed.allows_origin(Some("http://127.0.0.1:8080")));
    for trick in [
        "http://shop.example",
        "https://shop.example:8443",
        "https://shop.example/",
        "https://shop.example.evil.net",
        "https://evilshop.example",
        "https://www.shop.example",
        "https://SHOP.example",
        "shop.example",
        "null",
        "",
    ] {
        assert!(!listed.allows_origin(Some(trick)), "{trick}");
    }
    assert!(!listed.allows_origin(None));
    let open = &settings.inboxes[1];
    assert!(open.allows_origin(None) && open.allows_origin(Some("null")));
    let mut null = listed.clone();
    null.origins.push("null".into());
    assert!(null.allows_origin(Some("null")));
}

#[test]
fn a_key_never_shows_its_secret() {
    let shown = format!("{:?}", SigningKey { id: 7, secret: [0xAB; 32] });
    assert!(shown.contains('7') && shown.contains("redacted") && !shown.contains("171"), "{shown}");
}
