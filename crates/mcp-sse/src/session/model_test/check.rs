//! What must hold after every step, and at the end.

use std::collections::BTreeMap;

use super::*;

impl World {
    // ---- what must hold at any time -----------------------------------------------------------------

    /// Does what the driver does after every operation.
    pub(super) fn deliver(&mut self) {
        let actions = self.core.take_actions();
        if let Some(reason) = actions.closed {
            assert_eq!(self.told_closed.replace(reason), None, "a session closes once");
        }
        if let Some(detached) = actions.detached {
            self.told_detached = detached;
        }
        actions.wake();
    }

    pub(super) fn check(&mut self) {
        self.deliver();
        let Self { core, model, limits, .. } = self;
        assert_eq!(core.close_reason(), model.closed);
        assert_eq!(self.told_closed, model.closed);
        assert_eq!(core.is_attached(), model.attached.is_some());
        assert_eq!(core.requests_in_flight(), model.in_flight.len());
        let outbound = model.outbound_gate.items + model.backlog.len();
        assert_eq!(core.queued(), (model.inbound_gate.items, outbound));
        if model.closed.is_some() {
            assert_eq!((core.requests_in_flight(), core.queued()), (0, (0, 0)));
        }
        let waits_for_client = model.attached.is_none() && model.closed.is_none();
        let detached = waits_for_client.then_some(model.detached_since);
        assert_eq!(self.told_detached, detached, "the registry knows who waits for a client");

        for (gate, items, bytes) in [
            (&model.inbound_gate, limits.inbound_messages, limits.inbound_bytes),
            (&model.in_flight_gate, limits.in_flight_requests, limits.in_flight_bytes),
            (&model.outbound_gate, limits.outbound_messages, limits.outbound_bytes),
        ] {
            assert!(gate.items <= items && (gate.bytes <= bytes || gate.items == 1), "{gate:?}");
        }
        // Errors instead of answers may exceed the limit: one for each request in flight or about to be.
        let over = 2 * limits.in_flight_requests;
        assert!(model.backlog.len() <= limits.backlog_messages + over, "{:?}", model.backlog);
        let errors = over * 300;
        let largest = model.backlog.iter().map(|(_, text, _)| text.len()).max().unwrap_or_default();
        assert!(model.backlog_bytes() <= limits.backlog_bytes.max(largest) + errors, "{:?}", model.backlog);
        assert!(model.backlog.is_empty() || model.outbound_gate.items > 0, "who waits moves by itself");

        // A timer may fire earlier than needed, never later.
        for due in model.due().into_iter().chain(model.expires()) {
            assert!(core.deadline().is_some_and(|deadline| deadline <= due), "{due:?} would be missed");
        }
        self.check_wakes();
    }

    /// No task sleeps that could continue.
    pub(super) fn check_wakes(&self) {
        let model = &self.model;
        assert!(!(self.receiver.sleeps() && model.can_recv()), "the app sleeps");
        for response in self.responses.iter().filter(|response| response.waiter.sleeps()) {
            let next = model.for_stream(response.generation);
            let over = model.attached.is_none() || response.generation != model.generation;
            let waits = next == ForStream::Nothing || (response.blocked && !over);
            assert!(waits, "the stream {} sleeps: {next:?}", response.generation);
        }
        for sending in self.sends.iter().filter(|sending| sending.waiter.sleeps()) {
            assert_eq!(model.sent(sending.key), Step::Waits, "a send sleeps: {sending:?}");
        }
        for post in self.posts.iter().filter(|post| post.waiter.sleeps()) {
            let goes = match post.state {
                PostState::Reserving => {
                    model.closed.is_some() || model.inbound_gate.can_go(post.key, post.bytes)
                }
                // A duplicate is refused when it gets its place, not when the first request with its id
                // passes.
                _ => match model.refuses(&post.kind) {
                    Some(Refusal::DuplicateId) | None => model.in_flight_gate.can_go(post.key, post.cost),
                    Some(_) => true,
                },
            };
            assert!(!goes, "a POST sleeps: {post:?}");
        }
    }

    /// Polls all tasks that sleep. Each poll checks against the model that the task still has to wait.
    pub(super) fn ask_everybody(&mut self) {
        for at in (0..self.posts.len()).rev().filter(|at| self.posts[*at].waiter.sleeps()).collect::<Vec<_>>()
        {
            let duplicate = self.model.refuses(&self.posts[at].kind) == Some(Refusal::DuplicateId);
            let before = self.posts.len();
            self.post_goes_on(at);
            assert!(duplicate || self.posts.len() == before, "a POST slept that could go on");
            self.check();
        }
        for at in 0..self.sends.len() {
            if self.sends[at].waiter.sleeps() {
                self.send_goes_on(at);
                assert!(self.sends[at].waiter.waits, "a send slept that could go on");
            }
        }
        for at in 0..self.responses.len() {
            if self.responses[at].waiter.sleeps() && !self.responses[at].blocked {
                self.take(at, false);
                assert!(self.responses[at].waiter.waits, "a stream slept that could go on");
            }
        }
        if self.receiver.sleeps() {
            self.recv(false);
            assert!(self.receiver.waits, "the app slept that could go on");
        }
        self.check();
    }

