//! One HTTP connection, from its first byte to its end, or to the upgrade that gives it back to the shards.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::counts::Counts;
use super::prefixed::Prefixed;
use super::problem::Problem;

/// Time for a request head, and so for a connection to be idle between requests.
const HEAD_TIME: Duration = Duration::from_secs(20);
/// Time to answer one request, its body included.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Bytes of a request head at most. Shards refuse above 16 KiB; what they give us has passed that.
const HEAD_BYTES: usize = 32 << 10;
/// Fields of a request head at most.
const HEAD_FIELDS: usize = 100;

/// The other end, as a handler sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// How a connection ended.
pub(super) enum Ended {
    /// It is closed.
    Closed,
    /// It asks for an upgrade, which is the shards' business: the stream, and what was read and not answered.
    Upgrade(TcpStream, Vec<u8>),
}

/// Which upgrades are the shards'.
#[derive(Clone, Debug)]
pub(super) enum Upgrades {
    /// None: the private listener.
    None,
    /// Those on their paths, and on the echo path if there is one.
    Shards(Option<Arc<str>>),
}

impl Upgrades {
    fn wants<B>(&self, request: &Request<B>) -> bool {
        let Upgrades::Shards(echo) = self else { return false };
        let path = request.uri().path();
        (mail::UPGRADE_PATHS.contains(&path) || echo.as_deref() == Some(path)) && asks_for_upgrade(request)
    }
}

/// A GET without a body that names an upgrade. Whether it is a good one, the shard says.
fn asks_for_upgrade<B>(request: &Request<B>) -> bool {
    let fields = request.headers();
    request.method() == Method::GET
        && fields.contains_key(header::UPGRADE)
        && !fields.contains_key(header::TRANSFER_ENCODING)
        && fields.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0")
}

/// The request head as it would stand on the wire: what the HTTP layer took apart, put together again.
fn head_bytes<B>(request: &Request<B>) -> Vec<u8> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut head = format!("{} {target} {:?}\r\n", request.method(), request.version()).into_bytes();
    for (name, value) in request.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

struct Answers {
    router: Router,
    peer: SocketAddr,
    upgrades: Upgrades,
    counts: Arc<Counts>,
    asked: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Service<Request<Incoming>> for Answers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if self.upgrades.wants(&request) {
            *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(head_bytes(&request));
            // Never answered here: the connection is taken apart around it.
            return Box::pin(pending());
        }
        request.extensions_mut().insert(Peer(self.peer));
        let answer = self.router.clone().call(request.map(Body::new));
        let counts = Arc::clone(&self.counts);
        Box::pin(async move {
            let mut response = match tokio::time::timeout(ANSWER_TIME, answer).await {
                Ok(Ok(response)) => response,
                Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into(),
            };
            counts.answered(response.status());
            protect(response.headers_mut());
            Ok(response)
        })
    }
}

/// What every answer says to a browser.
fn protect(fields: &mut HeaderMap) {
    use axum::http::HeaderValue;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    fields
        .entry("content-security-policy")
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    fields.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Serves the connection. `front` was read from it already.
pub(super) async fn serve(
    stream: TcpStream,
    front: Vec<u8>,
    peer: SocketAddr,
    router: Router,
    upgrades: Upgrades,
    counts: Arc<Counts>,
) -> Ended {
    let io = Prefixed::new(stream, front);
    let blocked = io.blocked();
    let asked = Arc::new(Mutex::new(None));
    let answers = Answers { router, peer, upgrades, counts, asked: Arc::clone(&asked) };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(io), answers);
    let head = poll_fn(|cx| match connection.poll_without_shutdown(cx) {
        Poll::Ready(result) => Poll::Ready(Err(result)),
        // Answers to earlier requests go out first; what the HTTP layer still holds would be lost.
        Poll::Pending if blocked.load(Ordering::Relaxed) => Poll::Pending,
        Poll::Pending => match asked.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(head) => Poll::Ready(Ok(head)),
            None => Poll::Pending,
        },
    })
    .await;
    let parts = connection.into_parts();
    let (mut stream, unread) = parts.io.into_inner().into_parts();
    match head {
        Ok(mut bytes) => {
            bytes.extend_from_slice(&parts.read_buf);
            bytes.extend_from_slice(&unread);
            Ended::Upgrade(stream, bytes)
        }
        Err(result) => {
            if let Err(error) = result {
                log::debug!("a connection of {peer} ended: {error}");
            }
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
            Ended::Closed
        }
    }
}

#[cfg(test)]
mod tests;
