//! What a resource says of itself, and to whom it says what.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::BodyExt as _;
use mcp_sse::{Authenticate as _, Authentication, Denial};
use mcp_sse_oauth::{AuthorizationServer, OAuthConfigError, ProtectedResource};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::fetching::client;
use crate::help::{ISSUER, SSE, Signer, ask, claims, claims_but, head, jwks, server};

fn refused(resource: &ProtectedResource, head: &http::request::Parts) -> Denial {
    match resource.authenticate(head) {
        Authentication::Done(answer) => answer.unwrap_err(),
        _ => panic!("nothing to wait for"),
    }
}

fn challenge(denial: &Denial) -> String {
    let shown = format!("{denial:?}");
    let (_, rest) = shown.split_once("challenge: Some(\"").unwrap();
    rest.split_once("\")").unwrap().0.replace("\\\"", "\"")
}

#[tokio::test]
async fn a_stranger_is_told_where_to_ask() {
    let signer = Signer::ed25519("1");
    let resource = ProtectedResource::new(&server([&signer]), SSE).unwrap();
    let metadata = "resource_metadata=\"https://mcp.example/.well-known/oauth-protected-resource/a/sse\"";
    let denial = refused(&resource, &head(None));
    assert_eq!((denial.status().as_u16(), challenge(&denial)), (401, format!("Bearer {metadata}")));
    // Of another scheme, so there is no token.
    let basic = Request::get("/").header("authorization", "Basic YTpi").body(()).unwrap().into_parts().0;
    assert_eq!(challenge(&refused(&resource, &basic)), format!("Bearer {metadata}"));
    let token = signer.token(&claims());
    let twice = Request::get("/")
        .header("authorization", format!("Bearer {token}"))
        .header("authorization", format!("Bearer {token}"));
    let denial = refused(&resource, &twice.body(()).unwrap().into_parts().0);
    let expected = format!("Bearer error=\"invalid_request\", {metadata}");
    assert_eq!((denial.status().as_u16(), challenge(&denial)), (401, expected));
    let resource = resource.require_scopes(["mcp", "mcp:write"]).unwrap();
    let scope = "scope=\"mcp mcp:write\"";
    assert_eq!(challenge(&refused(&resource, &head(None))), format!("Bearer {metadata}, {scope}"));
    let expected = format!(
        "Bearer error=\"invalid_token\", error_description=\"its algorithm is not one of RS256, PS256, ES256 and EdDSA\", {metadata}, {scope}"
    );
    let token = signer.sign(&json!({"alg": "HS256"}), &claims());
    assert_eq!(challenge(&ask(&resource, &token).await.unwrap_err()), expected);
    let expected = format!("Bearer error=\"insufficient_scope\", {metadata}, {scope}");
    assert_eq!(challenge(&ask(&resource, &signer.token(&claims())).await.unwrap_err()), expected);
}

#[tokio::test]
async fn a_token_is_for_the_audiences_that_were_said() {
    let signer = Signer::ed25519("1");
    let server = server([&signer]);
    let accepts = async |resource: &ProtectedResource, audience: &str| {
        ask(resource, &signer.token(&claims_but(&json!({ "aud": audience })))).await.is_ok()
    };
    let plain = ProtectedResource::new(&server, SSE).unwrap();
    let both = plain.clone().accept_audience("https://mcp.example/a/mcp").unwrap();
    let named = both.clone().audiences(["api://mcp"]).unwrap();
    let mcp = "https://mcp.example/a/mcp";
    assert_eq!((accepts(&plain, SSE).await, accepts(&plain, mcp).await), (true, false));
    assert_eq!((accepts(&both, SSE).await, accepts(&both, mcp).await), (true, true));
    assert_eq!((accepts(&named, SSE).await, accepts(&named, "api://mcp").await), (false, true));
    // What one resource accepts, another one does not, though both have seen the token.
    let other = ProtectedResource::new(&server, "https://mcp.example/b/sse").unwrap();
    assert!(!accepts(&other, SSE).await);
}

#[tokio::test]
async fn a_request_is_told_of_the_url_whose_host_it_names() {
    let signer = Signer::ed25519("1");
    let resource = ProtectedResource::new(&server([&signer]), "http://127.0.0.1:8000/sse").unwrap();
    let resource =
        resource.or_at("http://localhost:8000/sse").unwrap().or_at("http://[::1]:8000/sse").unwrap();
    for (host, expected) in [
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("localhost:8000", "localhost:8000"),
        ("LOCALHOST:8000", "localhost:8000"),
        ("[::1]:8000", "[::1]:8000"),
        ("localhost", "127.0.0.1:8000"),
        ("evil.example\", x=\"", "127.0.0.1:8000"),
    ] {
        let head = Request::get("/sse").header("host", host).body(()).unwrap().into_parts().0;
        let expected = format!(
            "Bearer resource_metadata=\"http://{expected}/.well-known/oauth-protected-resource/sse\""
        );
        assert_eq!(challenge(&refused(&resource, &head)), expected);
        let document = document(&resource, host).await;
        assert!(expected.contains(document["resource"].as_str().unwrap().strip_suffix("/sse").unwrap()));
    }
    for host in ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"] {
        let audience = format!("http://{host}/sse");
        assert!(ask(&resource, &signer.token(&claims_but(&json!({ "aud": audience })))).await.is_ok());
    }
}

