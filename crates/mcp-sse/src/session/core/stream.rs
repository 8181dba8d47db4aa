//! From the log to the client: streams come, take what waits, and go.

use std::{task::Waker, time::Instant};

use super::{
    Core,
    attachment::{Stream, Taken, attached},
};
use crate::{event, id::EventId, output::Output, replica::ReplicaId, session::error::CloseReason};

impl Core {
    /// A new stream continues after the event `sequence`, and the one before it, if any, ends. `None` if
    /// that is not possible without a gap.
    pub(crate) fn resume(&mut self, sequence: u64, now: Instant) -> Option<u64> {
        if self.close_reason().is_some() || !self.limits.resumes() || !self.log.rewind(sequence) {
            return None;
        }
        if let Stream::Attached { waker, .. } = std::mem::replace(&mut self.stream, attached(now)) {
            self.actions.add(waker);
        } else {
            self.actions.detached = Some(None);
        }
        self.generation += 1;
        self.figures.resumed += 1;
        self.notice_waiting(now);
        Some(self.generation)
    }

    /// A stream's response is gone.
    pub(crate) fn detach(&mut self, generation: u64, now: Instant) {
        if generation != self.generation || !self.is_attached() {
            return;
        }
        self.stream = Stream::Detached { since: now };
        if self.close_reason().is_some() {
            self.log.clear();
        } else if self.limits.resumes() {
            self.actions.detached = Some(Some(now));
        } else {
            self.close(CloseReason::ClientGone, now);
        }
    }

    /// A stream comes for what waits. Events go to `out`, behind what is there; what is there from `start` on
    /// waits to be sent too.
    pub(crate) fn poll_take(
        &mut self,
        generation: u64,
        out: &mut impl Output,
        start: usize,
        waker: &Waker,
        now: Instant,
    ) -> Taken {
        if !self.is_attached() || generation != self.generation {
            return Taken::End;
        }
        let events = self.log.has_unsent();
        if events {
            let at = self.at.as_ref().map(ReplicaId::as_str);
            let named = self.limits.resumes().then_some(EventId { session: self.id, sequence: 0, at });
            let taken = self.log.take(out, named, now);
            if self.close_reason().is_none() {
                self.outbound_gate.leave(taken.items, taken.bytes);
                // May be the last answer of a session that drains, and so its end.
                self.move_up(now);
            }
        } else if self.close_reason().is_some() && out.len() == start {
            return Taken::End;
        }
        let (closed, unsent) = (self.close_reason().is_some(), self.log.has_unsent());
        let Stream::Attached { waker: slot, last_write, waiting_since, keep_alive_due } = &mut self.stream
        else {
            return Taken::End;
        };
        if *keep_alive_due && !closed && !events {
            out.put(event::KEEP_ALIVE);
        }
        if out.len() == start {
            // What was taken before has left.
            *waiting_since = None;
            *slot = Some(waker.clone());
            return Taken::Nothing;
        }
        *waiting_since = unsent.then_some(now);
        *keep_alive_due = false;
        *last_write = now;
        if closed || unsent {
            return Taken::Chunk;
        }
        *slot = Some(waker.clone());
        Taken::All
    }

    /// The same for a stream that has not come since something waits. If the app is still at work on a
    /// request, several events leave together when it was let go on first.
    pub(crate) fn poll_first(
        &mut self,
        generation: u64,
        out: &mut impl Output,
        start: usize,
        waker: &Waker,
        now: Instant,
    ) -> Taken {
        /// As much waits already as is worth a write.
        const ENOUGH: usize = 64;
        if self.log.has_unsent() && !self.in_flight.is_empty() && self.outbound_gate.items() < ENOUGH {
            return Taken::Soon;
        }
        self.poll_take(generation, out, start, waker, now)
    }

    /// A stream cannot write all that it has taken and registers its waker; `some_left`: a part of it was written.
    /// `true` if the stream is over, and what it has taken is not wanted any more.
    pub(crate) fn poll_over(
        &mut self,
        generation: u64,
        some_left: bool,
        waker: &Waker,
        now: Instant,
    ) -> bool {
        let current = generation == self.generation;
        match &mut self.stream {
            Stream::Attached { waker: slot, waiting_since, .. } if current => {
                // Bytes that leave are what shows that the client reads.
                if some_left || waiting_since.is_none() {
                    *waiting_since = Some(now);
                }
                *slot = Some(waker.clone());
                false
            }
            Stream::Attached { .. } | Stream::Detached { .. } => true,
        }
    }

    /// Something may wait for the stream now: wakes it, and remembers since when.
    pub(super) fn notice_waiting(&mut self, now: Instant) {
        if let Stream::Attached { waker, waiting_since, keep_alive_due, .. } = &mut self.stream
            && (*keep_alive_due || self.log.has_unsent())
        {
            waiting_since.get_or_insert(now);
            let waker = waker.take();
            self.actions.add(waker);
        }
    }
}
