//! Events as bytes: what stands on the wire, to the letter.
//!
//! Rules (from the clients that are out there): LF line ends, one `data` line, a space after each colon,
//! `retry` only beside data. JSON must stand on one line, and three characters that some clients take for
//! line ends are escaped.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr2;

use crate::{id::EventId, output::Output, replica::ReplicaId};

/// A comment. Proxies cut silent streams at 60 s and more.
pub(crate) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

const MESSAGE: &[u8] = b"event: message\n";
/// `id: `, 32 digits, a colon, 20 digits, a colon, a replica, a line end.
const ID_ROOM: usize = 4 + 32 + 1 + 20 + 1 + ReplicaId::LONGEST + 1;
const DATA: &[u8] = b"data: ";
/// The end of an event.
pub(crate) const END: &[u8] = b"\n\n";

/// The bytes that a message event of `json` takes at most.
pub(crate) fn message_room(json: &[u8]) -> usize {
    MESSAGE.len() + ID_ROOM + DATA.len() + json.len() + END.len()
}

/// The first event of a stream: where to post, and how long to wait before a reconnect.
pub(crate) fn endpoint(out: &mut BytesMut, id: Option<EventId<'_>>, retry_millis: u128, uri: &str) {
    out.put_slice(b"event: endpoint\n");
    put_id(out, id);
    out.put_slice(format!("retry: {retry_millis}\n").as_bytes());
    out.put_slice(DATA);
    out.put_slice(uri.as_bytes());
    out.put_slice(b"\n\n");
}

/// What stands before the JSON of a message, which must have gone through [`single_line`]; [`END`] stands
/// behind it.
pub(crate) fn message_start(out: &mut impl Output, id: Option<EventId<'_>>) {
    out.put(MESSAGE);
    put_id(out, id);
    out.put(DATA);
}

fn put_id(out: &mut impl Output, id: Option<EventId<'_>>) {
    if let Some(EventId { session, sequence, at }) = id {
        out.put(b"id: ");
        out.put(&session.expose_digits());
        out.put(b":");
        out.put(itoa::Buffer::new().format(sequence).as_bytes());
        if let Some(at) = at {
            out.put(b":");
            out.put(at.as_bytes());
        }
        out.put(b"\n");
    }
}

/// Makes JSON fit into one `data` line that every client reads as one line: white space between tokens
/// goes where there are line ends, and U+2028, U+2029 and U+0085 (which valid JSON has inside strings
/// only) become escapes. Without any of these, which is the rule, nothing is copied.
pub(crate) fn single_line(json: Bytes) -> Bytes {
    // One pass says for most messages that there is nothing to do: no control characters, and all is ASCII.
    let (least, all) = json.iter().fold((u8::MAX, 0), |(least, all), &byte| (byte.min(least), all | byte));
    let has_line_ends = least < b' ' && memchr2(b'\n', b'\r', &json).is_some();
    if !has_line_ends && (all.is_ascii() || !has_break(&json, 0, json.len())) {
        return json;
    }
    let mut out = Vec::with_capacity(json.len() + 16);
    if has_line_ends {
        compact(&mut out, &json);
    } else {
        escape(&mut out, &json);
    }
    out.into()
}

/// Writes JSON without the white space between its tokens.
fn compact(out: &mut Vec<u8>, mut json: &[u8]) {
    let until = |json: &[u8], is_end: fn(u8) -> bool| json.iter().position(|&byte| is_end(byte));
    while !json.is_empty() {
        let tokens =
            until(json, |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'"')).unwrap_or(json.len());
        let (before, rest) = json.split_at(tokens);
        out.extend_from_slice(before);
        let length = if rest.starts_with(b"\"") {
            let length = string_length(rest);
            escape(out, &rest[..length]);
            length
        } else {
            until(rest, |byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(rest.len())
        };
        json = &rest[length..];
    }
}

/// How long the string is that these bytes begin with, with its quotes.
fn string_length(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(next) = json.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += next + 1;
        if json[at - 1] == b'"' {
            return at;
        }
        // What is escaped is no end.
        at += 1;
    }
    json.len()
}

/// Writes text with escapes for what clients take for line ends. A raw line end inside a string is not JSON;
/// were it passed on, it would break the framing.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    /// What is looked at together. If it has one of them, it is looked at byte by byte.
    const PART: usize = 256;
    let mut at = 0;
    while at < text.len() {
        let end = text.len().min(at + PART);
        if !has_break(text, at, end) {
            out.extend_from_slice(&text[at..end]);
            at = end;
        }
        while at < end {
            let (bytes, length) = line_break(&text[at..]).unwrap_or((&text[at..=at], 1));
            out.extend_from_slice(bytes);
            at += length;
        }
    }
}

/// Whether one of those begins in `start..end` of the text: what [`line_break`] finds, written so that it becomes
/// vector instructions.
fn has_break(text: &[u8], start: usize, end: usize) -> bool {
    let [first, second, third] = [0, 1, 2].map(|ahead| text.get(start + ahead..).unwrap_or_default());
    let threes = first.iter().zip(second).zip(third).take(end - start);
    let found = threes.fold(false, |found, ((&first, &second), &third)| {
        let separator = (first == 0xe2) & (second == 0x80) & (third & 0xfe == 0xa8);
        let next_line = (first == 0xc2) & (second == 0x85);
        found | separator | next_line | (first == b'\n') | (first == b'\r')
    });
    // The last two bytes have not two behind them.
    let last = text.len().saturating_sub(2).max(start);
    found || (last..end).any(|at| line_break(&text[at..]).is_some())
}

/// The escape of the character at the start of `bytes`, if it is one that clients take for a line end,
/// and how many bytes it takes.
fn line_break(bytes: &[u8]) -> Option<(&'static [u8], usize)> {
    match bytes {
        [b'\n', ..] => Some((b"\\n", 1)),
        [b'\r', ..] => Some((b"\\r", 1)),
        [0xe2, 0x80, 0xa8, ..] => Some((b"\\u2028", 3)),
        [0xe2, 0x80, 0xa9, ..] => Some((b"\\u2029", 3)),
        [0xc2, 0x85, ..] => Some((b"\\u0085", 2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SessionId;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    fn id(sequence: u64) -> Option<EventId<'static>> {
        Some(EventId { session: HEX.parse::<SessionId>().unwrap(), sequence, at: None })
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
        let long = format!(r#"{{"a":"{}"}}"#, "x’ é漢".repeat(1000));
        let others = "{\"a\":\"\u{2027}\u{202a}\u{84}\u{86}\"}";
        for json in [r#"{"a" : "é ° € … \n 漢字 😀"}"#, "{}", others, "{\t\"a\": 1 }", &long] {
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

    #[test]
    fn a_line_end_is_found_wherever_it_is() {
        for length in [0, 1, 15, 61, 252, 253, 254, 255, 256, 300] {
            for (character, escape) in
                [("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029"), ("\u{85}", "\\u0085")]
            {
                let json = |end: &str| format!(r#"{{"a":"{}{end}{end}é"}}"#, "x".repeat(length));
                assert_eq!(line(&json(character)), json(escape), "{length}");
                assert_eq!(line(&format!("{}\n", json(character))), json(escape), "{length}, and a line end");
                // No JSON ends so, but what does must not break the frame either.
                assert_eq!(line(&json(character)[..length + 6]), json("")[..length + 6]);
                let cut = format!("{}{character}", "é".repeat(length));
                assert_eq!(line(&cut), format!("{}{escape}", "é".repeat(length)), "{length}, at the end");
            }
        }
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
