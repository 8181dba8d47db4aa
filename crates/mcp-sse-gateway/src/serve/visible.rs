//! The servers that the visitor of the page may use, as the page reads them.

use futures_util::FutureExt as _;
use http::request::Parts;
use mcp_sse::{Authenticate as _, Authentication};
use serde_json::{Value, json};

use super::named::Named;
use crate::encoded::in_url;

/// Those of the servers that a request with this head could use, and whether there are others. Whoever shows no key
/// sees only what needs none.
pub(super) async fn servers(all: &[std::sync::Arc<Named>], head: &Parts, public_url: Option<&str>) -> Value {
    let mut servers = Vec::new();
    let mut locked = false;
    for named in all {
        if may_use(named, head).await {
            servers.push(shown(named));
        } else {
            locked = true;
        }
    }
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "public_url": public_url,
        "locked": locked,
        "servers": servers,
    })
}

async fn may_use(named: &Named, head: &Parts) -> bool {
    let Some(protection) = &named.protection else { return true };
    match protection.sse.authenticate(head) {
        Authentication::Done(result) => result.is_ok(),
        // Keys that have to be fetched first are there when the visitor asks again.
        Authentication::Pending(answer) => answer.now_or_never().is_some_and(|result| result.is_ok()),
        _ => false,
    }
}

fn shown(named: &Named) -> Value {
    let needs = named.auth().map(|auth| match (&auth.key_file, &auth.tokens) {
        (Some(_), Some(_)) => "key or token",
        (None, Some(_)) => "token",
        _ => "key",
    });
    json!({
        "name": named.name,
        "sse": in_url(&named.paths.sse),
        "messages": in_url(&named.paths.messages),
        "mcp": named.mcp.as_ref().map(|_| in_url(&named.paths.mcp)),
        "needs": needs,
    })
}
