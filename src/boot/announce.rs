//! What the start tells: plain lines on standard output, for people and for scripts.

use std::fmt::Write as _;
use std::net::SocketAddr;

use desk::settings::Settings;
use edge::node::ShardBoot;

use super::Layout;
use crate::config::{Config, Durability};
use crate::store::FirstLogin;

/// The first login. Told before it is kept, so that it is not lost whatever fails.
pub(super) fn login(login: &FirstLogin) -> String {
    format!("login: {}  password: {}\n", login.email, login.password)
}

/// What recovery found; damage and a torn end its shard has told already.
pub(super) fn recovered(boot: &ShardBoot) {
    let found = &boot.recovered;
    if found.rewound {
        log::warn!(
            "shard {}: durability was \"memory\", and the kernel did not survive or could not flush: history may have been rewound",
            boot.shard
        );
    }
    log::info!(
        "shard {}: {} records in {} bytes recovered in {} ms",
        boot.shard,
        found.records,
        found.bytes,
        boot.took.as_millis()
    );
}

/// Where everything is, and how many connections this server holds.
pub(super) fn addresses(
    config: &Config,
    layout: &Layout,
    settings: &Settings,
    public: SocketAddr,
    admin: Option<SocketAddr>,
) -> String {
    let base = url(public);
    let mut out = format!("public: {base}\n");
    for inbox in settings.inboxes.iter().filter(|inbox| inbox.enabled) {
        let _ = writeln!(out, "visitor: {base}chat/{}", inbox.id);
    }
    let _ = writeln!(out, "agent: {base}agent");
    if let Some(admin) = admin {
        let key = config.storage.data_dir.join("admin.key");
        let _ = writeln!(out, "admin: {} (key in {})", url(admin), key.display());
    }
    let cpus: Vec<String> = layout.plan.shard_cpus.iter().map(u16::to_string).collect();
    let _ = writeln!(out, "shards: {} on cores {}", cpus.len(), cpus.join(" "));
    let _ = writeln!(out, "holds: {}", layout.capacity);
    if config.storage.durability == Durability::Memory {
        let _ =
            writeln!(out, "durability: memory; an acknowledged message survives the process, not the power");
    }
    out
}

/// An address as people open it on this host.
fn url(address: SocketAddr) -> String {
    match address {
        address if address.ip().is_unspecified() => format!("http://localhost:{}/", address.port()),
        address => format!("http://{address}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_every_address_is_told_as_one_that_can_be_opened() {
        assert_eq!(url("0.0.0.0:8080".parse().unwrap()), "http://localhost:8080/");
        assert_eq!(url("[::]:80".parse().unwrap()), "http://localhost:80/");
        assert_eq!(url("[::1]:80".parse().unwrap()), "http://[::1]:80/");
        assert_eq!(url("192.0.2.1:81".parse().unwrap()), "http://192.0.2.1:81/");
    }
}
