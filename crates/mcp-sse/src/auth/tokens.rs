//! Keys: an authenticator by a list of names and their tokens.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
};

use http::{HeaderMap, HeaderValue, request::Parts};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Authenticate, Authentication, BearerToken, Denial, Grant, Revocation, bearer};
use crate::principal::Principal;

/// The shortest token, in characters.
const SHORTEST: usize = 16;
/// The longest name and the longest token, in bytes.
const LONGEST: usize = 1024;
const API_KEY: &str = "x-api-key";

/// Lets in the clients that have one of a list of tokens, as `Authorization: Bearer TOKEN` or, where a client cannot
/// send that, as `X-API-Key: TOKEN`. Clones are the same list.
///
/// A list is text: a line `NAME TOKEN` for each client, where NAME becomes its [`Principal`]. Empty lines, and those
/// that begin with `#`, are skipped. A token has at least 16 characters, of those that RFC 6750 allows: letters,
/// digits and `-._~+/=`. No name and no token may stand there twice.
///
/// Only hashes of the tokens are kept, salted with random bytes, and compared in constant time.
///
/// ```
/// use mcp_sse::{BearerTokens, SseServerTransport};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tokens: BearerTokens = "alice 5c8zLq0vTnW4xYbK\nbob j2Rr7dMhUe9sPfGa".parse()?;
/// let sse = SseServerTransport::builder("/messages/").authenticate(tokens.clone()).build()?;
///
/// let get = |token: &str| {
///     http::Request::get("http://localhost/sse").header("authorization", format!("Bearer {token}")).body(())
/// };
/// assert_eq!(sse.connect(&get("5c8zLq0vTnW4xYbK")?).await.0.status(), 200);
/// assert_eq!(sse.connect(&get("something-else!!")?).await.0.status(), 401);
///
/// // Bob has left: his sessions end, and his token is refused.
/// tokens.replace("alice 5c8zLq0vTnW4xYbK")?;
/// assert_eq!(sse.connect(&get("j2Rr7dMhUe9sPfGa")?).await.0.status(), 401);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BearerTokens(Arc<Inner>);

struct Inner {
    salt: [u8; 32],
    keys: RwLock<Keys>,
}

/// By the first bytes of the hash, which nobody can choose who does not know the salt.
type Keys = HashMap<u64, Arc<Key>>;

struct Key {
    hash: [u8; 32],
    name: Principal,
    revocation: Revocation,
}

/// Why a list of tokens was not taken. It shows neither names nor tokens, as one may stand in the place of the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTokensError {
    /// A line is not as it should be.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it, and what was expected.
        why: String,
    },
    /// There is no token, so that nobody could get in.
    #[error("there is no token in it; expected lines of a name and a token, such as: alice 5c8zLq0vTnW4xYbK")]
    Empty,
    /// The system gave no random bytes for the salt.
    #[error("the system gave no random bytes")]
    NoRandomness,
}

/// What [`BearerTokens::replace`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplacedTokens {
    /// Tokens that are new.
    pub added: usize,
    /// Tokens that are gone, and were revoked.
    pub revoked: usize,
}

impl FromStr for BearerTokens {
    type Err = ParseTokensError;

    fn from_str(text: &str) -> Result<Self, ParseTokensError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|_| ParseTokensError::NoRandomness)?;
        let keys = parse(text, &salt)?;
        Ok(Self(Arc::new(Inner { salt, keys: RwLock::new(keys) })))
    }
}

impl BearerTokens {
    /// Replaces the list. Tokens that are not in the new one are revoked: they are refused at once, and the sessions
    /// that depend on them end. A token that now has another name is another one.
    ///
    /// # Errors
    ///
    /// [`ParseTokensError`]; the list stays as it was.
    pub fn replace(&self, text: &str) -> Result<ReplacedTokens, ParseTokensError> {
        let mut new = parse(text, &self.0.salt)?;
        let mut replaced = ReplacedTokens::default();
        let old = {
            let mut keys = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
            for (index, key) in &mut new {
                match keys.get(index).filter(|old| old.hash == key.hash && old.name == key.name) {
                    // With its revocation.
                    Some(old) => *key = Arc::clone(old),
                    None => replaced.added += 1,
                }
            }
            std::mem::replace(&mut *keys, new.clone())
        };
        // Without the lock: sessions end meanwhile.
        for (index, key) in old {
            if !new.get(&index).is_some_and(|new| Arc::ptr_eq(new, &key)) {
                replaced.revoked += 1;
                key.revocation.revoke();
            }
        }
        Ok(replaced)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none, which cannot be.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, token: &[u8]) -> Option<Grant> {
        let hash = hash(&self.0.salt, token);
        let keys = self.0.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.get(&index(&hash))?;
        let is_same = bool::from(key.hash.ct_eq(&hash));
        is_same.then(|| Grant::new(key.name.clone()).revocable(&key.revocation))
    }
}