    // ---- how it ends --------------------------------------------------------------------------------

    /// Every side behaves: the app answers what it has, the server writes, the client reads and resumes. Then
    /// no task may be left waiting, and every request has its answer.
    pub(super) fn settle(&mut self) {
        if self.model.attached.is_none() {
            self.apply(Op::Resume);
        }
        if self.model.attached.is_none() {
            return self.leave();
        }
        while self.model.closed.is_none() {
            let before = self.progress();
            self.apply(Op::Take { which: 0, first: false });
            self.apply(Op::Read(usize::MAX));
            while self.model.can_recv() && self.model.closed.is_none() {
                self.apply(Op::Recv { works: false });
                self.apply(Op::AnswerInitialize(true));
            }
            self.apply(Op::AnswerInitialize(true));
            while self.sends.first().is_some_and(|sending| !sending.waiter.sleeps()) {
                self.apply(Op::SendGoesOn(0));
            }
            while !self.unanswered.is_empty() {
                self.apply(Op::Answer(0, 1));
            }
            for at in (0..self.posts.len()).rev() {
                if self.posts.get(at).is_some_and(|post| !post.waiter.sleeps()) {
                    self.apply(Op::PostGoesOn(at));
                }
            }
            if self.progress() == before && !self.model.can_recv() {
                break;
            }
        }
        if self.model.closed.is_none() {
            assert_eq!((self.posts.len(), self.sends.len()), (0, 0), "somebody waits for ever");
            assert_eq!(self.model.in_flight.len(), 0, "a request was forgotten");
        }
        // A session that closed meanwhile still hands out what it holds, then its stream ends.
        let closed = self.model.closed.is_some();
        while self.responses.first().is_some_and(|response| !response.ended)
            && self.model.for_stream(self.model.generation) != ForStream::Nothing
        {
            self.apply(Op::Take { which: 0, first: false });
        }
        self.apply(Op::Read(usize::MAX));
        assert!(!closed || self.responses[0].ended, "the client sees the end of its stream");
        self.check_answers();
    }

    pub(super) fn progress(&self) -> [usize; 7] {
        let Self { posts, sends, unanswered, model, .. } = self;
        let reserving = posts.iter().filter(|post| post.state == PostState::Reserving).count();
        let queued = model.inbound_gate.items;
        [
            posts.len(),
            reserving,
            sends.len(),
            unanswered.len(),
            queued,
            model.sent.len() + model.cursor as usize,
            // A part of an event.
            self.responses.first().map_or(0, |response| response.partial.len()),
        ]
    }

    /// Every request was answered as often as it was accepted, except those that the client cancelled.
    pub(super) fn check_answers(&self) {
        assert_eq!(self.client.unread(), 0);
        let mut answers = BTreeMap::<i64, usize>::new();
        for text in &self.model.sent {
            let message = Message::parse(text.clone()).unwrap();
            if let Some(id) = message.id() {
                *answers.entry(id.to_string().parse().unwrap()).or_default() += 1;
            }
        }
        for (id, count) in &self.model.counts {
            let answered = answers.get(id).copied().unwrap_or(0);
            let at_least = count.accepted - count.cancelled;
            assert!((at_least..=count.accepted).contains(&answered), "request {id}: {answered}, {count:?}");
        }
    }

    /// The client neither reads nor reconnects: the session ends by itself.
    pub(super) fn leave(&mut self) {
        let patience = [
            self.limits.keep_alive.unwrap_or_default(),
            self.limits.stall_timeout,
            self.limits.resume_window,
            Duration::from_millis(1),
        ];
        let must_end =
            self.model.attached.is_none() || self.limits.keep_alive.is_some() || self.model.unsent() > 0;
        self.apply(Op::Pass { millis: patience.iter().sum::<Duration>().as_millis() as u64, on_time: true });
        assert!(!must_end || self.model.closed.is_some(), "a session without a reader stays for ever");
    }

    /// The last checks on a session that is closed.
    pub(super) fn is_over(&mut self) {
        self.apply(Op::Close(CloseReason::ClosedByServer));
        let reason = self.model.closed.unwrap();
        let message = Message::parse(r#"{"jsonrpc":"2.0","method":"n"}"#).unwrap();
        let sent = self.core.send(message.clone(), self.now);
        assert_eq!(sent.err(), Some(SendError::Closed(reason)));
        let waker = Waker::noop();
        assert_eq!(self.core.poll_reserve(1, &mut None, waker), Poll::Ready(Err(Refusal::Closed)));
        assert_eq!(
            self.core.poll_admit(&message, 1, &mut None, waker, self.now),
            Poll::Ready(Err(Refusal::Closed))
        );
        assert_eq!(self.core.resume(0, self.now), None);
        let sleeps =
            self.posts.iter().map(|post| &post.waiter).chain(self.sends.iter().map(|send| &send.waiter));
        assert!(!sleeps.chain([&self.receiver]).any(Waiter::sleeps), "everybody was told");
        while self.model.recv().is_some() {
            assert!(matches!(self.core.poll_recv(waker), Poll::Ready(Some(_))));
        }
        assert!(matches!(self.core.poll_recv(waker), Poll::Ready(None)));
        self.check();
    }
}
