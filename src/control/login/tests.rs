use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::Request;
use desk::token::verify_ticket;
use http_body_util::BodyExt as _;
use tower_service::Service as _;

use super::*;
use crate::config::{Config, Layer};
use crate::control::public;
use crate::scratch::Scratch;

struct Rig {
    _scratch: Scratch,
    router: axum::Router,
    password: String,
    settings: Arc<Current>,
    counts: Arc<Counts>,
    now: Arc<AtomicU64>,
    store: Store,
}

impl Rig {
    async fn new(per_address: u32) -> Rig {
        let scratch = Scratch::new();
        let store = Store::open(&scratch.0).await.unwrap();
        let password = store.first_start(0, 5, |_| Ok(())).await.unwrap().unwrap().password;
        let config = Config::load(None, std::iter::empty(), Layer::default()).unwrap();
        let settings = Arc::new(Current::new(Arc::new(store.known().await.unwrap().with(&config, None))));
        let now = Arc::new(AtomicU64::new(1_760_000_000_000));
        let counts = Arc::new(Counts::default());
        let cell = Arc::new(OnceLock::new());
        cell.set(store.clone()).unwrap();
        let clock = Clock::Held(Arc::clone(&now));
        let logins =
            Logins::new(per_address, cell, Arc::clone(&settings), Arc::clone(&counts), clock).unwrap();
        let router = public::router(Arc::clone(&settings), Arc::new(logins));
        Rig { _scratch: scratch, router, password, settings, counts, now, store }
    }

    async fn post(&self, from: &str, kind: &str, body: &str) -> (u16, serde_json::Value, HeaderMap) {
        let mut request = Request::post("/api/v1/auth/login")
            .header("content-type", kind)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let peer: SocketAddr = from.parse().unwrap();
        request.extensions_mut().insert(Peer(peer));
        let response = self.router.clone().call(request).await.unwrap();
        let (status, fields) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default(), fields)
    }

    async fn login(&self, from: &str, email: &str, password: &str) -> (u16, serde_json::Value, HeaderMap) {
        let body = serde_json::json!({ "email": email, "password": password });
        self.post(from, "application/json", &body.to_string()).await
    }
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future);
}

#[test]
fn a_good_login_gives_a_ticket_that_shards_accept() {
    run(async {
        let rig = Rig::new(60).await;
        let (status, body, _) = rig.login("192.0.2.1:1", "Agent@localhost", &rig.password).await;
        assert_eq!(status, 200, "{body}");
        let now_s = rig.now.load(Ordering::Relaxed) / 1_000;
        let settings = rig.settings.get();
        let ticket = verify_ticket(&settings.keys, body["ticket"].as_str().unwrap(), now_s).unwrap();
        assert_eq!(ticket.agent, settings.agents[0].id);
        assert_eq!(body["agent"]["id"], settings.agents[0].id.text().as_str());
        assert_eq!(body["agent"]["name"], "Agent");
        assert_eq!(body["expires"], (now_s + TICKET_LIFE_S) * 1_000);
        assert!(
            verify_ticket(&settings.keys, body["ticket"].as_str().unwrap(), now_s + TICKET_LIFE_S).is_err()
        );
    });
}

#[test]
fn a_wrong_password_and_an_unknown_account_get_the_same_answer() {
    run(async {
        let rig = Rig::new(600).await;
        let wrong = rig.login("192.0.2.1:1", "agent@localhost", "wrong").await;
        let unknown = rig.login("192.0.2.1:1", "nobody@localhost", "wrong").await;
        assert_eq!((wrong.0, &wrong.1), (401, &unknown.1));
        assert_eq!(wrong.1["code"], "auth");
        assert_eq!(wrong.2["content-type"], "application/problem+json");
    });
}

#[test]
fn a_new_password_counts_from_the_next_login_on() {
    run(async {
        let rig = Rig::new(600).await;
        rig.store.set_password("agent@localhost", &password::hash("a better one").unwrap()).await.unwrap();
        assert_eq!(rig.login("192.0.2.1:1", "agent@localhost", &rig.password).await.0, 401);
        // The shards still refuse tickets of the new epoch.
        assert_eq!(rig.login("192.0.2.1:1", "agent@localhost", "a better one").await.0, 503);
        let config = Config::load(None, std::iter::empty(), Layer::default()).unwrap();
        let known = rig.store.known().await.unwrap();
        rig.settings.set(Arc::new(known.with(&config, Some(&rig.settings.get()))));
        let (status, body, _) = rig.login("192.0.2.1:1", "agent@localhost", "a better one").await;
        assert_eq!(status, 200);
        let now_s = rig.now.load(Ordering::Relaxed) / 1_000;
        let ticket =
            verify_ticket(&rig.settings.get().keys, body["ticket"].as_str().unwrap(), now_s).unwrap();
        assert_eq!(ticket.session_epoch, 1);
    });
}

