//! A public key of an authorization server (RFC 7517, 7518, 8037), and the signatures that it makes.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mcp_sse::Revocation;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// How tokens may be signed: with a key that only the authorization server has. Symmetric ones are never accepted, and
/// `none` even less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// By its name in a header (RFC 7518, section 3.1; RFC 8037; RFC 9864 for `Ed25519`).
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "PS256" => Self::Ps256,
            "ES256" => Self::Es256,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A key, with what the grants of the tokens that it has signed depend on.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: Option<String>,
    material: Material,
    /// If the key is for one algorithm only.
    only: Option<Algorithm>,
    pub(crate) revocation: Revocation,
}

#[derive(Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key as it stands in a set.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// How long the modulus of an RSA key may be, in bytes: what ring accepts.
const RSA: std::ops::RangeInclusive<usize> = 256..=1024;

impl Key {
    /// A key of a set; `None` if it is not for signatures that are accepted.
    pub(crate) fn parse(jwk: &serde_json::Value) -> Option<Self> {
        let jwk = Jwk::deserialize(jwk).ok()?;
        let for_signatures = jwk.used_for.as_deref().is_none_or(|used| used == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let only = match &jwk.alg {
            None => None,
            Some(name) => Some(Algorithm::named(name)?),
        };
        if !for_signatures {
            return None;
        }
        let material = match (&*jwk.kty, jwk.crv.as_deref()) {
            ("RSA", _) => {
                let n = unsigned(&decode(jwk.n.as_deref()?)?);
                let e = unsigned(&decode(jwk.e.as_deref()?)?);
                // An exponent is odd and at least 3.
                let is_exponent = e.last().is_some_and(|last| last % 2 == 1) && e != [1];
                if !RSA.contains(&n.len()) || !is_exponent {
                    return None;
                }
                Material::Rsa { n, e }
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (decode(jwk.x.as_deref()?)?, decode(jwk.y.as_deref()?)?);
                if (x.len(), y.len()) != (32, 32) {
                    return None;
                }
                Material::P256([&[4], &x[..], &y[..]].concat())
            }
            ("OKP", Some("Ed25519")) => {
                let x = decode(jwk.x.as_deref()?)?;
                if x.len() != 32 {
                    return None;
                }
                Material::Ed25519(x)
            }
            _ => return None,
        };
        let key = Self { id: jwk.kid, material, only, revocation: Revocation::default() };
        // One that fits nothing is of no use.
        [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa]
            .into_iter()
            .any(|algorithm| key.is_for(algorithm))
            .then_some(key)
    }

    /// Whether it may have signed with this algorithm.
    pub(crate) fn is_for(&self, algorithm: Algorithm) -> bool {
        let fits = matches!(
            (&self.material, algorithm),
            (Material::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
                | (Material::P256(_), Algorithm::Es256)
                | (Material::Ed25519(_), Algorithm::EdDsa)
        );
        fits && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether it made this signature.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.is_for(algorithm) {
            return false;
        }
        let verified = match &self.material {
            Material::Rsa { n, e } => {
                let parameters = match algorithm {
                    Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                    _ => &RSA_PKCS1_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }

    /// Whether both are the same key under the same name.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.material == other.material && self.only == other.only
    }
}

/// Bytes in base64url without padding, which has one way to write each of them.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A number without the zeros in front, as ring wants it.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes[zeros..].to_vec()
}
