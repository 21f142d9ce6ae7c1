use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use tower_service::Service as _;

use super::*;
use crate::clock::Clock;
use crate::config::{Config, Layer};
use crate::control::Counts;
use crate::scratch::Scratch;
use crate::store::Store;

async fn rig() -> (Scratch, Router, InboxId) {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.0).await.unwrap();
    store.first_start(0, 5, |_| Ok(())).await.unwrap();
    let config = Config::load(None, std::iter::empty(), Layer::default()).unwrap();
    let settings = store.known().await.unwrap().with(&config, None);
    let inbox = settings.inboxes[0].id;
    let settings = Arc::new(Current::new(Arc::new(settings)));
    let logins =
        Logins::new(60, Arc::default(), Arc::clone(&settings), Arc::new(Counts::default()), Clock::system())
            .unwrap();
    (scratch, router(settings, Arc::new(logins)), inbox)
}

async fn ask(router: &Router, method: &str, path: &str) -> (u16, HeaderMap, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router.clone().call(request).await.unwrap();
    let (status, fields) = (response.status().as_u16(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, fields, String::from_utf8_lossy(&body).into_owned())
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

#[test]
fn both_pages_are_served_with_their_policy() {
    run(async {
        let (_scratch, router, inbox) = rig().await;
        for path in [format!("/chat/{inbox}"), "/agent".to_owned()] {
            let (status, fields, body) = ask(&router, "GET", &path).await;
            assert_eq!((status, fields["content-type"].to_str().unwrap()), (200, "text/html; charset=utf-8"));
            assert!(body.contains("<script"), "{path}");
            let policy = fields["content-security-policy"].to_str().unwrap();
            assert!(
                policy.contains("script-src 'self';")
                    && policy.contains("frame-ancestors 'none'")
                    && !policy.contains("unsafe")
            );
        }
        let (status, _, body) = ask(&router, "GET", "/").await;
        assert_eq!(status, 200);
        assert!(body.contains(&format!("/chat/{inbox}")) && body.contains("/agent"));
    });
}

#[test]
fn files_of_pages_come_with_a_long_life_and_pages_are_not_files() {
    run(async {
        let (_scratch, router, inbox) = rig().await;
        let (_, _, page) = ask(&router, "GET", &format!("/chat/{inbox}")).await;
        let script = page.split("src=\"").nth(1).unwrap().split('"').next().unwrap();
        let (status, fields, _) = ask(&router, "GET", script).await;
        assert_eq!(
            (status, fields["content-type"].to_str().unwrap()),
            (200, "text/javascript; charset=utf-8")
        );
        assert!(fields["cache-control"].to_str().unwrap().contains("immutable"));
        assert_eq!(ask(&router, "GET", "/visitor.html").await.0, 404);
        assert_eq!(ask(&router, "POST", script).await.0, 405);
    });
}

#[test]
fn what_is_not_here_is_told_in_the_language_of_who_asks() {
    run(async {
        let (_scratch, router, _) = rig().await;
        for path in [
            "/chat/nobody",
            "/chat/00000000000000000000000000",
            "/nothing",
            "/assets/../Cargo.toml",
            "/metrics",
            "/admin/notice",
            "/healthz",
            "/debug/pprof",
        ] {
            let (status, fields, _) = ask(&router, "GET", path).await;
            assert_eq!(
                (status, fields["content-type"].to_str().unwrap()),
                (404, "text/html; charset=utf-8"),
                "{path}"
            );
        }
        let (status, fields, body) = ask(&router, "GET", "/api/v1/nothing").await;
        assert_eq!((status, fields["content-type"].to_str().unwrap()), (404, "application/problem+json"));
        assert!(body.contains("\"code\":\"not_found\""));
        let (status, fields, body) = ask(&router, "GET", "/api/v1/auth/login").await;
        assert_eq!((status, fields["allow"].to_str().unwrap()), (405, "POST"));
        assert!(body.contains("\"code\":\"bad_request\""));
        assert_eq!(ask(&router, "DELETE", "/agent").await.0, 405);
        assert_eq!(ask(&router, "GET", "/ws/v1/visitor").await.0, 426);
    });
}

#[test]
fn names_are_text_on_a_page() {
    assert_eq!(text("<script>&"), "&lt;script&gt;&amp;");
}
