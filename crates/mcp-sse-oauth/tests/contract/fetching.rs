//! Keys over HTTP: where they are found, and what is not taken for them.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::State, response::IntoResponse as _};
use http::{StatusCode, Uri};
use mcp_sse_oauth::{AuthorizationServer, ProtectedResource, reqwest};
use serde_json::json;
use tokio::net::TcpListener;

use crate::help::{SSE, Signer, ask, claims_but, jwks};

/// An HTTP server with a few documents.
#[derive(Clone, Default)]
struct Site(Arc<Inner>);

#[derive(Default)]
struct Inner {
    documents: Mutex<Vec<(String, StatusCode, String)>>,
    asked: Mutex<Vec<String>>,
    requests: AtomicUsize,
}

impl Site {
    async fn start() -> (Self, SocketAddr) {
        let site = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(site.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (site, address)
    }

    fn put(&self, path: &str, text: impl Into<String>) {
        self.put_with(path, StatusCode::OK, text);
    }

    fn put_with(&self, path: &str, status: StatusCode, text: impl Into<String>) {
        let mut documents = self.0.documents.lock().unwrap();
        documents.retain(|(other, ..)| other != path);
        documents.push((path.to_owned(), status, text.into()));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.asked.lock().unwrap())
    }
}

async fn answer(State(site): State<Site>, uri: Uri) -> axum::response::Response {
    site.0.requests.fetch_add(1, Ordering::Relaxed);
    site.0.asked.lock().unwrap().push(uri.path().to_owned());
    let documents = site.0.documents.lock().unwrap();
    match documents.iter().find(|(path, ..)| path == uri.path()) {
        Some((_, status, text)) if status.is_redirection() => {
            (*status, [("location", text.clone())]).into_response()
        }
        Some((_, status, text)) => (*status, text.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(crate) fn client() -> reqwest::Client {
    // Fails if it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

/// The status that a token of this issuer gets; 200 if it is good.
async fn status(server: &AuthorizationServer, signer: &Signer) -> u16 {
    let resource = ProtectedResource::new(server, SSE).unwrap();
    let token = signer.token(&claims_but(&json!({"iss": server.issuer()})));
    ask(&resource, &token).await.map_or_else(|denial| denial.status().as_u16(), |_| 200)
}

#[tokio::test]
async fn keys_are_found_where_the_metadata_says_in_the_order_of_the_specification() {
    let signer = Signer::p256("1");
    for (path, places) in [
        ("", &["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"][..]),
        (
            "/realms/x",
            &[
                "/.well-known/oauth-authorization-server/realms/x",
                "/.well-known/openid-configuration/realms/x",
                "/realms/x/.well-known/openid-configuration",
            ],
        ),
    ] {
        for (at, place) in places.iter().enumerate() {
            let (site, address) = Site::start().await;
            let issuer = format!("http://{address}{path}");
            let metadata =
                json!({"issuer": issuer, "jwks_uri": format!("http://{address}/keys"), "x": 1}).to_string();
            site.put(place, metadata.clone());
            site.put("/keys", jwks([&signer]));
            let server = AuthorizationServer::builder(&issuer).discover(client()).build().unwrap();
            assert!(!server.is_ready() && server.metadata().is_none());
            assert_eq!(status(&server, &signer).await, 200, "{place}");
            assert_eq!(site.asked(), [&places[..=at], &["/keys"]].concat());
            assert_eq!(server.metadata().unwrap(), metadata.as_bytes());
            // Nothing is asked for again.
            assert_eq!((status(&server, &signer).await, site.asked().len()), (200, 0));
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_of_the_issuer_is_not_taken() {
    let signer = Signer::ed25519("1");
    let (keys, large) = (jwks([&signer]), "x".repeat(600 * 1024));
    for (what, change) in [
        ("nothing", None),
        ("another issuer", Some(("issuer", json!("https://login.example")))),
        ("an issuer with a slash", Some(("issuer", json!("SLASH")))),
        ("keys in clear text elsewhere", Some(("jwks_uri", json!("http://192.0.2.1/keys")))),
        ("keys in a file", Some(("jwks_uri", json!("file:///keys")))),
        ("keys without a host", Some(("jwks_uri", json!("/keys")))),
        ("no keys", Some(("jwks_uri", json!(null)))),
    ] {
        let (site, address) = Site::start().await;
        let issuer = format!("http://{address}");
        let mut metadata = json!({"issuer": issuer, "jwks_uri": format!("http://{address}/keys")});
        if let Some((name, value)) = change {
            metadata[name] = if value == "SLASH" { json!(format!("{issuer}/")) } else { value };
            site.put("/.well-known/oauth-authorization-server", metadata.to_string());
        }
        site.put("/keys", keys.clone());
        let server = AuthorizationServer::builder(&issuer).discover(client()).build().unwrap();
        assert_eq!(status(&server, &signer).await, 503, "{what}");
        assert!(!server.is_ready());
    }
    for (code, text) in [
        (StatusCode::OK, "no JSON"),
        (StatusCode::OK, "{\"keys\":[]}"),
        (StatusCode::OK, &large),
        (StatusCode::NO_CONTENT, ""),
        (StatusCode::INTERNAL_SERVER_ERROR, &keys),
        (StatusCode::FOUND, "/keys"),
    ] {
        let (site, address) = Site::start().await;
        site.put("/keys", keys.clone());
        site.put_with("/these", code, text);
        let url = format!("http://{address}/these");
        let server =
            AuthorizationServer::builder("https://login.example").jwks_url(client(), url).build().unwrap();
        let before = site.0.requests.load(Ordering::Relaxed);
        for _ in 0..20 {
            assert_eq!(status(&server, &signer).await, 503, "{code}");
        }
        // However often somebody asks.
        assert_eq!(site.0.requests.load(Ordering::Relaxed), before + 1);
    }
}

#[tokio::test]
async fn the_metadata_is_fetched_beside_a_url_of_keys_if_it_is_wanted() {
    let signer = Signer::ed25519("1");
    let (site, address) = Site::start().await;
    let issuer = format!("http://{address}");
    site.put("/keys", jwks([&signer]));
    let server =
        || AuthorizationServer::builder(&issuer).jwks_url(client(), format!("http://{address}/keys")).build();
    assert_eq!(status(&server().unwrap(), &signer).await, 200);
    assert_eq!(site.asked(), ["/keys"]);
    let wants = server().unwrap();
    wants.fetch_metadata();
    // That there is none does not matter to the keys.
    assert_eq!((status(&wants, &signer).await, wants.metadata()), (200, None));
    let metadata = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/k")}).to_string();
    site.put("/.well-known/oauth-authorization-server", metadata.clone());
    let wants = server().unwrap();
    wants.fetch_metadata();
    assert_eq!(status(&wants, &signer).await, 200);
    // It comes after the keys, which nobody waits for because of it.
    while wants.metadata().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(wants.metadata().unwrap(), metadata);
}
