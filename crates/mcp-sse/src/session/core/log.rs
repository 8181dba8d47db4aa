//! The outbound log: what the app sent, and a cursor up to which the stream has taken it.
//!
//! Invariants: events are numbered from 1 without gaps; `first <= cursor <= next`; what the stream has
//! not taken is never evicted; what it has taken stays, within the replay bound, for a client that
//! resumes.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use crate::{event, id::EventId, output::Output};

/// How much leaves in one chunk at most; a larger event leaves in several. Small enough that a session with
/// much to say shares its server fairly, and that each chunk that leaves shows that its client reads.
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Log {
    /// Events `first..first + len`.
    events: VecDeque<Bytes>,
    first: u64,
    /// The next one that the stream takes.
    cursor: u64,
    /// How much of its JSON the stream has taken already.
    offset: usize,
    /// One above the highest that any stream has taken.
    taken: u64,
    /// Bytes of `first..cursor`.
    replay_bytes: usize,
    max_replay_bytes: usize,
    max_replay_events: usize,
    /// When the stream last took something.
    last_taken: Option<Instant>,
}

/// The events that a stream took and that no stream had taken before, to be given back to the gate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

impl Log {
    pub(crate) fn new(max_replay_events: usize, max_replay_bytes: usize) -> Self {
        Self {
            events: VecDeque::new(),
            first: 1,
            cursor: 1,
            offset: 0,
            taken: 1,
            replay_bytes: 0,
            max_replay_bytes,
            max_replay_events,
            last_taken: None,
        }
    }

    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Adds an event; its sequence number.
    pub(crate) fn push(&mut self, json: Bytes) -> u64 {
        self.events.push_back(json);
        self.next() - 1
    }

    /// The last events, with their sequence numbers, up to so many bytes in all.
    pub(crate) fn tail(&self, bytes: usize) -> Vec<(u64, Bytes)> {
        let mut rest = bytes;
        let fits = |json: &&Bytes| {
            let fits = json.len() <= rest;
            rest = rest.saturating_sub(json.len());
            fits
        };
        let count = self.events.iter().rev().take_while(fits).count();
        let first = self.events.len() - count;
        let numbers = self.first + first as u64..;
        numbers.zip(self.events.iter().skip(first).cloned()).collect()
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.cursor < self.next()
    }

    /// Writes what waits to `out`, up to a chunk's size: whole events, or the next part of one that is larger
    /// than a chunk. `named` is the id of an event of the session, if they bear ids.
    pub(crate) fn take(&mut self, out: &mut impl Output, named: Option<EventId<'_>>, now: Instant) -> Taken {
        let mut taken = Taken::default();
        let mut index = (self.cursor - self.first) as usize;
        let end = out.len() + CHUNK_BYTES;
        out.reserve(self.next_chunk(index));
        let mut is_empty = true;
        while let Some(json) = self.events.get(index) {
            let whole = event::message_room(json) <= CHUNK_BYTES;
            if whole && out.len() + event::message_room(json) > end {
                break;
            }
            // A large event begins and ends a chunk.
            if !whole && !is_empty {
                break;
            }
            is_empty = false;
            if self.offset == 0 {
                event::message_start(out, named.map(|id| EventId { sequence: self.cursor, ..id }));
            }
            let part = json.len().min(self.offset + (end - out.len()).saturating_sub(event::END.len()));
            out.put_part(json, self.offset..part);
            if part < json.len() {
                self.offset = part;
                break;
            }
            out.put(event::END);
            self.offset = 0;
            if self.cursor >= self.taken {
                taken.items += 1;
                taken.bytes += json.len();
            }
            self.replay_bytes += json.len();
            self.cursor += 1;
            index += 1;
            if !whole {
                break;
            }
        }
        self.taken = self.taken.max(self.cursor);
        self.last_taken = Some(now);
        self.evict(self.max_replay_events, self.max_replay_bytes);
        taken
    }

    /// How many bytes a chunk takes at most that begins with this event.
    fn next_chunk(&self, index: usize) -> usize {
        let mut room = 0;
        for json in self.events.iter().skip(index) {
            room += event::message_room(json);
            if room >= CHUNK_BYTES {
                return CHUNK_BYTES;
            }
        }
        room
    }

    /// Goes back so that the next event taken is the one after `sequence`. `false` if that is not
    /// possible without a gap: it was evicted, or never sent.
    pub(crate) fn rewind(&mut self, sequence: u64) -> bool {
        let to = sequence.saturating_add(1);
        if to < self.first || to > self.taken {
            return false;
        }
        self.offset = 0;
        // Both loops run over at most the replay bound.
        while self.cursor > to {
            self.cursor -= 1;
            self.replay_bytes -= self.events[(self.cursor - self.first) as usize].len();
        }
        while self.cursor < to {
            self.replay_bytes += self.events[(self.cursor - self.first) as usize].len();
            self.cursor += 1;
        }
        true
    }

