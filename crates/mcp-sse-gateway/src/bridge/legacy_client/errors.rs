//! Errors of a modern server, as a legacy client knows them.

use serde_json::Value;

use super::super::eras::of_error;
use crate::message::{members::Members, modern::code};

/// The error as the client gets it, of a request with this method; and whether the server refuses this revision.
pub(super) fn for_legacy(method: &str, error: &str) -> (String, bool) {
    let Some(mut members) = Members::read(error) else { return (error.to_owned(), false) };
    let number = members.get("code").and_then(|json| serde_json::from_str::<i32>(json).ok());
    let legacy = match number {
        Some(code::HEADER_MISMATCH | code::UNSUPPORTED_PROTOCOL_VERSION) => code::INTERNAL_ERROR,
        Some(code::MISSING_CLIENT_CAPABILITY) => code::INVALID_REQUEST,
        // Both SDKs name the resource; parameters that are wrong otherwise have no such data.
        Some(code::INVALID_PARAMS) if method == "resources/read" && names_a_resource(&members) => {
            code::RESOURCE_NOT_FOUND
        }
        _ => return (error.to_owned(), false),
    };
    // A tool may pass on what its own server says; this one says what it supports.
    let is_refused = of_error(&members) == (Some(code::UNSUPPORTED_PROTOCOL_VERSION), Some(false));
    members.set("code", &legacy);
    (members.write(), is_refused)
}

fn names_a_resource(error: &Members<'_>) -> bool {
    let data: Option<Value> = error.get("data").and_then(|json| serde_json::from_str(json).ok());
    data.is_some_and(|data| data["uri"].is_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_modern_era_become_ones_that_clients_know() {
        for (method, before, after, wrong) in [
            ("tools/call", r#"{"code":-32602,"message":"m"}"#, r#"{"code":-32602,"message":"m"}"#, false),
            (
                "resources/read",
                r#"{"code":-32602,"message":"m","data":{"uri":"a:b"}}"#,
                r#"{"code":-32002,"message":"m","data":{"uri":"a:b"}}"#,
                false,
            ),
            ("resources/read", r#"{"code":-32602,"message":"m"}"#, r#"{"code":-32602,"message":"m"}"#, false),
            (
                "tools/call",
                r#"{"code":-32021,"message":"m","data":{"requiredCapabilities":{}}}"#,
                r#"{"code":-32600,"message":"m","data":{"requiredCapabilities":{}}}"#,
                false,
            ),
            ("x", r#"{"code":-32022,"message":"m"}"#, r#"{"code":-32603,"message":"m"}"#, false),
            (
                "x",
                r#"{"code":-32022,"message":"m","data":{"supported":["2027-01-01"]}}"#,
                r#"{"code":-32603,"message":"m","data":{"supported":["2027-01-01"]}}"#,
                true,
            ),
            ("x", r#"{"code":-1, "message":"m"}"#, r#"{"code":-1, "message":"m"}"#, false),
        ] {
            assert_eq!(for_legacy(method, before), (after.to_owned(), wrong));
        }
    }
}
