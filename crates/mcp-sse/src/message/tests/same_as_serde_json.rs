//! What is read, and what is refused, is what `serde_json` reads and refuses.

use std::borrow::Cow;

use proptest::prelude::*;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::*;

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// A member that is there, be it `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The kind and the parameters of a message, by `serde_json`.
fn typed(bytes: &[u8]) -> Option<(MessageKind, Option<&str>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    // A derived struct would also read an array as its fields in order.
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return None;
    }
    let typed: Typed<'_> = serde_json::from_str(text).ok()?;
    if typed.jsonrpc != "2.0" {
        return None;
    }
    let id = |id: &RawValue| match id.get().as_bytes() {
        text if text.len() > MAX_ID_BYTES => None,
        [b'"', ..] => serde_json::from_str::<String>(id.get()).ok().map(|id| RequestId::from(id.as_str())),
        [b'-' | b'0'..=b'9', ..] => RequestId::read(id.get()).ok(),
        _ => None,
    };
    let params = typed.params.map(RawValue::get);
    match (typed.method, typed.id, typed.result, typed.error) {
        (Some(method), of, None, None) if params.is_none_or(|params| params.starts_with(['{', '[', 'n'])) => {
            let kind = match of {
                Some(of) => MessageKind::Request { id: id(of)?, method: method.into() },
                None => MessageKind::Notification { method: method.into() },
            };
            Some((kind, params.filter(|params| *params != "null")))
        }
        (None, Some(of), Some(_), None) => {
            Some((MessageKind::Response { id: Some(id(of)?), is_error: false }, None))
        }
        (None, of, None, Some(error)) if error.get().starts_with('{') => {
            let id = match of.filter(|of| of.get() != "null") {
                Some(of) => Some(id(of)?),
                None => None,
            };
            Some((MessageKind::Response { id, is_error: true }, None))
        }
        _ => None,
    }
}

fn is_the_same(bytes: &[u8]) -> Result<(), TestCaseError> {
    let message = Message::parse(bytes.to_vec()).ok();
    let read = message.as_ref().map(|message| (message.kind().clone(), message.params()));
    prop_assert_eq!(&read, &typed(bytes), "{}", String::from_utf8_lossy(bytes));
    if let Some(message) = message.filter(Message::is_one_line) {
        let kept = crate::event::single_line(message.clone().into_bytes());
        prop_assert_eq!(kept.as_ptr(), message.as_bytes().as_ptr());
    }
    Ok(())
}

/// What JSON and messages are made of, and what they are not.
const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b" ",
    b"\n",
    b"\r",
    b"\t",
    b"\x0b",
    b"\xc2\xa0",
    b"\xef\xbb\xbf",
    b"null",
    b"true",
    b"false",
    b"nul",
    b"0",
    b"-0",
    b"1",
    b"-",
    b"01",
    b"1.",
    b".5",
    b"1.5",
    b"1e3",
    b"1E+",
    b"1e-7",
    b"18446744073709551616",
    b"NaN",
    b"\"",
    b"\\",
    b"\"\"",
    b"\"a\"",
    b"\"\\u0061\"",
    b"\"\\ud800\"",
    b"\"\\ud83d\\ude00\"",
    b"\"\\ude00\\ud83d\"",
    b"\"\\u00g0\"",
    b"\"\\x\"",
    b"\"\\/\\b\\f\\n\\r\\t\\\\\\\"\"",
    b"\"\x00\"",
    b"\"\x1f\"",
    b"\"\x7f\"",
    b"\"\n\"",
    b"\"\xc3\xa9\"",
    b"\"\xe2\x80\xa8\"",
    b"\"\xc2\x85\"",
    b"\"\xff\"",
    b"\"\xed\xa0\x80\"",
    b"\xe9",
    b"\"jsonrpc\":\"2.0\"",
    b"\"jsonrpc\":\"1.0\"",
    b"\"jsonrpc\":\"2\\u002e0\"",
    b"\"json\\u0072pc\":\"2.0\"",
    b"\"jsonrpc\"",
    b"\"2.0\"",
    b"\"id\":1",
    b"\"id\":\"a\"",
    b"\"id\":null",
    b"\"id\":1.0",
    b"\"id\":{}",
    b"\"id\":\"\\ud800\"",
    b"\"\\u0069d\":2",
    b"\"id\"",
    b"\"method\":\"m\"",
    b"\"method\":null",
    b"\"method\":7",
    b"\"method\":\"\\ud800\"",
    b"\"method\"",
    b"\"\\ud800\":1",
    b"\"params\":{}",
    b"\"params\":[1,{\"a\":2}]",
    b"\"params\":null",
    b"\"params\":1",
    b"\"params\"",
    b"\"result\":null",
    b"\"result\":{}",
    b"\"error\":{\"code\":1,\"message\":\"\"}",
    b"\"error\":7",
    b"\"other\":[]",
    b"\"\":0",
];

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::sample::select(PIECES), 0..12).prop_map(|pieces| pieces.concat())
}

/// An object of members, with white space and now and then something between them.
fn object() -> impl Strategy<Value = Vec<u8>> {
    let member =
        proptest::sample::select(PIECES.iter().copied().filter(|piece| piece.len() > 4).collect::<Vec<_>>());
    let space = proptest::sample::select(vec![&b""[..], b"", b"", b" ", b"\r\n\t"]);
    (proptest::collection::vec(member, 0..6), space, any::<bool>()).prop_map(
        |(mut members, space, is_message)| {
            if is_message {
                members.insert(0, b"\"jsonrpc\":\"2.0\"");
            }
            [space, b"{", space, &members.join(&[space, b",", space].concat()[..]), space, b"}", space]
                .concat()
        },
    )
}

/// A message of some size with any values in it.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,40}|[\"\\\\\n\u{2028}é漢a]{0,200}".prop_map(Into::into),
        "a{0,5000}".prop_map(Into::into),
    ];
    let value = leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::hash_map("[a-z\"\\\\é]{0,9}", inner, 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    });
    (value, any::<bool>(), any::<bool>()).prop_map(|(value, is_pretty, is_request)| {
        let message = if is_request {
            serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "m", "params": [value] })
        } else {
            serde_json::json!({ "jsonrpc": "2.0", "id": "x", "result": value })
        };
        if is_pretty { serde_json::to_vec_pretty(&message) } else { serde_json::to_vec(&message) }.unwrap()
    })
}

/// The same with a few bytes changed, cut out or put in.
fn damaged(source: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), proptest::sample::select(b"{}[]:,\"\\ 0n\n\x01".to_vec())];
    let change = (any::<proptest::sample::Index>(), byte, 0..3);
    (source, proptest::collection::vec(change, 0..4)).prop_map(|(mut bytes, changes)| {
        for (index, byte, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn of_any_pieces(bytes in pieces()) {
        is_the_same(&bytes)?;
    }

    #[test]
    fn of_an_object_of_any_members(bytes in damaged(object())) {
        is_the_same(&bytes)?;
    }

    #[test]
    fn of_a_message_whole_and_damaged(bytes in damaged(message())) {
        is_the_same(&bytes)?;
    }

    #[test]
    fn of_any_bytes_inside_a_string(bytes in proptest::collection::vec(any::<u8>(), 0..40), long in 0_usize..9000) {
        let inner = [&b"x".repeat(long)[..], &bytes].concat();
        is_the_same(&[b"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[\"", &inner[..], b"\"]}"].concat())?;
        is_the_same(&[b"{\"jsonrpc\":\"2.0\",\"method\":\"", &inner[..], b"\"}"].concat())?;
    }
}