    /// When everything taken is old enough to be forgotten.
    pub(crate) fn forget_at(&self, after: std::time::Duration) -> Option<Instant> {
        if self.cursor > self.first { self.last_taken.map(|at| at + after) } else { None }
    }

    /// Forgets all that the stream has taken.
    pub(crate) fn forget_taken(&mut self) {
        self.evict(0, 0);
    }

    /// Gives back memory that a burst took.
    pub(crate) fn shrink(&mut self) {
        self.events.shrink_to_fit();
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.first = self.next();
        (self.cursor, self.offset) = (self.first, 0);
        self.events = VecDeque::new();
        self.replay_bytes = 0;
    }

    fn evict(&mut self, max_events: usize, max_bytes: usize) {
        while self.first < self.cursor
            && ((self.cursor - self.first) as usize > max_events || self.replay_bytes > max_bytes)
        {
            if let Some(json) = self.events.pop_front() {
                self.replay_bytes -= json.len();
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn log(events: usize, max_replay_events: usize, max_replay_bytes: usize) -> Log {
        let mut log = Log::new(max_replay_events, max_replay_bytes);
        for n in 1..=events {
            log.push(Bytes::from(format!("[{n}]")));
        }
        log
    }

    #[allow(clippy::disallowed_methods, reason = "some instant")]
    fn take(log: &mut Log) -> (String, usize) {
        let mut out = BytesMut::new();
        let taken = log.take(&mut out, None, Instant::now());
        let text = String::from_utf8(out.to_vec()).unwrap();
        (text.replace("event: message\ndata: ", "").replace("\n\n", ""), taken.items)
    }

    #[test]
    fn all_that_waits_leaves_together() {
        let mut log = log(3, 9, 99);
        assert_eq!(take(&mut log), ("[1][2][3]".into(), 3));
        assert!(!log.has_unsent());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "some instant")]
    fn a_chunk_is_bounded_and_a_larger_event_leaves_in_several() {
        let mut log = log(0, 9, 99);
        for size in [CHUNK_BYTES * 3, 10, CHUNK_BYTES - 1000, 2000] {
            log.push(Bytes::from(vec![b'x'; size]));
        }
        let (mut sizes, mut all) = (Vec::new(), BytesMut::new());
        while log.has_unsent() {
            let mut out = BytesMut::new();
            let taken = log.take(&mut out, None, Instant::now());
            assert!(out.len() <= CHUNK_BYTES);
            all.extend_from_slice(&out);
            sizes.push(taken.items);
        }
        assert_eq!(sizes, [0, 0, 0, 1, 2, 1]);
        let text = String::from_utf8(all.to_vec()).unwrap();
        let events = text.split_terminator("\n\n");
        let lengths: Vec<_> =
            events.map(|event| event.strip_prefix("event: message\ndata: ").unwrap().len()).collect();
        assert_eq!(lengths, [CHUNK_BYTES * 3, 10, CHUNK_BYTES - 1000, 2000]);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "some instant")]
    fn an_event_that_was_taken_in_part_is_taken_from_its_start_after_a_rewind() {
        let mut log = log(1, 9, 99);
        log.push(Bytes::from(vec![b'x'; CHUNK_BYTES * 2]));
        take(&mut log);
        take(&mut log);
        assert!(log.rewind(1));
        let mut out = BytesMut::new();
        log.take(&mut out, None, Instant::now());
        assert!(out.starts_with(b"event: message\ndata: xxx"));
    }

    #[test]
    fn a_rewind_replays_what_was_kept_and_does_not_count_it_again() {
        let mut log = log(3, 2, 99);
        take(&mut log);
        assert!(!log.rewind(0), "1 was evicted");
        assert!(!log.rewind(4), "4 was never sent");
        assert!(log.rewind(1));
        assert_eq!(take(&mut log), ("[2][3]".into(), 0));
        assert!(log.rewind(3), "nothing to replay");
        assert!(!log.has_unsent());
    }

    #[test]
    fn a_replay_that_broke_off_loses_nothing_of_what_lies_ahead() {
        let mut log = Log::new(9, CHUNK_BYTES * 9);
        for _ in 0..3 {
            log.push(Bytes::from(vec![b'x'; CHUNK_BYTES - 1000]));
        }
        while log.has_unsent() {
            take(&mut log);
        }
        assert!(log.rewind(0));
        assert_eq!(take(&mut log).1, 0, "one of three again");
        assert!(log.rewind(3), "an earlier stream had them all");
        assert!(log.rewind(2));
        assert_eq!(take(&mut log).1, 0);
    }

    #[test]
    fn what_was_taken_is_forgotten_on_request_and_the_rest_is_kept() {
        let mut log = log(2, 9, 99);
        take(&mut log);
        log.push(Bytes::from_static(b"[3]"));
        log.forget_taken();
        assert!(!log.rewind(1));
        assert!(log.rewind(2));
        assert_eq!(take(&mut log), ("[3]".into(), 1));
    }
}
