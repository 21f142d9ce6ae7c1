use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::kind::Millis;
use super::*;

fn file(text: &str) -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let path = scratch.0.join("ringdesk.toml");
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    (scratch, path)
}

use crate::scratch::Scratch;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let (_scratch, path) = file(text);
    let environment = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Config::load(Some(&path), environment, Layer::default()).map_err(|complaints| {
        let folder = format!("{}/", path.parent().unwrap().display());
        complaints.0.iter().map(|complaint| complaint.to_string().replace(&folder, "")).collect()
    })
}

fn default() -> Config {
    Config::load(None, std::iter::empty(), Layer::default()).unwrap()
}

#[test]
fn without_a_file_every_setting_has_its_default() {
    let config = default();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.session.heartbeat_ms, Millis(25_000));
    assert_eq!(config.storage.segment_mb, Mib(64));
    assert_eq!(load("", &[]), Ok(config));
}

#[test]
fn the_file_that_init_writes_is_the_default_and_so_is_what_check_prints() {
    assert_eq!(load(&template(), &[]), Ok(default()));
    let uncommented: String = template()
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| l.contains(" = ")).unwrap_or(line))
        .fold(String::new(), |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        });
    assert_eq!(load(&uncommented, &[]), Ok(default()), "{uncommented}");
    assert_eq!(load(&effective(&default()), &[]), Ok(default()));
    let changed =
        load("[session]\nheartbeat_ms = \"31s\"\n[security]\norigins = [\"https://a.example\"]", &[])
            .unwrap();
    assert!(effective(&changed).contains("heartbeat_ms = 31000  # not the default"));
    assert_eq!(load(&effective(&changed), &[]), Ok(changed));
}

#[test]
fn times_and_sizes_take_units_or_their_own() {
    let config = load(
        "[session]\nheartbeat_ms = 1500\nresume_ttl_agent_ms = \"1h\"\n[storage]\nsegment_mb = \"1MiB\"\njournal_budget_mb = \"2GiB\"\n",
        &[("RINGDESK__SESSION__STUCK_MS", "1500ms"), ("RINGDESK__LIMITS__HOT_MB", "512")],
    )
    .unwrap();
    assert_eq!(config.session.heartbeat_ms, Millis(1_500));
    assert_eq!(
        (config.session.resume_ttl_agent_ms, config.session.stuck_ms),
        (Millis(3_600_000), Millis(1_500))
    );
    assert_eq!((config.storage.segment_mb.bytes(), config.storage.journal_budget_mb), (1 << 20, Mib(2_048)));
    assert_eq!(config.limits.hot_mb, Mib(512));
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let (_scratch, path) = file("[server]\nshards = 1\n");
    let environment = [("RINGDESK__SERVER__SHARDS".to_owned(), "2".to_owned())];
    let config = Config::load(Some(&path), environment.clone().into_iter(), Layer::default()).unwrap();
    assert_eq!(config.server.shards, 2);
    let mut flags = Layer::default();
    flags.flag("--shards", "server", "shards", Some("3".to_owned()));
    assert_eq!(Config::load(Some(&path), environment.into_iter(), flags).unwrap().server.shards, 3);
}

#[test]
fn every_mistake_names_line_key_and_bound_and_all_are_told() {
    let text = "# a comment\n[server]\nshards = 65\nlisten = 8080\nlisen = \"x\"\n\n[sesion]\nheartbeat_ms = 1\n\n[storage]\ndurability = \"quorum\"\n\
                segment_mb = \"1 parsec\"\njournal_budget_mb = -3\n";
    assert_eq!(
        load(text, &[]).unwrap_err(),
        [
            "ringdesk.toml:5: server.lisen: no such setting; did you mean `listen`?",
            "ringdesk.toml:7: sesion: no such section; did you mean `session`?",
            "ringdesk.toml:4: server.listen: wants an address and port such as \"0.0.0.0:8080\" or \"[::]:8080\", not 8080",
            "ringdesk.toml:3: server.shards: must be from 0 to 64",
            "ringdesk.toml:11: storage.durability: wants \"disk\" or \"memory\", not \"quorum\"",
            "ringdesk.toml:12: storage.segment_mb: wants MiB, or a size such as \"64MiB\" (MiB, GiB, TiB), not \"1 parsec\"",
            "ringdesk.toml:13: storage.journal_budget_mb: must be from 16MiB to 16TiB",
        ]
    );
}

#[test]
fn a_wrong_type_is_told_for_every_setting() {
    for setting in SETTINGS.iter() {
        for value in ["1979-05-27", "{ a = 1 }", "1.5"] {
            let text = format!("[{}]\n\n{} = {value}\n", setting.section, setting.key);
            let complaints = load(&text, &[]).unwrap_err();
            let start = format!("ringdesk.toml:3: {}.{}: wants ", setting.section, setting.key);
            assert_eq!(complaints.len(), 1, "{text}");
            assert!(complaints[0].starts_with(&start), "{complaints:?}");
        }
    }
}

