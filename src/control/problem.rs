//! Refusals over HTTP: problem details (RFC 9457), with the code of the protocol.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;

/// A refusal.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
}

impl Problem {
    /// A refusal with the code that goes with the status.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let code = match status {
            StatusCode::UNAUTHORIZED => "auth",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::TOO_MANY_REQUESTS => "rate_limited",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            status if status.is_server_error() => "internal",
            _ => "bad_request",
        };
        Problem { status, code, detail: detail.into(), retry_after_s: None }
    }

    /// Another code of the protocol.
    pub(super) fn code(mut self, code: &'static str) -> Problem {
        self.code = code;
        self
    }

    /// When to come back.
    pub(super) fn retry_after(mut self, seconds: u64) -> Problem {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Response<Body> {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": problem.status.canonical_reason().unwrap_or("refused"),
            "status": problem.status.as_u16(),
            "code": problem.code,
            "detail": problem.detail,
            "retry": problem.retry_after_s.is_some(),
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = problem.status;
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = problem.retry_after_s {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        self.into()
    }
}
