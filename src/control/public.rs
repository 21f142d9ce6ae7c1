//! What the public port answers over HTTP: the pages, their files, the login. Nothing of administration is here, not even a refusal that tells it apart.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use desk::id::InboxId;

use super::login::{self, Logins};
use super::pages;
use super::problem::Problem;
use super::settings::Current;

/// The routes.
pub(super) fn router(settings: Arc<Current>, logins: Arc<Logins>) -> Router {
    let pages = Router::new()
        .route("/", get(index))
        .route("/chat/{inbox}", get(chat))
        .route("/agent", get(agent))
        .with_state(settings);
    let api = Router::new()
        .route("/api/v1/auth/login", post(login::login))
        .layer(DefaultBodyLimit::max(login::BODY_MAX))
        .with_state(logins);
    pages.merge(api).fallback(file).method_not_allowed_fallback(wrong_method)
}

async fn index(State(settings): State<Arc<Current>>) -> Response {
    let settings = settings.get();
    let chats: String = settings
        .inboxes
        .iter()
        .filter(|inbox| inbox.enabled)
        .map(|inbox| format!("<li><a href=\"/chat/{}\">{}</a>", inbox.id, text(&inbox.name)))
        .collect();
    let body = format!("<ul>{chats}<li><a href=\"/agent\">Agents</a></ul>");
    pages::plain(StatusCode::OK, "ringdesk", &body)
}

/// A name as text of a page.
fn text(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

async fn chat(
    State(settings): State<Arc<Current>>,
    Path(inbox): Path<String>,
    fields: HeaderMap,
) -> Response {
    let there =
        InboxId::parse(&inbox).is_some_and(|id| settings.get().inbox(id).is_some_and(|inbox| inbox.enabled));
    match pages::find("visitor.html") {
        Some(page) if there => page.answer(&fields),
        _ => pages::plain(
            StatusCode::NOT_FOUND,
            "No such chat",
            "<p>The address may have changed; ask whoever gave it to you.",
        ),
    }
}

async fn agent(fields: HeaderMap) -> Response {
    match pages::find("agent.html") {
        Some(page) => page.answer(&fields),
        None => nothing(&Uri::from_static("/agent")),
    }
}

/// Files of the bundle; everything else is not here.
async fn file(method: Method, uri: Uri, fields: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if mail::UPGRADE_PATHS.contains(&uri.path()) {
        return Problem::new(StatusCode::UPGRADE_REQUIRED, "this address speaks WebSocket only")
            .into_response();
    }
    match pages::find(path) {
        Some(file) if !path.ends_with(".html") => {
            if method == Method::GET || method == Method::HEAD {
                file.answer(&fields)
            } else {
                wrong_method().await
            }
        }
        _ => nothing(&uri),
    }
}

fn nothing(uri: &Uri) -> Response {
    if uri.path().starts_with("/api/") {
        Problem::new(StatusCode::NOT_FOUND, "no such address in this API").into_response()
    } else {
        pages::plain(StatusCode::NOT_FOUND, "Not found", "<p><a href=\"/\">Where to go from here</a>")
    }
}

async fn wrong_method() -> Response {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method; see Allow").into_response()
}

#[cfg(test)]
mod tests;