#[test]
fn tries_are_limited_per_address_and_per_account() {
    run(async {
        let rig = Rig::new(2).await;
        for _ in 0..4 {
            assert_eq!(rig.login("192.0.2.1:1", "a@localhost", "x").await.0, 401);
        }
        let (status, body, fields) = rig.login("192.0.2.1:2", "b@localhost", "x").await;
        assert_eq!((status, body["code"].as_str()), (429, Some("rate_limited")));
        assert_eq!(fields["retry-after"], "30");
        assert_eq!(rig.login("192.0.2.2:1", "b@localhost", "x").await.0, 401, "another address");

        // One account, tried from everywhere.
        let mut limited = 0;
        for last in 0..24 {
            let (status, _, _) = rig.login(&format!("203.0.113.{last}:1"), "c@localhost", "x").await;
            limited += usize::from(status == 429);
        }
        assert_eq!(limited, 24 - 2 * PER_ACCOUNT as usize);
        assert_eq!(rig.counts.login_limited.load(Ordering::Relaxed), 1 + limited as u64);
    });
}

#[test]
fn what_is_no_login_is_refused_before_any_work() {
    run(async {
        let rig = Rig::new(600).await;
        let from = "192.0.2.1:1";
        let long = format!("{{\"email\":\"a\",\"password\":\"{}\"}}", "x".repeat(300));
        let huge = format!("{{\"email\":\"{}\",\"password\":\"x\"}}", "x".repeat(8_000));
        for (kind, body, status) in [
            ("text/plain", "{\"email\":\"a\",\"password\":\"b\"}", 415),
            ("application/x-www-form-urlencoded", "email=a&password=b", 415),
            ("application/json", "{\"email\":1,\"password\":\"b\"}", 400),
            ("application/json", "[", 400),
            ("application/json", &long, 400),
            ("application/json", &huge, 413),
        ] {
            assert_eq!(rig.post(from, kind, body).await.0, status, "{kind} {body:.40}");
        }
        assert_eq!(rig.counts.login_refused.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn five_hundred_logins_at_once_get_an_answer_each_and_most_of_them_busy() {
    run(async {
        let rig = Arc::new(Rig::new(60_000).await);
        let mut tasks = Vec::new();
        for number in 0..500u32 {
            let rig = Arc::clone(&rig);
            tasks.push(tokio::spawn(async move {
                let from = format!("10.0.{}.{}:1", number / 250, number % 250);
                rig.login(&from, &format!("user{number}@localhost"), "x").await.0
            }));
        }
        let (mut refused, mut busy) = (0u64, 0u64);
        for task in tasks {
            match task.await.unwrap() {
                401 => refused += 1,
                503 => busy += 1,
                other => panic!("{other}"),
            }
        }
        // The queue and the threads take their share; the rest is told to come back instead of waiting for half a minute.
        assert_eq!(refused + busy, 500);
        assert!(
            refused >= crate::control::pool::WAITING_MAX as u64 && busy >= 250,
            "{refused} refused, {busy} busy"
        );
        assert_eq!(rig.counts.login_busy.load(Ordering::Relaxed), busy);
    });
}

#[test]
fn whom_the_shards_do_not_know_yet_is_told_to_try_again() {
    run(async {
        let rig = Rig::new(60).await;
        let word = "a password of some length";
        let hash = password::hash(word).unwrap();
        let new = crate::store::NewAgent {
            email: "li@example.com",
            name: "Li",
            role: desk::settings::Role::Agent,
            password: &hash,
            capacity: 5,
        };
        assert!(rig.store.add_agent(&new, 0).await.unwrap());
        let (status, body, fields) = rig.login("192.0.2.1:1", "li@example.com", word).await;
        assert_eq!((status, fields["retry-after"].to_str().unwrap()), (503, "1"), "{body}");
        let config = Config::load(None, std::iter::empty(), Layer::default()).unwrap();
        let known = rig.store.known().await.unwrap();
        rig.settings.set(Arc::new(known.with(&config, Some(&rig.settings.get()))));
        let (status, body, _) = rig.login("192.0.2.1:1", "li@example.com", word).await;
        assert_eq!(status, 200, "{body}");
    });
}