impl Authenticate for BearerTokens {
    fn authenticate(&self, head: &Parts) -> Authentication {
        let denial =
            |challenge, text| Denial::unauthorized(HeaderValue::from_static(challenge)).with_text(text);
        let granted = match credentials(&head.headers) {
            BearerToken::One(token) => self.find(token).ok_or_else(|| {
                denial("Bearer error=\"invalid_token\"", "Unauthorized: the token is not valid")
            }),
            BearerToken::None => Err(denial(
                "Bearer",
                "Unauthorized: expected a token, as in `Authorization: Bearer TOKEN` or `X-API-Key: TOKEN`",
            )),
            BearerToken::Several => Err(denial(
                "Bearer error=\"invalid_request\"",
                "Unauthorized: there are several tokens; expected one",
            )),
        };
        granted.into()
    }
}

impl fmt::Debug for BearerTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerTokens").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The token of a request, in either header.
fn credentials(headers: &HeaderMap) -> BearerToken<'_> {
    let api_key = headers.get_all(API_KEY).iter().map(|value| value.as_bytes().trim_ascii());
    BearerToken::only(bearer::all(headers).chain(api_key))
}

fn hash(salt: &[u8; 32], token: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(token).finalize().into()
}

fn index(hash: &[u8; 32]) -> u64 {
    let (first, _) = hash.split_first_chunk().unwrap_or((&[0; 8], &[]));
    u64::from_le_bytes(*first)
}