#[test]
fn every_bound_is_kept_on_both_sides() {
    let mut bounded = 0;
    for setting in SETTINGS.iter() {
        let Some((low, high)) = &setting.bounds else { continue };
        if high.ends_with("entries") {
            continue;
        }
        bounded += 1;
        let quote =
            |text: &str| if text.parse::<u64>().is_ok() { text.to_owned() } else { format!("\"{text}\"") };
        let with = |value: &str| {
            // The budget must hold the segments: give it room.
            let room = if setting.section == "storage" && setting.key == "segment_mb" {
                "journal_budget_mb = \"1TiB\"\n"
            } else {
                ""
            };
            let segment = if setting.key == "journal_budget_mb" { "segment_mb = 1\n" } else { "" };
            let small = if setting.key == "shards" { "[storage]\nsegment_mb = 1\n" } else { "" };
            load(&format!("[{}]\n{room}{segment}{} = {value}\n{small}", setting.section, setting.key), &[])
        };
        for value in [quote(low), quote(high)] {
            assert!(
                with(&value).is_ok(),
                "{}.{} = {value}: {:?}",
                setting.section,
                setting.key,
                with(&value)
            );
        }
        for value in ["-1", "9223372036854775807"] {
            let complaints = with(value).unwrap_err();
            assert!(complaints[0].contains(&format!("must be from {low} to {high}")), "{complaints:?}");
        }
    }
    assert!(bounded >= 20, "{bounded}");
}

/// A shard counts strikes in one byte: a higher bound would be taken and mean another one.
#[test]
fn more_strikes_than_a_shard_counts_are_refused() {
    let with = |strikes: u32| load(&format!("[limits]\nmessage_rate = 7\nrate_strikes = {strikes}\n"), &[]);
    assert_eq!(with(255).unwrap().limits.rate_strikes, 255);
    assert_eq!(with(256).unwrap_err(), ["ringdesk.toml:3: limits.rate_strikes: must be from 1 to 255"]);
}