async fn document(resource: &ProtectedResource, host: &str) -> Value {
    let get =
        Request::get("/.well-known/oauth-protected-resource/sse").header("host", host).body(()).unwrap();
    let response = resource.metadata().oneshot(get).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn the_metadata_is_what_was_given_byte_for_byte() {
    let keys = jwks([&Signer::ed25519("1")]);
    for issuer in [
        "https://login.example",
        "https://login.example/",
        "https://login.example/a/",
        "HTTPS://Login.Example:443",
    ] {
        let server = AuthorizationServer::builder(issuer).jwks(keys.clone()).build().unwrap();
        for url in [SSE, "https://mcp.example", "https://mcp.example/", "https://mcp.example:8443/@a/(b)/"] {
            let resource = ProtectedResource::new(&server, url).unwrap();
            let expected = json!({
                "resource": url,
                "authorization_servers": [issuer],
                "bearer_methods_supported": ["header"],
            });
            assert_eq!(document(&resource, "mcp.example").await, expected);
            let scoped = resource.require_scopes(["mcp"]).unwrap();
            assert_eq!(document(&scoped, "mcp.example").await["scopes_supported"], json!(["mcp"]));
        }
    }
    let server = server([&Signer::ed25519("1")]);
    let resource = ProtectedResource::new(&server, SSE).unwrap().or_at("http://localhost/a/sse").unwrap();
    let paths = resource.or_at("https://mcp.example/x/").unwrap().metadata().paths();
    assert_eq!(
        paths,
        ["/.well-known/oauth-protected-resource/a/sse", "/.well-known/oauth-protected-resource/x"]
    );
}

#[tokio::test]
async fn the_metadata_is_only_read() {
    let resource = ProtectedResource::new(&server([&Signer::ed25519("1")]), SSE).unwrap();
    let answer =
        |method: Method| resource.metadata().answer(&method, &Uri::from_static("/"), &HeaderMap::new());
    let body = async |method| answer(method).into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer(Method::HEAD).status(), 200);
    assert_eq!(body(Method::HEAD).await, Bytes::new());
    let preflight = answer(Method::OPTIONS);
    assert_eq!(
        (preflight.status().as_u16(), &preflight.headers()["access-control-allow-origin"]),
        (204, &"*".parse().unwrap())
    );
    assert_eq!(
        (answer(Method::POST).status().as_u16(), &answer(Method::POST).headers()["allow"]),
        (405, &"GET, HEAD, OPTIONS".parse().unwrap())
    );
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let keys = jwks([&Signer::ed25519("1")]);
    let issuer = |issuer: &str| AuthorizationServer::builder(issuer).jwks(keys.clone()).build().map(drop);
    for bad in
        ["", "login.example", "ftp://login.example", "https://u:p@login.example", "https://login.example/?a"]
    {
        assert!(matches!(issuer(bad), Err(OAuthConfigError::Issuer { .. })), "{bad}");
    }
    // Its keys are given, so nothing is fetched from there.
    assert_eq!(issuer("http://login.example"), Ok(()));
    let bare = AuthorizationServer::builder(ISSUER);
    assert_eq!(bare.clone().build().unwrap_err(), OAuthConfigError::NoKeys);
    for bad in ["", "{", "[]", "{\"keys\":[]}", "{\"keys\":{}}", "null"] {
        assert!(matches!(bare.clone().jwks(bad).build(), Err(OAuthConfigError::Jwks(_))), "{bad}");
    }
    let long = std::time::Duration::from_secs(61);
    assert_eq!(
        bare.jwks(keys.clone()).leeway(long).build().unwrap_err(),
        OAuthConfigError::Leeway { given: 61, most: 60 }
    );
    let client = client();
    let fetched = |issuer: &str| AuthorizationServer::builder(issuer).discover(client.clone()).build();
    assert!(fetched("http://login.example").is_err() && fetched("http://127.0.0.1:9").is_ok());
    let at = |url: &str| AuthorizationServer::builder(ISSUER).jwks_url(client.clone(), url).build();
    assert!(at("https://u:p@keys.example/").unwrap_err().to_string().contains("\"https://keys.example/\""));
    assert!(at("file:///etc/passwd").is_err() && at("/keys").is_err() && at("http://keys.example/").is_ok());

    let server = AuthorizationServer::builder(ISSUER).jwks(keys).build().unwrap();
    for bad in [
        "",
        "/sse",
        "https://mcp.example/sse?x",
        "https://mcp.example/\u{e9}",
        "https://MCP.example/sse",
        "https://mcp.example:443/sse",
    ] {
        assert!(
            matches!(ProtectedResource::new(&server, bad), Err(OAuthConfigError::Resource { .. })),
            "{bad}"
        );
    }
    let resource = ProtectedResource::new(&server, SSE).unwrap();
    for bad in ["", "a b", "a\"", "a\\", "\u{e9}"] {
        assert!(resource.clone().require_scopes([bad]).is_err(), "{bad}");
    }
    assert!(resource.clone().audiences([""]).is_err() && resource.clone().accept_audience("").is_err());
    assert!(resource.audiences([] as [&str; 0]).is_err());
}
