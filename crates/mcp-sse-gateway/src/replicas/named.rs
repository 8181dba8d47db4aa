//! Ids of sessions over Streamable HTTP, which say where the session is: `ID.NAME.RUN`.

use http::{HeaderMap, HeaderName, HeaderValue};
use mcp_sse::ReplicaId;

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Where the session of a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Here, or nowhere.
    Here,
    Elsewhere(ReplicaId),
}

impl At {
    /// Where the session is that a request names, if it names one. The name of this replica is taken away from the id.
    pub(crate) fn of(headers: &mut HeaderMap, here: &ReplicaId) -> Self {
        let named = headers.get(SESSION_ID).and_then(|id| id.to_str().ok()?.split_once('.'));
        let Some((id, at)) = named else { return Self::Here };
        if at == here.as_str() {
            // A part of what was a header is one.
            if let Ok(id) = HeaderValue::from_str(id) {
                headers.insert(SESSION_ID, id);
            }
            return Self::Here;
        }
        at.parse().map_or(Self::Here, Self::Elsewhere)
    }

    /// Has a response name this replica, if it names a session.
    pub(crate) fn name(headers: &mut HeaderMap, here: &ReplicaId) {
        let named = headers.get(SESSION_ID).and_then(|id| id.to_str().ok());
        let named = named.and_then(|id| HeaderValue::from_str(&format!("{id}.{here}")).ok());
        if let Some(named) = named {
            headers.insert(SESSION_ID, named);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_its_session_is() {
        let [here, there] = ["a", "b"].map(|name| ReplicaId::new(name).unwrap());
        let mut headers = HeaderMap::new();
        assert_eq!(At::of(&mut headers, &here), At::Here);
        At::name(&mut headers, &here);
        assert!(headers.is_empty());
        headers.insert(SESSION_ID, HeaderValue::from_static("0123-45"));
        assert_eq!(At::of(&mut headers, &here), At::Here);
        At::name(&mut headers, &here);
        assert_eq!(headers[SESSION_ID], format!("0123-45.{here}"));
        assert_eq!(At::of(&mut headers.clone(), &there), At::Elsewhere(here.clone()));
        assert_eq!(At::of(&mut headers, &here), At::Here);
        assert_eq!(headers[SESSION_ID], "0123-45");
        for bad in ["x.", "x.y", "x.y.z", ".", "x.a.0123456789abcdef.b"] {
            headers.insert(SESSION_ID, HeaderValue::from_static(bad));
            assert_eq!(At::of(&mut headers, &here), At::Here, "{bad}");
            assert_eq!(headers[SESSION_ID], bad);
        }
    }
}
