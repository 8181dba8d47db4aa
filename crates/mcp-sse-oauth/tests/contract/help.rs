//! An authorization server's side: keys, and the tokens that they sign.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, request::Parts};
use mcp_sse::{Authenticate as _, Authentication, Denial, Grant};
use mcp_sse_oauth::{AuthorizationServer, ProtectedResource};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256, RsaKeyPair,
    },
};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://login.example/realm";
pub(crate) const SSE: &str = "https://mcp.example/a/sse";

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that signs tokens.
pub(crate) struct Signer {
    pub(crate) id: &'static str,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    pub(crate) fn ed25519(id: &'static str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { id, pair: Pair::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()) }
    }

    pub(crate) fn p256(id: &'static str) -> Self {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self { id, pair: Pair::P256(EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap()) }
    }

    /// ring does not make keys of this kind, so it is a file. It was made for these tests.
    pub(crate) fn rsa(id: &'static str) -> Self {
        Self { id, pair: Pair::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("rsa-2048.pk8")).unwrap()) }
    }

    /// The public key, as it stands in a set.
    pub(crate) fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": encode(pair.public_key())})
            }
            Pair::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": encode(x), "y": encode(y)})
            }
            Pair::Rsa(pair) => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({"kty": "RSA", "kid": self.id, "n": encode(public.n), "e": encode(public.e)})
            }
        }
    }

    /// A signature by the algorithm of this name.
    fn signature(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::P256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding: &dyn ring::signature::RsaEncoding =
                    if algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ed25519(_) => "EdDSA",
            Pair::P256(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "kid": self.id, "typ": "at+jwt"})
    }

    /// A token with this header and these claims.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let header: Value = serde_json::from_str(header).unwrap_or_default();
        let signature = self.signature(header["alg"].as_str().unwrap_or_default(), message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }
}

/// Keys as a document.
pub(crate) fn jwks<'a>(signers: impl IntoIterator<Item = &'a Signer>) -> String {
    let keys: Vec<_> = signers.into_iter().map(Signer::jwk).collect();
    json!({ "keys": keys }).to_string()
}

/// Seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "the time of day, which tokens speak of")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a good token.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "alice", "client_id": "inspector", "aud": SSE, "scope": "openid mcp",
        "exp": now() + 60, "iat": now(), "jti": "1",
    })
}

/// Good claims with some of them other than they were; `null` takes one away.
pub(crate) fn claims_but(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

pub(crate) fn server<'a>(signers: impl IntoIterator<Item = &'a Signer>) -> AuthorizationServer {
    AuthorizationServer::builder(ISSUER)
        .jwks(jwks(signers))
        .leeway(Duration::ZERO)
        .grace(Duration::from_secs(300))
        .build()
        .unwrap()
}

pub(crate) fn head(token: Option<&str>) -> Parts {
    let mut request = Request::get("/a/sse").header("host", "mcp.example");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(()).unwrap().into_parts().0
}

/// What a resource says of a token.
pub(crate) async fn ask(resource: &ProtectedResource, token: &str) -> Result<Grant, Denial> {
    match resource.authenticate(&head(Some(token))) {
        Authentication::Done(answer) => answer,
        Authentication::Pending(answer) => answer.await,
        _ => panic!("another answer"),
    }
}
