//! The servers that a visitor of the page may use, as the page reads them.

use futures_util::FutureExt as _;
use http::{Request, StatusCode, request::Parts};
use mcp_sse::{Authenticate as _, Authentication};
use serde_json::{Value, json};

use crate::{
    access::{Auth, Protection},
    answer::{Answer, json, read_only},
    encoded::in_url,
};

/// Where the page finds them.
const PATH: &str = "/_page/servers.json";

/// A server, by its paths.
pub(crate) struct Served<'a> {
    pub(crate) name: &'a str,
    pub(crate) sse: &'a str,
    pub(crate) messages: &'a str,
    /// `None` if it is not served over Streamable HTTP.
    pub(crate) mcp: Option<&'a str>,
    /// What stands before it, if its clients need something.
    pub(crate) protection: Option<&'a Protection>,
}

/// The answer to a request for them; `None` if it is for something else.
///
/// It has those that a request with this head could use, and says whether there are others: whoever shows no key sees
/// only what needs none.
pub(crate) fn list<'a>(
    request: &Request<()>,
    all: impl IntoIterator<Item = Served<'a>>,
    public_url: Option<&str>,
) -> Option<Answer> {
    if request.uri().path() != PATH {
        return None;
    }
    let (head, ()) = request.clone().into_parts();
    let (mut servers, mut locked) = (Vec::new(), false);
    for served in all {
        if may_use(&served, &head) {
            servers.push(shown(&served));
        } else {
            locked = true;
        }
    }
    let list = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "public_url": public_url,
        "locked": locked,
        "servers": servers,
    });
    Some(read_only(request, || json(StatusCode::OK, &list)))
}

fn may_use(served: &Served<'_>, head: &Parts) -> bool {
    let Some(protection) = served.protection else { return true };
    match protection.sse.authenticate(head) {
        Authentication::Done(result) => result.is_ok(),
        // Keys that have to be fetched first are there when the visitor asks again.
        Authentication::Pending(answer) => answer.now_or_never().is_some_and(|result| result.is_ok()),
        _ => false,
    }
}

fn shown(served: &Served<'_>) -> Value {
    let needs = served.protection.map(|Protection { auth: Auth { key_file, tokens }, .. }| {
        match (key_file, tokens) {
            (Some(_), Some(_)) => "key or token",
            (None, Some(_)) => "token",
            _ => "key",
        }
    });
    json!({
        "name": served.name,
        "sse": in_url(served.sse),
        "messages": in_url(served.messages),
        "mcp": served.mcp.map(in_url),
        "needs": needs,
    })
}
