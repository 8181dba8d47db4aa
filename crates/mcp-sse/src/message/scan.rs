//! Reads JSON only to check it, and to find where its parts are: nothing is decoded, nothing is copied.
//!
//! Invariants: what passes is JSON to the letter (RFC 8259), but for two things that the reader of a part finds
//! itself: whether the text is UTF-8, and whether the halves of surrogates in escapes belong together. No input
//! makes it recurse, so values may be nested as deeply as a message has bytes, at one bit a level.

use std::ops::Range;

/// Where some bytes are not what JSON has there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) at: usize,
    pub(super) expected: &'static str,
}

/// The name of a member: where it is, without its quotes.
pub(super) struct Name {
    pub(super) range: Range<usize>,
    pub(super) has_escapes: bool,
}

/// A reader of JSON, and where it is.
pub(super) struct Scanner<'a> {
    json: &'a [u8],
    at: usize,
    /// All bytes of all strings, or-ed.
    seen: u8,
    line_ends: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(json: &'a [u8]) -> Self {
        Self { json, at: 0, seen: 0, line_ends: false }
    }

    /// Whether all that was read is ASCII.
    pub(super) fn is_ascii(&self) -> bool {
        self.seen.is_ascii()
    }

    /// Whether there were line ends between what was read. Inside strings JSON has none.
    pub(super) fn has_line_ends(&self) -> bool {
        self.line_ends
    }

    /// Why it cannot go on from here.
    pub(super) fn expected(&self, expected: &'static str) -> Malformed {
        Malformed { at: self.at, expected }
    }

    /// The byte behind the white space, if there is one.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.json.get(self.at) {
                Some(b' ' | b'\t') => {}
                Some(b'\n' | b'\r') => self.line_ends = true,
                other => return other.copied(),
            }
            self.at += 1;
        }
    }

    /// Whether this byte is next, which is then taken.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// A member's name and the colon behind it.
    #[inline]
    pub(super) fn name(&mut self) -> Result<Name, Malformed> {
        if !self.take(b'"') {
            return Err(self.expected("the name of a member, in quotes"));
        }
        let start = self.at;
        let has_escapes = self.string()?;
        let name = Name { range: start..self.at - 1, has_escapes };
        if self.take(b':') { Ok(name) } else { Err(self.expected("a colon")) }
    }

    /// A whole value; where it is.
    pub(super) fn value(&mut self) -> Result<Range<usize>, Malformed> {
        self.peek();
        let start = self.at;
        let mut open = Open::default();
        loop {
            // A value begins.
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.string()?;
                }
                Some(b'{') => {
                    self.at += 1;
                    if !self.take(b'}') {
                        self.name()?;
                        open.push(Kind::Object);
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    if !self.take(b']') {
                        open.push(Kind::Array);
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                _ => return Err(self.expected("a value")),
            }
            // It has ended, and what it stands in may end with it.
            loop {
                let Some(kind) = open.innermost() else { return Ok(start..self.at) };
                if self.take(b',') {
                    if kind == Kind::Object {
                        self.name()?;
                    }
                    break;
                }
                let (end, expected) = match kind {
                    Kind::Object => (b'}', "a comma or the end of the object"),
                    Kind::Array => (b']', "a comma or the end of the array"),
                };
                if !self.take(end) {
                    return Err(self.expected(expected));
                }
                open.pop();
            }
        }
    }

    /// The rest of a string, behind its first quote; whether it has escapes.
    #[inline]
    fn string(&mut self) -> Result<bool, Malformed> {
        let mut has_escapes = false;
        loop {
            let rest = self.json.get(self.at..).unwrap_or_default();
            let (length, seen) = plain(rest);
            self.at += length;
            self.seen |= seen;
            match self.json.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(has_escapes);
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.expected("an escape for a control character")),
                None => return Err(self.expected("the end of the string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        let length = match self.json.get(self.at + 1..).unwrap_or_default() {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', digits @ ..]
                if digits.iter().take(4).filter(|digit| digit.is_ascii_hexdigit()).count() == 4 =>
            {
                6
            }
            _ => return Err(self.expected("an escape that JSON has")),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Result<(), Malformed> {
        self.take_in(b"-");
        // Nothing stands behind a zero at the start.
        if !self.take_in(b"0") {
            self.digits()?;
        } else if self.json.get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(self.expected("a number without zeros before it"));
        }
        if self.take_in(b".") {
            self.digits()?;
        }
        if self.take_in(b"eE") {
            self.take_in(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    /// Takes the next byte if it is one of these. Inside a number there is no white space.
    fn take_in(&mut self, bytes: &[u8]) -> bool {
        let is_one = self.json.get(self.at).is_some_and(|byte| bytes.contains(byte));
        self.at += usize::from(is_one);
        is_one
    }

    /// At least one of them.
    fn digits(&mut self) -> Result<(), Malformed> {
        let rest = self.json.get(self.at..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += length;
        if length == 0 { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Malformed> {
        let rest = self.json.get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal) {
            return Err(self.expected("a value"));
        }
        self.at += literal.len();
        Ok(())
    }
}

/// How many bytes at the start of these stand for themselves inside a string, and all of them or-ed.
#[inline]
fn plain(bytes: &[u8]) -> (usize, u8) {
    /// Most strings are names and short words, which are looked at eight bytes at a time.
    const SHORT: usize = 3;
    const HIGH: u64 = u64::MAX / 255 * 128;
    let or = |word: u64| if word & HIGH == 0 { 0 } else { 128 };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut seen = 0;
    for (index, word) in words.iter().take(SHORT).enumerate() {
        let word = u64::from_le_bytes(*word);
        let marks = not_plain(word);
        if marks != 0 {
            let length = marks.trailing_zeros() / 8;
            let before = word & !(u64::MAX << (8 * length));
            return (8 * index + length as usize, or(seen | before));
        }
        seen |= word;
    }
    if words.len() > SHORT {
        let (length, more) = plain_long(bytes.get(8 * SHORT..).unwrap_or_default());
        return (8 * SHORT + length, or(seen) | more);
    }
    let length = rest.iter().take_while(|&&byte| is_plain(byte)).count();
    let more = rest.iter().take(length).fold(0, |seen, byte| seen | byte);
    (8 * words.len() + length, or(seen) | more)
}

/// Marks the highest bit of the first byte of a word that does not stand for itself inside a string. Bytes behind
/// it may be marked too.
#[inline]
fn not_plain(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 128;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, b' ') | is(b'"') | is(b'\\')) & HIGH
}

/// The same for strings that are long. Two passes of vector instructions over a part that stays in the nearest
/// cache are faster than one pass that does both with those that every processor has.
fn plain_long(bytes: &[u8]) -> (usize, u8) {
    const PART: usize = 4096;
    let (mut length, mut seen) = (0, 0);
    for part in bytes.chunks(PART) {
        let end = memchr::memchr2(b'"', b'\\', part);
        let text = end.and_then(|end| part.get(..end)).unwrap_or(part);
        let (least, all) =
            text.iter().fold((u8::MAX, 0), |(least, all), &byte| (byte.min(least), all | byte));
        if least < b' ' {
            // Rare: what came is not JSON.
            return (length + text.iter().take_while(|&&byte| is_plain(byte)).count(), seen | all);
        }
        length += text.len();
        seen |= all;
        if end.is_some() {
            break;
        }
    }
    (length, seen)
}

/// Whether a byte stands for itself inside a string.
#[inline]
fn is_plain(byte: u8) -> bool {
    !matches!(byte, ..b' ' | b'"' | b'\\')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
}

/// The objects and arrays that are open: the lowest bit of `word` is the innermost one, and what does not fit
/// any more is in `outer`.
#[derive(Default)]
struct Open {
    word: u64,
    depth: usize,
    outer: Vec<u64>,
}

impl Open {
    const BITS: usize = u64::BITS as usize;

    fn push(&mut self, kind: Kind) {
        if self.depth > 0 && self.depth.is_multiple_of(Self::BITS) {
            self.outer.push(self.word);
        }
        self.word = self.word << 1 | u64::from(kind == Kind::Object);
        self.depth += 1;
    }

    fn innermost(&self) -> Option<Kind> {
        let kind = if self.word & 1 == 1 { Kind::Object } else { Kind::Array };
        (self.depth > 0).then_some(kind)
    }

    fn pop(&mut self) {
        self.word >>= 1;
        self.depth = self.depth.saturating_sub(1);
        if self.depth > 0 && self.depth.is_multiple_of(Self::BITS) {
            self.word = self.outer.pop().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_run_of_plain_bytes_is_found_wherever_it_is() {
        for length in 0..70 {
            for fill in [b'x', 0x7f, 0x80, 0xff, b' ', b'!', b'#', b'[', b']', 0xa2, 0xdc] {
                for end in [b'"', b'\\', 0, 1, 0x1f] {
                    for behind in [&b""[..], b"\"", b"xxxxxxxx", b"\x00\xff\\\"x\x1f\x20\x21\x22\x23"] {
                        let bytes = [&vec![fill; length][..], &[end], behind].concat();
                        let (found, seen) = plain(&bytes);
                        assert_eq!(found, length, "{bytes:?}");
                        // Behind a control character nothing is read any more.
                        if end >= b' ' {
                            assert_eq!(seen.is_ascii(), length == 0 || fill.is_ascii(), "{bytes:?}");
                        }
                    }
                }
                let (found, seen) = plain(&vec![fill; length]);
                assert_eq!((found, seen.is_ascii()), (length, length == 0 || fill.is_ascii()));
            }
        }
    }
}
