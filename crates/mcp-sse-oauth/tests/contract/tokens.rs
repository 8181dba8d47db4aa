//! Which tokens are accepted, and which are not.

use mcp_sse::Principal;
use mcp_sse_oauth::ProtectedResource;
use serde_json::{Value, json};

use crate::help::{ISSUER, SSE, Signer, ask, claims, claims_but, encode, jwks, now, server};

fn resource(signers: &[&Signer]) -> ProtectedResource {
    ProtectedResource::new(&server(signers.iter().copied()), SSE).unwrap().require_scopes(["mcp"]).unwrap()
}

#[tokio::test]
async fn a_token_by_each_algorithm_is_accepted() {
    let signers = [Signer::ed25519("1"), Signer::p256("2"), Signer::rsa("3")];
    let resource = resource(&signers.each_ref());
    let alice = Principal::new(format!("[\"{ISSUER}\",\"inspector\",\"alice\"]"));
    for (signer, algorithm) in [(0, "EdDSA"), (0, "Ed25519"), (1, "ES256"), (2, "RS256"), (2, "PS256")]
        .map(|(at, name)| (&signers[at], name))
    {
        let token = signer.sign(&json!({"alg": algorithm, "kid": signer.id}), &claims());
        for _ in 0..2 {
            assert_eq!(ask(&resource, &token).await.unwrap().principal(), &alice, "{algorithm}");
        }
    }
}

#[tokio::test]
async fn what_specifications_leave_open_is_accepted_too() {
    let signer = Signer::ed25519("1");
    let resource = resource(&[&signer]);
    for changes in [
        json!({"aud": ["https://other.example", SSE]}),
        json!({"scope": null, "scp": ["a", "mcp"]}),
        json!({"scope": "mcp"}),
        json!({"exp": now() as f64 + 60.5}),
        json!({"exp": 1e300}),
        json!({"nbf": now()}),
        json!({"iat": null, "jti": null}),
        json!({"act": {"sub": "somebody"}, "anything": [1, null]}),
    ] {
        let token = signer.token(&claims_but(&changes));
        assert!(ask(&resource, &token).await.is_ok(), "{changes}");
    }
    for header in [
        json!({"alg": "EdDSA"}),
        json!({"alg": "EdDSA", "kid": "1", "typ": "JWT"}),
        json!({"alg": "EdDSA", "kid": "1", "typ": "application/at+jwt"}),
        // From whoever made the token, so that it is not looked at.
        json!({"alg": "EdDSA", "kid": "1", "jku": "https://evil.example", "jwk": {"kty": "oct", "k": "AA"}}),
    ] {
        assert!(ask(&resource, &signer.sign(&header, &claims())).await.is_ok(), "{header}");
    }
}

#[tokio::test]
async fn the_client_and_the_subject_are_somebody_else_each() {
    let signer = Signer::ed25519("1");
    let resource = resource(&[&signer]);
    let mut seen = Vec::new();
    for changes in [
        json!({}),
        json!({"sub": "bob"}),
        json!({"client_id": "other"}),
        json!({"client_id": null}),
        json!({"client_id": null, "azp": "portal"}),
        json!({"client_id": null, "appid": "app"}),
        json!({"client_id": null, "cid": "cid"}),
        json!({"client_id": "inspector\",\"alice", "sub": "x"}),
    ] {
        let grant = ask(&resource, &signer.token(&claims_but(&changes))).await.unwrap();
        assert!(!seen.contains(grant.principal()), "{changes}");
        seen.push(grant.principal().clone());
    }
}

