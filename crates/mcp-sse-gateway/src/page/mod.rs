//! The web page: the files that it is made of, which are part of the program.
//!
//! What is shown comes from elsewhere as JSON. Nothing here is a secret, so the files need no key; what they show does.

mod servers;

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};

pub(crate) use self::servers::{Served, list};
use crate::answer::Answer;

/// Where the files are, beside the page.
const FOLDER: &str = "/_page/";

/// No code or style but these files, no connection but to where they come from, no frame around them, and no text ever
/// taken for markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// For clients and those who try a server.
    Clients,
    /// For operators.
    Admin,
}

/// The name of a file, and its text.
type File = (&'static str, &'static str);

macro_rules! files {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("assets/", $name)))),*] };
}

const CLIENTS: File = ("index.html", include_str!("assets/index.html"));
const ADMIN: File = ("admin.html", include_str!("assets/admin.html"));

const FILES: [File; 31] = files![
    "admin-data.js",
    "admin.js",
    "app.js",
    "chart.js",
    "client.js",
    "connect.js",
    "console.js",
    "dialogs.js",
    "form.js",
    "icon.svg",
    "image.js",
    "metrics.js",
    "primitives.js",
    "results.js",
    "schema.js",
    "session.js",
    "snippets.js",
    "store.js",
    "stream.js",
    "style.css",
    "text.js",
    "ui.js",
    "wire-log.js",
    "wire.js",
    "vendor/eventsource-parser.LICENSE",
    "vendor/eventsource-parser.js",
    "vendor/htm.LICENSE",
    "vendor/htm.js",
    "vendor/preact-hooks.js",
    "vendor/preact.LICENSE",
    "vendor/preact.js",
];

/// The answer to a request for a page or one of its files; `None` if it is for something else.
pub(crate) fn answer<B>(request: &Request<B>, page: Page) -> Option<Answer> {
    let path = request.uri().path();
    let file = match (path, page) {
        ("/", Page::Clients) => CLIENTS,
        ("/", Page::Admin) => ADMIN,
        _ => {
            let name = path.strip_prefix(FOLDER)?;
            *FILES.iter().find(|(file, _)| *file == name)?
        }
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = Response::new(Full::default().boxed());
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(answer);
    }
    Some(serve(request.headers(), file))
}

fn serve(asked: &HeaderMap, (name, text): File) -> Answer {
    let tag = tag(text);
    // Browsers send back what they were given.
    let known = asked.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
    // A proxy that compresses makes it a weak one.
    let is_known = known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let body = if is_known { Full::default() } else { Full::from(text) };
    let mut answer = Response::new(body.boxed());
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, media_type(name)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Asked for each time, as another version may be here now.
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    answer
}

/// What changes when a file does.
fn tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn get(path: &str, page: Page) -> Option<Answer> {
        answer(&Request::get(path).body(()).unwrap(), page)
    }

    #[test]
    fn every_file_in_the_folder_is_served_as_what_it_is() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/assets");
        let mut folders = vec![folder.clone()];
        let mut count = 0;
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
                let (at, page) = match name {
                    "index.html" => ("/".to_owned(), Page::Clients),
                    "admin.html" => ("/".to_owned(), Page::Admin),
                    name => (format!("{FOLDER}{name}"), Page::Clients),
                };
                let answer = get(&at, page).unwrap_or_else(|| panic!("{name} is not served"));
                assert_eq!(answer.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
                let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap();
                assert_eq!(kind, media_type(name));
                count += 1;
            }
        }
        assert_eq!(count, FILES.len() + 2);
        assert!(get("/_page/none.js", Page::Clients).is_none() && get("/other", Page::Admin).is_none());
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let tag = get("/", Page::Clients).unwrap().headers()[header::ETAG].clone();
        let again = Request::get("/").header(header::IF_NONE_MATCH, &tag).body(()).unwrap();
        assert_eq!(answer(&again, Page::Clients).unwrap().status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer(&again, Page::Admin).unwrap().status(), StatusCode::OK);
        let post = Request::post("/").body(()).unwrap();
        assert_eq!(answer(&post, Page::Clients).unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
