//! Events as bytes: what stands on the wire, to the letter.
//!
//! Rules (from the clients that are out there): LF line ends, one `data` line, a space after each colon,
//! `retry` only beside data. JSON must stand on one line, and three characters that some clients take for
//! line ends are escaped.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr3;

use crate::id::{EventId, SessionId};

/// A comment. Proxies cut silent streams at 60 s and more.
pub(crate) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

const MESSAGE: &[u8] = b"event: message\n";
/// `id: `, 32 digits, a colon, 20 digits, a line end.
const ID_ROOM: usize = 4 + 32 + 1 + 20 + 1;
const DATA: &[u8] = b"data: ";
/// The end of an event.
pub(crate) const END: &[u8] = b"\n\n";

/// The bytes that a message event of `json` takes at most.
pub(crate) fn message_room(json: &[u8]) -> usize {
    MESSAGE.len() + ID_ROOM + DATA.len() + json.len() + END.len()
}

/// The first event of a stream: where to post, and how long to wait before a reconnect.
pub(crate) fn endpoint(out: &mut BytesMut, id: Option<EventId>, retry_millis: u128, uri: &str) {
    out.put_slice(b"event: endpoint\n");
    put_id(out, id);
    out.put_slice(format!("retry: {retry_millis}\n").as_bytes());
    out.put_slice(DATA);
    out.put_slice(uri.as_bytes());
    out.put_slice(b"\n\n");
}

/// What stands before the JSON of a message, which must have gone through [`single_line`]; [`END`] stands
/// behind it.
pub(crate) fn message_start(out: &mut BytesMut, id: Option<EventId>) {
    out.put_slice(MESSAGE);
    put_id(out, id);
    out.put_slice(DATA);
}

fn put_id(out: &mut BytesMut, id: Option<EventId>) {
    if let Some(EventId { session, sequence }) = id {
        out.put_slice(b"id: ");
        put_session(out, session);
        out.put_slice(b":");
        put_number(out, sequence);
        out.put_slice(b"\n");
    }
}

fn put_session(out: &mut BytesMut, session: SessionId) {
    out.put_slice(&session.expose_digits());
}

fn put_number(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.put_slice(&digits[at..]);
        }
    }
}

/// Makes JSON fit into one `data` line that every client reads as one line: white space between tokens
/// goes where there are line ends, and U+2028, U+2029 and U+0085 (which valid JSON has inside strings
/// only) become escapes. Without any of these, which is the rule, nothing is copied.
pub(crate) fn single_line(json: Bytes) -> Bytes {
    if memchr3(b'\n', b'\r', 0xe2, &json).is_none() && memchr::memchr(0xc2, &json).is_none() {
        return json;
    }
    let Some(first) = first_to_change(&json) else { return json };
    let has_line_ends = memchr::memchr2(b'\n', b'\r', &json).is_some();
    let from = if has_line_ends { 0 } else { first };
    let mut out = Vec::with_capacity(json.len() + 16);
    out.extend_from_slice(&json[..from]);
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = &json[from..];
    while let Some(&byte) = rest.first() {
        if let Some((escape, length)) = line_separator(rest) {
            out.extend_from_slice(escape);
            rest = &rest[length..];
            continue;
        }
        if has_line_ends {
            if in_string {
                in_string = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
            } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                rest = &rest[1..];
                continue;
            } else {
                in_string = byte == b'"';
            }
        }
        // A raw line end inside a string is not JSON; were it passed on, it would break the framing.
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => out.push(byte),
        }
        rest = &rest[1..];
    }
    out.into()
}

fn first_to_change(json: &[u8]) -> Option<usize> {
    (0..json.len()).find(|&at| matches!(json[at], b'\n' | b'\r') || line_separator(&json[at..]).is_some())
}

/// The escape of the character at the start of `bytes`, if it is one that clients take for a line end,
/// and how many bytes it takes.
fn line_separator(bytes: &[u8]) -> Option<(&'static [u8], usize)> {
    match bytes {
        [0xe2, 0x80, 0xa8, ..] => Some((b"\\u2028", 3)),
        [0xe2, 0x80, 0xa9, ..] => Some((b"\\u2029", 3)),
        [0xc2, 0x85, ..] => Some((b"\\u0085", 2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    fn id(sequence: u64) -> Option<EventId> {
        Some(EventId { session: HEX.parse::<SessionId>().unwrap(), sequence })
    }

    fn line(json: &str) -> String {
        String::from_utf8(single_line(Bytes::copy_from_slice(json.as_bytes())).to_vec()).unwrap()
    }

    #[test]
    fn the_endpoint_event_is_one_block_with_retry_and_data() {
        let mut out = BytesMut::new();
        endpoint(&mut out, id(0), 1000, "/messages/?session_id=x");
        let expected =
            format!("event: endpoint\nid: {HEX}:0\nretry: 1000\ndata: /messages/?session_id=x\n\n");
        assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn a_message_event_is_one_block_with_one_data_line() {
        let mut out = BytesMut::new();
        for id in [id(12), None] {
            message_start(&mut out, id);
            out.put_slice(b"{}");
            out.put_slice(END);
        }
        let expected = format!("event: message\nid: {HEX}:12\ndata: {{}}\n\nevent: message\ndata: {{}}\n\n");
        assert_eq!(out, expected.as_bytes());
        assert!(expected.len() <= 2 * message_room(b"{}"));
    }

    #[test]
    fn what_clients_take_for_line_ends_is_escaped() {
        assert_eq!(line("{\"a\":\"x\u{2028}y\u{2029}z\u{85}\"}"), r#"{"a":"x\u2028y\u2029z\u0085"}"#);
    }

    #[test]
    fn other_text_is_left_alone_and_not_copied() {
        for json in [r#"{"a" : "é ° € … \n 漢字 😀"}"#, "{}", "{\"a\":\"\u{2027}\u{202a}\u{84}\u{86}\"}"]
        {
            let bytes = Bytes::copy_from_slice(json.as_bytes());
            let start = bytes.as_ptr();
            let out = single_line(bytes);
            assert_eq!(out, json.as_bytes());
            assert_eq!(out.as_ptr(), start);
        }
    }

    #[test]
    fn json_over_several_lines_is_compacted() {
        assert_eq!(
            line("{\r\n  \"a\": [1,\n\t2],\n \"b c\": \"\\\" \\\\\"\n}\n"),
            r#"{"a":[1,2],"b c":"\" \\"}"#
        );
    }

    proptest::proptest! {
        #[test]
        fn the_value_is_kept_and_stands_on_one_line(text in "\\PC*|[\u{2028}\u{2029}\u{85}\n\r \"\\\\a]{0,40}", pretty: bool) {
            let value = serde_json::json!({ "k": [text.clone(), { text: 1 }] });
            let json = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let out = single_line(json.into());
            let text = std::str::from_utf8(&out).unwrap();
            let line_ends = ['\n', '\r', '\u{2028}', '\u{2029}', '\u{85}'];
            proptest::prop_assert!(!text.contains(line_ends), "more than one line");
            proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), value);
        }
    }
}
