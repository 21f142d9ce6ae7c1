//! The private listener: health, metrics, administration.
//!
//! Reading is open to whoever reaches the address, which is this host alone by default. What changes something needs the key that lies in the data
//! directory, so that no page in a browser and no other user of the host can do it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use desk::id::InboxId;
use mail::NoticeScope;
use serde::Deserialize;

use super::problem::Problem;
use super::{Life, Stage, metrics};

/// Longest notice in bytes; `Order::Notice` says so.
const NOTICE_MAX: usize = 2_000;

/// The routes.
pub(super) fn router(life: Arc<Life>) -> Router {
    let admin = Router::new()
        .route("/admin/notice", post(notice))
        .route("/admin/restart-control", post(restart))
        .layer(DefaultBodyLimit::max(16 << 10))
        .layer(from_fn_with_state(Arc::clone(&life), keyed));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
        .merge(admin)
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no such address") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method; see Allow")
        })
        .with_state(life)
}

/// Lets through who shows the key.
async fn keyed(State(life): State<Arc<Life>>, request: Request, next: Next) -> Response {
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    if life.admin_key.matches(shown) {
        next.run(request).await
    } else {
        let detail = "wants Authorization: Bearer with the content of admin.key in the data directory";
        Problem::new(StatusCode::UNAUTHORIZED, detail).into_response()
    }
}

/// Whether this server should get traffic, and why not.
async fn ready(State(life): State<Arc<Life>>) -> Response {
    let wanted = life.settings.get().version;
    let states = life.ports.states();
    let mut missing = Vec::new();
    if *life.stage.borrow() != Stage::Running {
        missing.push("the server is stopping".to_owned());
    }
    if life.store.get().is_none() {
        missing.push("control.db is not open".to_owned());
    }
    for (shard, state) in states.iter().enumerate() {
        if state.settings_applied < wanted {
            missing.push(format!("shard {shard} has settings {} of {wanted}", state.settings_applied));
        }
    }
    let full: Vec<usize> =
        states.iter().enumerate().filter(|(_, s)| s.storage_full).map(|(shard, _)| shard).collect();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": missing.is_empty(), "missing": missing, "shards": states.len(), "storage_full": full });
    (status, Json(body)).into_response()
}

async fn exposition(State(life): State<Arc<Life>>) -> Response {
    // Shards publish a turn after they are asked.
    let _ = life.ports.gauges();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let uptime_s = life.clock.mono_ms() / 1_000;
    let page = metrics::exposition(&life.ports, &life.counts, &life.progress, uptime_s);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Notice {
    text: String,
    /// An inbox's id; without it everybody is told.
    #[serde(default)]
    scope: Option<String>,
}

async fn notice(State(life): State<Arc<Life>>, body: axum::body::Bytes) -> Response {
    let wrong = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, detail).into_response();
    let Ok(notice) = serde_json::from_slice::<Notice>(&body) else {
        return wrong("wants an object with text, and perhaps scope: the id of an inbox");
    };
    if notice.text.trim().is_empty() || notice.text.len() > NOTICE_MAX {
        return wrong("text must be from 1 to 2000 bytes");
    }
    let scope = match notice.scope.as_deref() {
        None | Some("all") => NoticeScope::All,
        Some(text) => match InboxId::parse(text).filter(|&id| life.settings.get().inbox(id).is_some()) {
            Some(inbox) => NoticeScope::Inbox(inbox),
            None => return wrong("scope must be the id of an inbox"),
        },
    };
    match life.ports.notice(&notice.text, scope) {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "a shard's mailbox is full")
            .code("overloaded")
            .retry_after(1)
            .into_response(),
    }
}

/// Ends this life of the control plane; with `X-How: panic` the hard way.
async fn restart(State(life): State<Arc<Life>>, fields: HeaderMap) -> Response {
    let hard = fields.get("x-how").is_some_and(|how| how == "panic");
    life.end_life(hard);
    StatusCode::ACCEPTED.into_response()
}
