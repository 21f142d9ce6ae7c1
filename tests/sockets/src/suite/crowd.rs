//! Many at once, few descriptors, and the end.

use std::time::{Duration, Instant};

use crash::ws::{Upgrade, Ws};
use serde_json::json;
use tokio::net::TcpStream;

use super::chat::{Chat, ensure, open, send};
use crate::Plan;
use crate::peer::Peer;
use crate::site::Site;

/// Thousands who say nothing; those who talk beside them notice nothing.
pub(crate) async fn idle(site: &Site) -> Result<String, String> {
    let count = site.crowd;
    raise_nofile();
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    let began = Instant::now();
    let mut idle = Vec::with_capacity(count);
    for n in 0..count {
        idle.push(match n % 4 {
            // Some never say a word, some stop within the head.
            0 => {
                Crowd::Silent(TcpStream::connect(site.listen).await.map_err(|error| format!("{n}: {error}"))?)
            }
            1 => {
                let mut ws = Ws::over(
                    TcpStream::connect(site.listen).await.map_err(|error| format!("{n}: {error}"))?,
                    &mut site.chance(),
                );
                ws.raw(b"GET /ws/v1/visitor?inbox=");
                Crowd::Half(ws)
            }
            _ => Crowd::Idle(Box::new(site.visitor().await.map_err(|error| format!("{n}: {error}"))?)),
        });
    }
    let took = began.elapsed();
    let mut slowest = Duration::ZERO;
    for n in 0..100 {
        let began = Instant::now();
        send(site, &mut visitor, &c, &format!("{n}")).await?;
        agent.push("msg", |push| push["d"]["body"] == format!("{n}")).await?;
        slowest = slowest.max(began.elapsed());
        let p = agent.p;
        agent.tell("ack", json!({ "p": p }));
    }
    ensure(slowest < Duration::from_secs(1), || {
        format!("a message took {} ms beside the crowd", slowest.as_millis())
    })?;
    let fresh = Instant::now();
    site.visitor().await?;
    let fresh = fresh.elapsed();
    let alive = idle.iter_mut().filter_map(|one| if let Crowd::Idle(peer) = one { Some(peer) } else { None });
    for peer in alive.step_by(97) {
        peer.settle().await.map_err(|error| format!("an idle peer: {error}"))?;
    }
    Ok(format!(
        "{count} in {} ms; slowest message beside them {} ms, a new visitor {} ms",
        took.as_millis(),
        slowest.as_millis(),
        fresh.as_millis()
    ))
}

enum Crowd {
    #[expect(dead_code, reason = "it is only kept open")]
    Silent(TcpStream),
    #[expect(dead_code, reason = "it is only kept open")]
    Half(Ws),
    Idle(Box<Peer>),
}

fn raise_nofile() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live struct of the right type.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is to a live struct of the right type. An error leaves the limit as it was.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// With few descriptors the loop sheds whom it has no room for, and serves again as soon as there is room.
pub(crate) async fn few_descriptors(plan: &Plan) -> Result<String, String> {
    const NOFILE: u64 = 256;
    let work_dir = plan.work_dir.clone();
    let mut limited = plan.clone();
    let wrapper = work_dir.join("limited");
    std::fs::create_dir_all(&work_dir).map_err(|error| error.to_string())?;
    let script = format!("#!/bin/sh\nulimit -n {NOFILE}\nexec '{}' \"$@\"\n", plan.bin.display());
    std::fs::write(&wrapper, script).map_err(|error| error.to_string())?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&wrapper, mode).map_err(|error| error.to_string())?;
    limited.bin = wrapper;
    // Who says nothing keeps his place for as long as this takes on a busy machine.
    limited.settings.push_str("[session]\nauth_ms = \"60s\"\n");
    let site = Site::start(limited, 5, 0).await?;
    let mut kept = site.visitor().await?;
    let c = super::chat::started(&site, &mut kept, "I was first").await?;
    let mut sockets = Vec::new();
    let upgrade = Upgrade::to(site.visitor_path());
    let mut shut_out = 0;
    while shut_out < 12 && (sockets.len() as u64) < NOFILE * u64::from(site.shards) + 10 {
        let mut chance = site.chance();
        let let_in = async {
            let stream = TcpStream::connect(site.listen).await.ok()?;
            Ws::upgrade(stream, site.listen, &upgrade, &mut chance).await.ok()
        };
        match tokio::time::timeout(Duration::from_millis(100), let_in).await {
            Ok(Some(ws)) => {
                sockets.push(ws);
                shut_out = 0;
            }
            _ => shut_out += 1,
        }
        if let Some(status) = site.server.borrow_mut().ended().map_err(|error| error.to_string())? {
            return Err(format!("the server ended with {status} after {} connections", sockets.len()));
        }
    }
    let let_in = sockets.len() as u64;
    send(&site, &mut kept, &c, "And I am served").await.map_err(|error| format!("while full: {error}"))?;
    ensure(let_in < NOFILE * u64::from(site.shards), || {
        format!("{let_in} were let in with {NOFILE} descriptors")
    })?;
    drop(sockets);
    let began = Instant::now();
    loop {
        match site.visitor().await {
            Ok(_) => break,
            Err(error) if began.elapsed() > Duration::from_secs(10) => {
                return Err(format!("nobody is let in when there is room again: {error}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let served = began.elapsed();
    send(&site, &mut kept, &c, "Still").await?;
    stop(&site).await?;
    let _ = std::fs::remove_dir_all(work_dir);
    Ok(format!("{let_in} let in with {NOFILE} descriptors; served again after {} ms", served.as_millis()))
}

/// SIGTERM: everybody is told, status 0, in time, sealed.
pub(crate) async fn stop(site: &Site) -> Result<String, String> {
    let path = site.visitor_path();
    let upgrade = super::sessions::from_shop(path);
    let mut visitor = Peer::open_as(site, &upgrade, None, &site.hex(), None).await?;
    let began = Instant::now();
    site.server.borrow().signal(libc::SIGTERM);
    let goaway = visitor.push("goaway", |_| true).await?;
    ensure(goaway["d"]["after_ms"].is_u64(), || goaway.to_string())?;
    let (code, _) = visitor.closed(Duration::from_secs(10)).await?;
    ensure(code == 1001, || format!("closed with {code}"))?;
    visitor.ws.close(code, "");
    let status = loop {
        if let Some(status) = site.server.borrow_mut().ended().map_err(|error| error.to_string())? {
            break status;
        }
        if began.elapsed() > Duration::from_secs(10) {
            return Err("the server does not end in ten seconds".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    ensure(status.code() == Some(0), || {
        format!("SIGTERM ended with {status}\n{}", site.server.borrow().log_tail())
    })?;
    let (status, text) =
        site.server.borrow().run(&["journal", "verify"]).map_err(|error| error.to_string())?;
    ensure(status == 0, || format!("journal verify: {status} {text}"))?;
    Ok(format!("in {} ms", began.elapsed().as_millis()))
}
