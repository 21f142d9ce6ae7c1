//! `POST /api/v1/auth/login`: address and password for a ticket.
//!
//! Whether an account exists is not told, neither by words nor by time: the same work is done and the same answer given.

use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use desk::settings::Settings;
use desk::token::{TICKET_LIFE_S, Ticket, sign_ticket};
use serde::Deserialize;

use super::connection::Peer;
use super::counts::Counts;
use super::limiter::{Limiter, network};
use super::pool::Pool;
use super::problem::Problem;
use super::settings::Current;
use crate::clock::Clock;
use crate::password;
use crate::store::{Account, Store};

/// Bytes of a login request at most.
pub(super) const BODY_MAX: usize = 4 << 10;
/// Tries per minute and account, whoever makes them.
const PER_ACCOUNT: u32 = 10;
/// Longest address.
const EMAIL_MAX: usize = 254;

/// Everything a login needs.
pub(super) struct Logins {
    pool: Pool,
    by_address: Limiter<std::net::IpAddr>,
    by_account: Limiter<String>,
    store: Arc<OnceLock<Store>>,
    settings: Arc<Current>,
    counts: Arc<Counts>,
    clock: Clock,
}

#[derive(Deserialize)]
struct Asked {
    email: String,
    password: String,
}

impl Logins {
    pub(super) fn new(
        per_address: u32,
        store: Arc<OnceLock<Store>>,
        settings: Arc<Current>,
        counts: Arc<Counts>,
        clock: Clock,
    ) -> std::io::Result<Logins> {
        Ok(Logins {
            pool: Pool::start()?,
            by_address: Limiter::new(per_address),
            by_account: Limiter::new(PER_ACCOUNT),
            store,
            settings,
            counts,
            clock,
        })
    }

    /// Counts a try against address and account, before any work is done.
    fn admit(&self, peer: Peer, email: &str) -> Result<(), Problem> {
        let now_ms = self.clock.mono_ms();
        let taken = self
            .by_address
            .take(network(peer.0.ip()), now_ms)
            .and_then(|()| self.by_account.take(email.to_lowercase(), now_ms));
        taken.map_err(|after_ms| {
            Counts::add(&self.counts.login_limited);
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many logins; wait a little");
            problem.retry_after(after_ms.div_ceil(1_000))
        })
    }

    async fn check(&self, asked: Asked) -> Result<Account, Problem> {
        let Some(store) = self.store.get() else {
            return Err(
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "accounts cannot be read yet").retry_after(2)
            );
        };
        let account = store.account(&asked.email).await.map_err(|error| {
            log::error!("a login could not be checked: {error}");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "accounts cannot be read").retry_after(2)
        })?;
        let hash = account.as_ref().map(|account| account.password.clone());
        let verdict = self.pool.run(move || password::verify(&asked.password, hash.as_deref())).await;
        match (verdict, account) {
            (Ok(true), Some(account)) => Ok(account),
            (Ok(_), _) => {
                Counts::add(&self.counts.login_refused);
                Err(Problem::new(StatusCode::UNAUTHORIZED, "address or password is wrong"))
            }
            (Err(_), _) => {
                Counts::add(&self.counts.login_busy);
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many logins at once");
                Err(problem.code("overloaded").retry_after(3))
            }
        }
    }
}

/// The handler.
pub(super) async fn login(
    State(logins): State<Arc<Logins>>,
    axum::Extension(peer): axum::Extension<Peer>,
    fields: HeaderMap,
    body: Bytes,
) -> Response {
    match answer(&logins, peer, &fields, &body).await {
        Ok(answer) => Json(answer).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn answer(
    logins: &Logins,
    peer: Peer,
    fields: &HeaderMap,
    body: &Bytes,
) -> Result<serde_json::Value, Problem> {
    // Pages of other sites cannot send this type without asking first, and we never say yes.
    let kind = fields.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be application/json",
        ));
    }
    if fields.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err(Problem::new(StatusCode::FORBIDDEN, "logins come from our own pages"));
    }
    let asked: Asked = serde_json::from_slice(body).map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "wants an object with email and password, both texts")
    })?;
    if asked.email.len() > EMAIL_MAX || asked.password.len() > password::BYTES_MAX {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "email or password is too long"));
    }
    logins.admit(peer, &asked.email)?;
    let account = logins.check(asked).await?;
    // A ticket of somebody whom the shards do not know yet would be refused as a bad one.
    let settings = logins.settings.get();
    if settings.agent(account.id).is_none_or(|known| known.session_epoch != account.session_epoch) {
        let problem = Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the account is new or has just changed; try again in a second",
        );
        return Err(problem.retry_after(1));
    }
    Counts::add(&logins.counts.login_good);
    Ok(granted(&account, &settings, logins.clock.wall_ms()))
}

fn granted(account: &Account, settings: &Settings, now_ms: u64) -> serde_json::Value {
    let expires_at_s = now_ms / 1_000 + TICKET_LIFE_S;
    let ticket =
        Ticket { agent: account.id, role: account.role, session_epoch: account.session_epoch, expires_at_s };
    let mut text = Vec::new();
    sign_ticket(&settings.keys, &ticket, &mut text);
    serde_json::json!({
        "ticket": String::from_utf8(text).expect("a token is ASCII"),
        "agent": { "id": account.id.text().as_str(), "name": account.name },
        "expires": expires_at_s * 1_000,
    })
}

#[cfg(test)]
mod tests;