fn parse(text: &str, salt: &[u8; 32]) -> Result<Keys, ParseTokensError> {
    let mut keys = Keys::new();
    let mut names: HashSet<&str> = HashSet::new();
    let mut lines_of: BTreeMap<u64, usize> = BTreeMap::new();
    for (line, content) in (1..).zip(text.lines()) {
        let wrong = |why: String| Err(ParseTokensError::Line { line, why });
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let mut words = content.split_whitespace();
        let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
            let words = content.split_whitespace().count();
            return wrong(format!("expected two words, a name and a token; there are {words}"));
        };
        if name.len() > LONGEST || token.len() > LONGEST {
            return wrong(format!("expected a name and a token of at most {LONGEST} bytes each"));
        }
        if token.chars().any(|c| !c.is_ascii_alphanumeric() && !"-._~+/=".contains(c)) {
            return wrong("the token has other characters than ASCII letters, digits and -._~+/=".to_owned());
        }
        if token.len() < SHORTEST {
            return wrong(format!(
                "the token has {} characters; expected at least {SHORTEST}, such as from `openssl rand -hex 32`",
                token.len()
            ));
        }
        if !names.insert(name) {
            return wrong(
                "this name stands in a line above already; expected one line for each name".to_owned(),
            );
        }
        let hash = hash(salt, token.as_bytes());
        let key = Key { hash, name: Principal::new(name), revocation: Revocation::default() };
        if keys.insert(index(&hash), Arc::new(key)).is_some() {
            let first = lines_of.get(&index(&hash)).copied().unwrap_or_default();
            return wrong(format!(
                "the token is the same as that of line {first}; expected one for each name"
            ));
        }
        lines_of.insert(index(&hash), line);
    }
    if keys.is_empty() { Err(ParseTokensError::Empty) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "alice-0123456789";
    const BOB: &str = "bob-0123456789ab";

    fn tokens(text: &str) -> BearerTokens {
        text.parse().unwrap()
    }

    fn principal(tokens: &BearerTokens, headers: &[(&str, &str)]) -> Option<Principal> {
        let mut request = http::Request::get("/sse");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        match tokens.authenticate(&head) {
            Authentication::Done(result) => result.ok().map(|grant| grant.principal().clone()),
            Authentication::Pending(_) => panic!("nothing to wait for"),
        }
    }

    #[test]
    fn a_token_is_taken_from_either_header() {
        let tokens = tokens(&format!("# who\n\nalice {ALICE}\n  bob\t{BOB}  \n"));
        assert_eq!(tokens.len(), 2);
        let alice = Some(Principal::new("alice"));
        let bearer = format!("Bearer {ALICE}");
        assert_eq!(principal(&tokens, &[("authorization", &bearer)]), alice);
        assert_eq!(principal(&tokens, &[("authorization", &format!("bEARER   {ALICE} "))]), alice);
        assert_eq!(principal(&tokens, &[("x-api-key", ALICE)]), alice);
        assert_eq!(principal(&tokens, &[("authorization", "Basic YTpi"), ("x-api-key", ALICE)]), alice);
        assert_eq!(principal(&tokens, &[("x-api-key", BOB)]), Some(Principal::new("bob")));
        for bad in [
            &[][..],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", ALICE)],
            &[("authorization", &format!("Bearer{ALICE}"))],
            &[("authorization", &format!("Bearer {ALICE}x"))],
            &[("authorization", &format!("Bearer {}", &ALICE[1..]))],
            &[("authorization", &format!("Basic {ALICE}"))],
            &[("x-api-key", "")],
            &[("x-api-key", ALICE), ("x-api-key", BOB)],
            &[("authorization", &bearer), ("x-api-key", BOB)],
            &[("authorization", &bearer), ("x-api-key", ALICE)],
            &[("authorization", &bearer), ("authorization", &bearer)],
        ] {
            assert_eq!(principal(&tokens, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_list_that_is_wrong_is_refused_by_its_line_and_shows_nothing() {
        let why = |text: &str| text.parse::<BearerTokens>().unwrap_err().to_string();
        assert!(why("").contains("no token"));
        assert!(why("\n# alice\n").contains("no token"));
        for (text, line) in [
            (ALICE.to_owned(), 1),
            (format!("\nalice {ALICE} more"), 2),
            ("alice short".to_owned(), 1),
            (format!("alice {ALICE}\nalice {BOB}"), 2),
            (format!("alice {ALICE}\n\nbob {ALICE}"), 3),
            (format!("alice {ALICE}\u{e9}"), 1),
            (format!("alice \"{ALICE}\""), 1),
            (format!("alice {}", "x".repeat(LONGEST + 1)), 1),
        ] {
            let why = why(&text);
            assert!(why.starts_with(&format!("line {line}: ")), "{why}");
            assert!(!why.contains(ALICE) && !why.contains("alice ") && !why.contains("short"), "{why}");
        }
    }

    #[test]
    fn what_is_not_in_the_new_list_is_revoked_and_nothing_else() {
        let tokens = tokens(&format!("alice {ALICE}\nbob {BOB}"));
        let grant = |token: &str| tokens.find(token.as_bytes());
        let (alice, bob) = (grant(ALICE).unwrap(), grant(BOB).unwrap());
        assert!(tokens.replace("alice x").is_err() && alice.is_valid() && bob.is_valid());
        let replaced =
            tokens.replace(&format!("# bob has left\nalice {ALICE}\neve eve-0123456789ab")).unwrap();
        assert_eq!(replaced, ReplacedTokens { added: 1, revoked: 1 });
        assert!(alice.is_valid() && !bob.is_valid() && grant(BOB).is_none());
        assert!(grant(ALICE).unwrap().is_revoked_with(&alice));
        // The token goes to somebody else.
        tokens.replace(&format!("bob {ALICE}")).unwrap();
        assert!(!alice.is_valid() && grant(ALICE).unwrap().principal() == bob.principal());
    }

    #[test]
    fn nothing_of_it_is_shown() {
        let tokens = tokens(&format!("alice {ALICE}"));
        let shown = format!("{tokens:?} {:?}", tokens.find(ALICE.as_bytes()));
        assert!(!shown.contains("alice") && !shown.contains("0123"), "{shown}");
    }
}