/// Each is refused with 401, `invalid_token`, and without a word of what is in it.
#[tokio::test]
async fn a_token_that_is_wrong_in_any_way_is_refused() {
    let signers = [Signer::ed25519("1"), Signer::p256("2"), Signer::rsa("3")];
    let resource = resource(&signers.each_ref());
    let [ed, p256, rsa] = &signers;
    let other = Signer::ed25519("1");
    let good = ed.token(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let with = |changes: Value| ed.token(&claims_but(&changes));
    let headed = |header: Value| ed.sign(&header, &claims());
    let flipped =
        format!("{message}.{}{}", if signature.starts_with('A') { "B" } else { "A" }, &signature[1..]);
    let mut bad = vec![
        ("nothing", String::new()),
        ("no JWT", "interop-secret-0123456789".to_owned()),
        ("no signature", format!("{message}.")),
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.x")),
        ("five parts", format!("{good}.x.y")),
        ("padding", format!("{good}=")),
        ("a space inside", format!("{message}. {signature}")),
        ("another alphabet", format!("{header}.{payload}.+{}", &signature[1..])),
        ("a changed signature", flipped),
        ("a signature that is cut", format!("{message}.{}", &signature[..signature.len() - 4])),
        (
            "another payload",
            format!("{header}.{}.{signature}", encode(claims_but(&json!({"sub": "bob"})).to_string())),
        ),
        ("another key of the same name", other.token(&claims())),
        ("an unknown key", Signer::ed25519("9").token(&claims())),
        ("a key of another kind", ed.sign(&json!({"alg": "EdDSA", "kid": "2"}), &claims())),
        ("too long", with(json!({"x": "x".repeat(20_000)}))),
        ("a header that is no object", ed.sign_text("[]", &claims().to_string())),
        ("a header twice", ed.sign_text(r#"{"alg":"EdDSA","alg":"EdDSA","kid":"1"}"#, &claims().to_string())),
        ("claims that are no object", ed.sign_text(&ed.header().to_string(), "null")),
        ("claims that are no JSON", ed.sign_text(&ed.header().to_string(), "{")),
        (
            "a claim twice",
            ed.sign_text(&ed.header().to_string(), &claims().to_string().replace('{', r#"{"sub":"bob","#)),
        ),
        ("no issuer", with(json!({"iss": null}))),
        ("another issuer", with(json!({"iss": "https://login.example"}))),
        ("an issuer with a slash", with(json!({"iss": format!("{ISSUER}/")}))),
        ("several issuers", with(json!({"iss": [ISSUER]}))),
        ("no audience", with(json!({"aud": null}))),
        ("an empty audience", with(json!({"aud": []}))),
        ("another audience", with(json!({"aud": "https://mcp.example/b/sse"}))),
        ("an audience with a slash", with(json!({"aud": format!("{SSE}/")}))),
        ("a longer audience", with(json!({"aud": format!("{SSE}/more")}))),
        ("an audience that is a number", with(json!({"aud": 1}))),
        ("no subject", with(json!({"sub": null}))),
        ("an empty subject", with(json!({"sub": ""}))),
        ("a subject that is a number", with(json!({"sub": 7}))),
        ("a client that is a number", with(json!({"client_id": 7}))),
        ("no expiry", with(json!({"exp": null}))),
        ("expired", with(json!({"exp": now() - 1}))),
        ("expired before 1970", with(json!({"exp": -5}))),
        ("an expiry that is a text", with(json!({"exp": (now() + 60).to_string()}))),
        ("an expiry that is a list", with(json!({"exp": [now() + 60]}))),
        ("not valid yet", with(json!({"nbf": now() + 30}))),
        ("a start that is a text", with(json!({"nbf": "never"}))),
        ("a sender that has to prove a key", with(json!({"cnf": {"jkt": "x"}}))),
        ("no algorithm", headed(json!({"kid": "1"}))),
        ("an unknown extension", headed(json!({"alg": "EdDSA", "kid": "1", "crit": ["exp"]}))),
        ("a payload that is not encoded", headed(json!({"alg": "EdDSA", "kid": "1", "b64": false}))),
        ("a token of another type", headed(json!({"alg": "EdDSA", "kid": "1", "typ": "logout+jwt"}))),
        ("a key id that is a number", headed(json!({"alg": "EdDSA", "kid": 1}))),
        ("RS256 for PS256", rsa.sign_text(r#"{"alg":"RS256","kid":"3"}"#, "{}")),
        (
            "a null start",
            ed.sign_text(&ed.header().to_string(), &claims().to_string().replace('{', r#"{"nbf":null,"#)),
        ),
    ];
    bad.extend([
        ("one that says who logged in", with(json!({"at_hash": "x"}))),
        ("one of a logout", with(json!({"events": {}}))),
        (
            "an empty extension",
            ed.sign_text(r#"{"alg":"EdDSA","kid":"1","crit":null}"#, &claims().to_string()),
        ),
    ]);
    for algorithm in ["none", "None", "HS256", "HS512", "RS512", "ES384", "ES512", "RS1", "", "eddsa"] {
        bad.push(("an algorithm", headed(json!({"alg": algorithm, "kid": "1"}))));
        bad.push((
            "without a signature",
            format!("{}.{payload}.", encode(json!({"alg": algorithm}).to_string())),
        ));
    }
    // A public key as the secret of a symmetric signature.
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, rsa.jwk()["n"].as_str().unwrap().as_bytes());
    let symmetric = format!("{}.{payload}", encode(r#"{"alg":"HS256","kid":"3"}"#));
    let tag = ring::hmac::sign(&key, symmetric.as_bytes());
    bad.push(("a symmetric signature", format!("{symmetric}.{}", encode(tag))));
    // The signature of one padding for the other.
    let signed = rsa.sign(&json!({"alg": "PS256", "kid": "3"}), &claims());
    let as_other = format!(
        "{}.{payload}.{}",
        encode(r#"{"alg":"RS256","kid":"3"}"#),
        signed.rsplit_once('.').unwrap().1
    );
    bad.push(("a signature of another padding", as_other));
    // A signature of zeros, which some libraries took for that of anything.
    let zeros = format!("{}.{payload}.{}", encode(p256.header().to_string()), encode([0; 64]));
    bad.push(("a signature of zeros", zeros));
    assert!(bad.len() > 60);
    for (what, token) in bad {
        let denial = ask(&resource, &token).await.expect_err(what);
        assert_eq!(denial.status(), 401, "{what}");
        let shown = format!("{denial:?}");
        assert!(
            shown.contains("error=\\\"invalid_token\\\"") && shown.contains("scope=\\\"mcp\\\""),
            "{what}: {shown}"
        );
        assert!(!shown.contains("alice") && (token.len() < 20 || !shown.contains(&token)), "{shown}");
    }
}

#[tokio::test]
async fn a_token_without_a_scope_is_valid_but_not_enough() {
    let signer = Signer::ed25519("1");
    let server = server([&signer]);
    let resource = ProtectedResource::new(&server, SSE).unwrap().require_scopes(["mcp", "write"]).unwrap();
    for scope in [json!("mcp"), json!("mcp writer"), json!("MCP WRITE"), json!(""), json!(null)] {
        let denial =
            ask(&resource, &signer.token(&claims_but(&json!({ "scope": scope })))).await.unwrap_err();
        assert_eq!(denial.status(), 403, "{scope}");
        let shown = format!("{denial:?}");
        assert!(shown.contains("error=\\\"insufficient_scope\\\"") && shown.contains("mcp write"), "{shown}");
    }
    assert!(ask(&resource, &signer.token(&claims_but(&json!({"scope": "write mcp"})))).await.is_ok());
}

#[tokio::test]
async fn keys_that_are_gone_are_gone_at_once_and_the_others_stay() {
    let (one, two) = (Signer::ed25519("1"), Signer::p256("2"));
    let server = server([&one, &two]);
    let resource = ProtectedResource::new(&server, SSE).unwrap();
    let (first, second) = (one.token(&claims()), two.token(&claims()));
    let grants = (ask(&resource, &first).await.unwrap(), ask(&resource, &second).await.unwrap());
    let three = Signer::rsa("3");
    assert!(server.replace_jwks("{}").is_err() && server.replace_jwks(r#"{"keys":[]}"#).is_err());
    assert!(grants.0.is_valid() && grants.1.is_valid());
    assert_eq!(server.replace_jwks(&jwks([&two, &three])).unwrap(), 1);
    assert!(!grants.0.is_valid() && grants.1.is_valid());
    assert!(ask(&resource, &first).await.is_err() && ask(&resource, &second).await.is_ok());
    assert!(ask(&resource, &three.token(&claims())).await.is_ok());
    // Another key under a name that was there is another one.
    assert_eq!(server.replace_jwks(&jwks([&Signer::p256("2")])).unwrap(), 2);
    assert!(!grants.1.is_valid() && ask(&resource, &second).await.is_err());
}

#[tokio::test]
async fn keys_that_are_not_for_such_signatures_are_left_out() {
    let good = Signer::ed25519("1");
    let not = |changes: Value| {
        let mut jwk = Signer::ed25519("2").jwk();
        jwk.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        jwk
    };
    let keys = json!({"keys": [
        not(json!({"use": "enc"})),
        not(json!({"alg": "HS256"})),
        not(json!({"alg": "RSA-OAEP"})),
        not(json!({"key_ops": ["sign"]})),
        not(json!({"x": "AA"})),
        not(json!({"x": 1})),
        not(json!({"crv": "Ed448"})),
        {"kty": "oct", "kid": "2", "k": "AAAA"},
        {"kty": "EC", "crv": "P-384", "kid": "2", "x": "AA", "y": "AA"},
        {"kty": "RSA", "kid": "2", "n": encode([0xff; 128]), "e": "AQAB"},
        {"kty": "RSA", "kid": "2", "n": encode([0xff; 1025]), "e": "AQAB"},
        {"kty": "RSA", "kid": "2", "n": encode([0xff; 256]), "e": "AQ"},
        {"kty": "RSA", "kid": "2", "n": encode([0xff; 256]), "e": "AA"},
        {"kty": "RSA", "kid": "2", "n": encode([&[0; 200][..], &[0xff; 128]].concat()), "e": "AQAB"},
        "text",
        null,
        good.jwk(),
    ]});
    let server = mcp_sse_oauth::AuthorizationServer::builder(ISSUER).jwks(keys.to_string()).build().unwrap();
    let resource = ProtectedResource::new(&server, SSE).unwrap();
    // The only one that is left, so that a token need not name it.
    assert!(ask(&resource, &good.sign(&json!({"alg": "EdDSA"}), &claims())).await.is_ok());
}

#[tokio::test]
async fn a_token_has_to_name_its_key_if_there_are_many() {
    let signers = ["1", "2", "3", "4", "5"].map(Signer::ed25519);
    let few = resource(&signers.each_ref()[..4]);
    let many = resource(&signers.each_ref());
    let bare = |at: usize| signers[at].sign(&json!({"alg": "EdDSA"}), &claims());
    for at in 0..4 {
        assert!(ask(&few, &bare(at)).await.is_ok());
    }
    assert!(ask(&few, &bare(4)).await.is_err());
    let denial = ask(&many, &bare(0)).await.unwrap_err();
    assert!(format!("{denial:?}").contains("by which of several keys"));
    assert!(ask(&many, &signers[4].token(&claims())).await.is_ok());
}

#[tokio::test]
async fn a_key_that_stands_twice_is_one() {
    let signer = Signer::p256("1");
    let resource = resource(&[&signer, &signer, &signer, &signer, &signer, &signer]);
    assert!(ask(&resource, &signer.token(&claims())).await.is_ok());
    assert!(ask(&resource, &signer.sign(&json!({"alg": "ES256"}), &claims())).await.is_ok());
}