#[test]
fn a_file_that_is_not_there_and_one_that_is_no_toml_are_told() {
    let missing =
        Config::load(Some(Path::new("/nowhere/ringdesk.toml")), std::iter::empty(), Layer::default());
    assert!(missing.unwrap_err().to_string().starts_with("/nowhere/ringdesk.toml: No such file"));
    let complaints = load("[server]\nshards = 1\nlisten = \n", &[]).unwrap_err();
    assert!(complaints[0].starts_with("ringdesk.toml:3: "), "{complaints:?}");
    let complaints = load("[server]\nshards = 1\nshards = 2\n", &[]).unwrap_err();
    assert!(complaints[0].starts_with("ringdesk.toml:3: duplicate key"), "{complaints:?}");
    assert_eq!(
        load("shards = 1\n", &[]).unwrap_err(),
        ["ringdesk.toml:1: shards: settings stand in sections, such as [server]"]
    );
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_name() {
    assert_eq!(
        load("", &[("RINGDESK__SERVER__SHARD", "1"), ("RINGDESK_WEB_DIST", "/x"), ("PATH", "/bin")])
            .unwrap_err(),
        ["environment RINGDESK__SERVER__SHARD: no such setting; did you mean RINGDESK__SERVER__SHARDS?"]
    );
    assert_eq!(
        load("", &[("RINGDESK__SERVER__SHARDS", "many")]).unwrap_err(),
        ["environment RINGDESK__SERVER__SHARDS: server.shards: wants a whole number, not \"many\""]
    );
}

#[test]
fn a_mistake_does_not_hide_behind_an_override() {
    let complaints = load("[server]\nshards = \"two\"\n", &[("RINGDESK__SERVER__SHARDS", "2")]).unwrap_err();
    assert_eq!(complaints, ["ringdesk.toml:2: server.shards: wants a whole number, not \"two\""]);
}

#[test]
fn origins_are_taken_only_as_browsers_write_them() {
    let with = |value: &str| load(&format!("[security]\norigins = {value}\n"), &[]);
    assert_eq!(
        with("[\"https://shop.example\", \"http://localhost:5173\"]").unwrap().security.origins.len(),
        2
    );
    for wrong in [
        "*",
        "shop.example",
        "https://",
        "https://shop.example/",
        "https://Shop.example",
        "https://a.example:443",
        "https://*.a.example",
    ] {
        assert!(with(&format!("[\"{wrong}\"]")).is_err(), "{wrong}");
    }
    let from_environment =
        load("", &[("RINGDESK__SECURITY__ORIGINS", "https://a.example, https://b.example")]).unwrap();
    assert_eq!(from_environment.security.origins.len(), 2);
}

#[test]
fn bounds_that_concern_two_settings_are_kept() {
    let complaints = load("[server]\nlisten = \"127.0.0.1:9100\"\n", &[]).unwrap_err();
    assert_eq!(
        complaints,
        ["default: server.admin_listen: must differ from server.listen: administration is never public"]
    );
    let complaints =
        load("[server]\nshards = 3\n[storage]\nsegment_mb = 64\njournal_budget_mb = 512\n", &[]).unwrap_err();
    assert_eq!(
        complaints,
        ["ringdesk.toml:5: storage.journal_budget_mb: must be at least 768MiB: four segments for each shard"]
    );
}

#[test]
fn what_is_cold_stays_in_effect_and_is_named_until_a_restart_or_until_it_is_put_back() {
    let names = |waiting: Vec<&Setting>| -> Vec<String> {
        waiting.iter().map(|setting| format!("{}.{}", setting.section, setting.key)).collect()
    };
    let start = load("[limits]\nlogin_rate = 7\n", &[]).unwrap();
    let text = "[server]\nshards = 3\n[limits]\nlogin_rate = 9\nmessage_rate = 8\n[log]\nformat = \"json\"\n";
    let mut in_effect = start.clone();
    for _ in 0..3 {
        let (taken, waiting) = in_effect.taken_over(load(text, &[]).unwrap());
        assert_eq!(names(waiting), ["server.shards", "limits.login_rate", "log.format"]);
        assert_eq!((taken.limits.login_rate, taken.server.shards), (7, 0));
        assert_eq!((taken.log.format, taken.limits.message_rate), (LogFormat::Text, 8));
        in_effect = taken;
    }
    let (taken, waiting) = in_effect.taken_over(start.clone());
    assert!(names(waiting).is_empty());
    assert_eq!(taken, start, "put back, and the hot one too");
}

#[test]
fn every_setting_is_either_taken_over_or_named() {
    let (before, mut after) = (default(), default());
    for setting in SETTINGS.iter() {
        let value = match (setting.section, setting.key) {
            ("server", "listen") => "\"127.0.0.1:8081\"",
            ("server", "admin_listen") => "\"127.0.0.1:9101\"",
            ("storage", "data_dir") => "\"elsewhere\"",
            ("storage", "durability") => "\"memory\"",
            ("storage", "sync") => "\"direct\"",
            ("storage", "journal_budget_mb") => "8192",
            ("security", "origins") => "[\"https://a.example\"]",
            ("log", "level") => "\"warn\"",
            ("log", "format") => "\"json\"",
            _ => setting.bounds.as_ref().expect("numbers have bounds").1.as_str(),
        };
        let value = if value.starts_with(['"', '[']) || value.parse::<u64>().is_ok() {
            value.to_owned()
        } else {
            format!("\"{value}\"")
        };
        let room = if setting.key == "shards" { "[storage]\nsegment_mb = 1\n" } else { "" };
        let changed =
            load(&format!("[{}]\n{} = {value}\n{room}", setting.section, setting.key), &[]).unwrap();
        let (taken, waiting) = before.taken_over(changed.clone());
        let named = waiting.iter().any(|named| named.key == setting.key && named.section == setting.section);
        assert_eq!(named, !setting.hot, "{}.{}", setting.section, setting.key);
        assert_eq!(
            setting.show(&taken) == setting.show(&before),
            named,
            "{}.{}",
            setting.section,
            setting.key
        );
        setting.copy(&mut after, &changed);
    }
    let (taken, waiting) = before.taken_over(after.clone());
    assert_eq!(waiting.len(), SETTINGS.iter().filter(|setting| !setting.hot).count());
    assert!(after.taken_over(taken).1.len() == waiting.len(), "the same ones the other way round");
}

/// The table of docs/operations.md.
fn table() -> String {
    let mut out =
        String::from("| setting | default | wants | takes effect | what for |\n|---|---|---|---|---|\n");
    for setting in SETTINGS.iter() {
        let bounds =
            setting.bounds.as_ref().map(|(low, high)| format!(", {low} to {high}")).unwrap_or_default();
        let wants = setting.wants.replace('|', "\\|");
        let when = if setting.hot { "SIGHUP" } else { "restart" };
        let doc: Vec<&str> = setting.doc.iter().map(|line| line.trim()).collect();
        out.push_str(&format!(
            "| `{}.{}` | `{}` | {wants}{bounds} | {when} | {} |\n",
            setting.section,
            setting.key,
            setting.default,
            doc.join(" ")
        ));
    }
    out
}

#[test]
fn the_table_in_the_documentation_is_this_list() {
    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let text = std::fs::read_to_string(PATH).unwrap();
    let (before, rest) = text.split_once("<!-- settings -->\n").expect("the table's beginning is marked");
    let (written, after) = rest.split_once("<!-- end of settings -->").expect("and its end");
    if std::env::var_os("RINGDESK_WRITE_DOCS").is_some() {
        let text = format!("{before}<!-- settings -->\n{}<!-- end of settings -->{after}", table());
        std::fs::write(PATH, text).unwrap();
    } else {
        assert_eq!(
            written,
            table(),
            "write it again: RINGDESK_WRITE_DOCS=1 cargo test -p ringdesk table_in_the_documentation"
        );
    }
}
