//! The pages: files of the web bundle, embedded in the binary, with a strict content policy.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// One file of the bundle.
pub(super) struct File {
    /// Its path in the bundle: `visitor.html`, `assets/agent-3f2a.js`.
    path: &'static str,
    /// What it is.
    content_type: &'static str,
    /// A hash of its bytes, in quotes.
    etag: &'static str,
    /// Its bytes.
    bytes: &'static [u8],
}

// `FILES: &[File]`, made by the build script, ordered by path.
include!(concat!(env!("OUT_DIR"), "/bundle.rs"));

/// No inline script, no foreign origin, no frame around us. `connect-src 'self'` covers the web socket of the same host.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                              media-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
                              frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The file of this path, if the bundle has it.
pub(super) fn find(path: &str) -> Option<&'static File> {
    FILES.binary_search_by(|file| file.path.cmp(path)).ok().map(|at| &FILES[at])
}

impl File {
    /// The file as an answer. Assets have a hash in their name and never change; pages are asked for again each time, which costs nothing if they
    /// are still the same.
    pub(super) fn answer(&'static self, asked: &HeaderMap) -> Response<Body> {
        let same = asked
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|tag| tag.trim().trim_start_matches("W/") == self.etag);
        let mut response = if same {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            Response::new(Body::from(self.bytes))
        };
        let cache =
            if self.path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        fields.insert(header::ETAG, HeaderValue::from_static(self.etag));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
        response
    }
}

/// A small page of our own, for those who came by hand.
pub(super) fn plain(status: StatusCode, title: &str, body: &str) -> Response<Body> {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<h1>{title}</h1>\n{body}\n</html>\n"
    );
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_has_both_pages_and_finds_files_by_path_alone() {
        for page in ["visitor.html", "agent.html"] {
            assert_eq!(find(page).unwrap().content_type, "text/html; charset=utf-8");
        }
        assert!(FILES.is_sorted_by_key(|file| file.path));
        for wrong in ["", "/", "../Cargo.toml", "assets", "assets/", "visitor.htm"] {
            assert!(find(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn pages_run_no_inline_script_and_no_foreign_one() {
        for page in ["visitor.html", "agent.html"] {
            let html = std::str::from_utf8(find(page).unwrap().bytes).unwrap();
            for script in html.split("<script").skip(1) {
                let tag = &script[..script.find('>').unwrap()];
                assert!(tag.contains("src=\"/"), "{page}: <script{tag}>");
            }
            assert!(
                !html.contains("<style") && !html.contains(" style=") && !html.contains(" onclick="),
                "{page}"
            );
        }
    }

    #[test]
    fn a_page_that_did_not_change_is_not_sent_again() {
        let file = find("agent.html").unwrap();
        let answer = file.answer(&HeaderMap::new());
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(
            answer.headers()[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'; script-src 'self'")
        );
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-cache");
        let mut asked = HeaderMap::new();
        asked.insert(
            header::IF_NONE_MATCH,
            HeaderValue::from_str(&format!("\"old\", W/{}", file.etag)).unwrap(),
        );
        assert_eq!(file.answer(&asked).status(), StatusCode::NOT_MODIFIED);
    }
}
