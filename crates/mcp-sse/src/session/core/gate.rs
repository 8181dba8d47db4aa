//! A limit on items and bytes, with a fair queue in front.
//!
//! There is a gate in front of the inbound queue and one in front of the requests in flight, at both of which
//! POSTs wait. The one in front of the outbound log has no queue: what does not pass goes to the backlog.
//!
//! A waiter passes when it is polled, so a POST that is not polled holds up those behind it, but only those
//! of its own session.
//!
//! A gate may have a turn, which is a lower limit on items. A waiter that would exceed only the turn can pass
//! late (`pass_late`). So a session that floods takes turns with the others, and a slow app still has its
//! whole queue.
//!
//! Invariants: waiters pass in the order of arrival; an item larger than the whole limit passes alone, so
//! nothing waits forever because of its size; a waiter that could pass now has been woken.

use std::{collections::VecDeque, task::Waker};

/// A place in the queue of one gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
pub(crate) struct Gate {
    max_items: usize,
    max_bytes: usize,
    /// With this many items inside, the next one waits for a while although there is room.
    turn: usize,
    items: usize,
    bytes: usize,
    next_ticket: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    bytes: usize,
    waker: Option<Waker>,
}

impl Gate {
    pub(crate) fn new(max_items: usize, max_bytes: usize) -> Self {
        Self {
            max_items,
            max_bytes,
            turn: max_items,
            items: 0,
            bytes: 0,
            next_ticket: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn with_turn(self, turn: usize) -> Self {
        Self { turn: turn.min(self.max_items), ..self }
    }

    /// Passes if there is room and no other item waits.
    pub(crate) fn try_pass(&mut self, bytes: usize) -> bool {
        let passes = self.waiting.is_empty() && self.fits(bytes);
        if passes {
            self.take(bytes);
        }
        passes
    }

    /// Whether [`try_pass`](Self::try_pass) would pass.
    pub(crate) fn would_pass(&self, bytes: usize) -> bool {
        self.waiting.is_empty() && self.fits(bytes)
    }

    /// Joins the end of the queue.
    pub(crate) fn queue(&mut self, bytes: usize) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.push_back(Waiting { ticket, bytes, waker: None });
        ticket
    }

    /// Passes if this ticket is the first in the queue and there is room; else registers the waker. A ticket
    /// that has passed is used up.
    pub(crate) fn poll(&mut self, ticket: Ticket, waker: &Waker) -> bool {
        match self.waiting.front() {
            Some(head) if head.ticket == ticket && self.fits(head.bytes) => {
                let bytes = head.bytes;
                self.waiting.pop_front();
                self.take(bytes);
                true
            }
            _ => {
                if let Some(waiting) = self.waiting.iter_mut().find(|w| w.ticket == ticket) {
                    waiting.waker = Some(waker.clone());
                }
                false
            }
        }
    }

    /// Passes in spite of the turn and of the tickets before it, if there is room. A ticket that has passed
    /// is used up.
    pub(crate) fn pass_late(&mut self, ticket: Ticket) -> bool {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.ticket == ticket) else { return false };
        let passes = self.has_room(self.waiting[at].bytes);
        if passes && let Some(waiting) = self.waiting.remove(at) {
            self.take(waiting.bytes);
        }
        passes
    }

    /// Removes a ticket from the queue.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        self.waiting.retain(|w| w.ticket != ticket);
    }

    /// Items leave, and free the room that they took.
    pub(crate) fn leave(&mut self, items: usize, bytes: usize) {
        debug_assert!(self.items >= items && self.bytes >= bytes);
        self.items = self.items.saturating_sub(items);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// An item inside turned out to be of another size.
    pub(crate) fn resize(&mut self, from: usize, to: usize) {
        self.bytes = self.bytes.saturating_sub(from).saturating_add(to);
    }

    /// The waker of the first in the queue, if it could pass now. To be called after anything that may free
    /// room or change who is first.
    pub(crate) fn next_to_wake(&mut self) -> Option<Waker> {
        let bytes = self.waiting.front()?.bytes;
        if self.fits(bytes) { self.waiting.front_mut()?.waker.take() } else { None }
    }

    /// The wakers of all waiters, which keep their places. For when they are going to be refused.
    pub(crate) fn wake_all(&mut self) -> impl Iterator<Item = Waker> {
        self.waiting.iter_mut().filter_map(|w| w.waker.take())
    }

    /// Frees memory that a burst needed.
    pub(crate) fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
    }

    /// Empties the gate and returns the wakers of all waiters.
    pub(crate) fn close(&mut self) -> impl Iterator<Item = Waker> + use<> {
        (self.items, self.bytes) = (0, 0);
        std::mem::take(&mut self.waiting).into_iter().filter_map(|w| w.waker)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn items(&self) -> usize {
        self.items
    }

    fn fits(&self, bytes: usize) -> bool {
        self.items == 0 || (self.items < self.turn && self.has_room(bytes))
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.items == 0 || (self.items < self.max_items && self.bytes.saturating_add(bytes) <= self.max_bytes)
    }

    fn take(&mut self, bytes: usize) {
        self.items += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_and_bytes_are_bounded_and_a_large_item_passes_alone() {
        let mut gate = Gate::new(2, 10);
        assert!(gate.try_pass(50), "alone");
        assert!(!gate.try_pass(1));
        gate.leave(1, 50);
        assert!(gate.try_pass(4) && gate.try_pass(6));
        assert!(!gate.try_pass(0), "a third item");
    }

    #[test]
    fn who_waits_is_served_in_order() {
        let mut gate = Gate::new(10, 10);
        let waker = Waker::noop();
        assert!(gate.try_pass(8));
        let (large, small) = (gate.queue(9), gate.queue(1));
        assert!(!gate.poll(small, waker), "would fit, but is not the first");
        assert!(!gate.poll(large, waker));
        assert!(!gate.try_pass(1), "nobody overtakes the queue");
        gate.leave(1, 8);
        assert!(gate.next_to_wake().is_some());
        assert!(gate.poll(large, waker));
        assert!(gate.poll(small, waker));
    }

    #[test]
    fn who_only_waits_for_a_turn_passes_late_up_to_the_bound() {
        let mut gate = Gate::new(3, 10).with_turn(1);
        assert!(gate.try_pass(1));
        let tickets = [gate.queue(1), gate.queue(1), gate.queue(1), gate.queue(10)];
        assert!(!gate.poll(tickets[0], Waker::noop()), "one has its turn");
        assert!(!gate.pass_late(tickets[3]), "no room for its bytes");
        assert!(gate.pass_late(tickets[1]) && gate.pass_late(tickets[0]));
        assert!(!gate.pass_late(tickets[2]), "full");
        gate.leave(3, 3);
        assert!(gate.poll(tickets[2], Waker::noop()), "its turn");
        assert!(!gate.pass_late(tickets[2]), "spent");
    }

    #[test]
    fn giving_up_a_place_lets_the_next_one_through() {
        let mut gate = Gate::new(10, 10);
        let waker = Waker::noop();
        assert!(gate.try_pass(8));
        let (first, second) = (gate.queue(9), gate.queue(2));
        assert!(!gate.poll(second, waker));
        gate.abandon(first);
        assert!(gate.next_to_wake().is_some());
        assert!(gate.poll(second, waker));
    }
}
