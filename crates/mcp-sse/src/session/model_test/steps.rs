//! Applies each operation to the core and to the model, and compares the results.

use super::*;

fn pick<T>(of: &[T], which: usize) -> Option<usize> {
    (!of.is_empty()).then(|| which % of.len())
}

impl World {
    pub(super) fn apply(&mut self, op: Op) {
        match op {
            Op::Post { what, size, slack, through } => self.post(what, size, slack, through),
            Op::PostGoesOn(which) => {
                if let Some(at) = pick(&self.posts, which) {
                    self.post_goes_on(at);
                }
            }
            Op::PostEnds(which) => {
                if let Some(at) = pick(&self.posts, which) {
                    self.post_ends(at);
                }
            }
            Op::PostIsLate(which) => {
                if let Some(at) = pick(&self.posts, which) {
                    self.post_is_late(at);
                }
            }
            Op::Recv { works } => self.recv(works),
            Op::WorkEnds(which) => {
                if let Some(at) = pick(&self.works, which) {
                    let (key, work) = self.works.swap_remove(at);
                    drop(work);
                    self.model.work_ends(key);
                }
            }
            Op::Answer(which, size) => {
                if let Some(at) = pick(&self.unanswered, which) {
                    let id = self.unanswered.swap_remove(at);
                    let pad = "x".repeat(size);
                    self.send(
                        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"p":"{pad}"}}}}"#),
                        Some(id),
                        false,
                    );
                }
            }
            Op::AnswerInitialize(ok) => self.answer_initialize(ok),
            Op::Notify { size, tries } => {
                let (n, pad) = (self.next(), "x".repeat(size));
                self.send(
                    format!(r#"{{"jsonrpc":"2.0","method":"n","params":{{"n":{n},"p":"{pad}"}}}}"#),
                    None,
                    tries,
                );
            }
            Op::SendGoesOn(which) => {
                if let Some(at) = pick(&self.sends, which) {
                    self.send_goes_on(at);
                }
            }
            Op::SendEnds(which) => {
                if let Some(at) = pick(&self.sends, which) {
                    // Its future is never polled; the message moves up anyway.
                    self.sends.remove(at);
                }
            }
            Op::Take { which, first } => {
                if let Some(at) = pick(&self.responses, which) {
                    self.take(at, first);
                }
            }
            #[cfg(feature = "server")]
            Op::Blocked { which, some_left } => {
                if let Some(at) = pick(&self.responses, which) {
                    self.blocked(at, some_left);
                }
            }
            #[cfg(not(feature = "server"))]
            Op::Blocked { .. } => {}
            Op::Read(bytes) => self.client.read(bytes),
            Op::Break(which) => {
                if let Some(at) = pick(&self.responses, which) {
                    let response = self.responses.remove(at);
                    if response.generation == self.client.generation {
                        self.client.lose_the_wire();
                    }
                    self.core.detach(response.generation, self.now);
                    self.model.detach(response.generation, self.now);
                }
            }
            Op::Resume => {
                if let Some(last) = self.client.last {
                    self.resume(last);
                }
            }
            Op::ResumeAfter(sequence) => self.resume(sequence),
            Op::Pass { millis, on_time } => self.pass(millis, on_time),
            Op::Timer => {
                let deadline = self.core.deadline();
                if deadline.is_some_and(|deadline| deadline <= self.now) {
                    self.on_deadline();
                } else {
                    self.core.on_deadline(self.now);
                    assert_eq!(self.core.deadline(), deadline, "nothing was due");
                }
            }
            Op::Authorize(millis) => {
                let until = millis.map(|millis| self.now + Duration::from_millis(millis));
                self.core.authorize_until(until);
                self.model.authorized_until = until;
            }
            Op::Drain => {
                self.core.drain(self.now);
                self.model.drain(self.now);
            }
            Op::CloseIfDetached => {
                self.core.close_if_detached(CloseReason::Evicted, self.now);
                if self.model.attached.is_none() {
                    self.model.close(CloseReason::Evicted, self.now);
                }
            }
            Op::Close(reason) => {
                self.core.close(reason, self.now);
                self.model.close(reason, self.now);
            }
        }
        self.check();
    }

    // ---- POST: as `Reservation` and `Admission` of the driver do it ---------------------------------

    pub(super) fn post(&mut self, what: What, size: usize, slack: usize, through: bool) {
        let in_flight: Vec<i64> = self.model.in_flight.keys().copied().collect();
        let fresh = self.next() as i64;
        let pad = "x".repeat(size);
        let request = |id: i64, method: &str| {
            let json =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"p":"{pad}"}}}}"#);
            (json, Kind::Request(id))
        };
        let version = Some("2025-06-18");
        let ((json, kind), hand) = match what {
            What::Request => (request(fresh, "m"), Hand::Bare(None)),
            What::SameId(which) => {
                let id = pick(&in_flight, which).map_or(1, |at| in_flight[at]);
                (request(id, "m"), Hand::Bare(None))
            }
            What::RequestWithVersion => (request(fresh, "m"), Hand::Bare(version)),
            What::Notification => {
                let json =
                    format!(r#"{{"jsonrpc":"2.0","method":"n","params":{{"n":{fresh},"p":"{pad}"}}}}"#);
                ((json, Kind::Other), Hand::Bare(None))
            }
            What::Response => {
                let json = format!(r#"{{"jsonrpc":"2.0","id":{fresh},"result":{{"p":"{pad}"}}}}"#);
                ((json, Kind::Other), Hand::Bare(None))
            }
            What::Cancel(which) => {
                let id = pick(&in_flight, which).map_or(1, |at| in_flight[at]);
                let json = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"n":{fresh}}}}}"#
                );
                ((json, Kind::Cancel(id)), Hand::Bare(None))
            }
            What::Ping => (request(fresh, "ping"), Hand::Before),
            What::Initialize => (request(fresh, "initialize"), Hand::Shaken),
            What::Stateless => {
                let json = format!(
                    r#"{{"jsonrpc":"2.0","id":{fresh},"method":"m","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}}}}"#
                );
                ((json, Kind::Request(fresh)), Hand::Shaken)
            }
        };
        let cost = json.len();
        #[cfg(feature = "server")]
        if slack == 0 && through && self.post_at_once(&json, fresh as Key, &kind, hand) {
            return;
        }
        self.posts.push(Post {
            key: fresh as Key,
            message: Message::parse(json).unwrap(),
            kind,
            hand,
            bytes: cost + slack,
            cost,
            state: PostState::Reserving,
            ticket: None,
            waiter: Waiter::default(),
        });
        let at = self.posts.len() - 1;
        self.post_goes_on(at);
        if through && self.posts.get(at).is_some_and(|post| post.state == PostState::Reserved) {
            self.post_goes_on(at);
        }
    }

    /// A POST whose body has arrived whole; `false` if it has to wait.
    #[cfg(feature = "server")]
    fn post_at_once(&mut self, json: &str, key: Key, kind: &Kind, hand: Hand) -> bool {
        let cost = json.len();
        let version = if let Hand::Bare(version) = hand { version } else { None };
        let mut content = Some((Message::parse(json.to_owned()).unwrap(), head(version)));
        let accepted = self.core.accept_at_once(&mut content, cost, self.now);
        assert_eq!(accepted.is_none(), content.is_some());
        let reserved = self.model.reserve(key, cost);
        let expected = match reserved {
            Step::Goes => match self.model.admit(key, kind, cost, self.now) {
                Step::Goes => {
                    self.model.accept(json, kind, hand, cost, cost, self.now);
                    assert_eq!(accepted, Some(Ok(())));
                    return true;
                }
                Step::Fails(refusal) => Some(Err(refusal)),
                Step::Waits => None,
            },
            Step::Fails(Refusal::Closed) => Some(Err(Refusal::Closed)),
            Step::Fails(_) | Step::Waits => None,
        };
        assert_eq!(accepted, expected);
        self.model.cancel_admit(key);
        self.model.cancel_reserve(key, (reserved == Step::Goes).then_some(cost));
        expected.is_some()
    }

    pub(super) fn post_goes_on(&mut self, at: usize) {
        let post = &mut self.posts[at];
        let waker = post.waiter.waker();
        let (polled, expected) = if post.state == PostState::Reserving {
            (
                self.core.poll_reserve(post.bytes, &mut post.ticket, &waker),
                self.model.reserve(post.key, post.bytes),
            )
        } else {
            let polled = self.core.poll_admit(&post.message, post.cost, &mut post.ticket, &waker, self.now);
            (polled, self.model.admit(post.key, &post.kind, post.cost, self.now))
        };
        let stepped = match polled {
            Poll::Pending => Step::Waits,
            Poll::Ready(Ok(())) => Step::Goes,
            Poll::Ready(Err(refusal)) => Step::Fails(refusal),
        };
        assert_eq!(stepped, expected, "{post:?}");
        post.waiter.waits = stepped == Step::Waits;
        match (stepped, post.state) {
            (Step::Waits, _) => {}
            (Step::Goes, PostState::Reserving) => post.state = PostState::Reserved,
            (Step::Goes, _) => {
                let version = if let Hand::Bare(version) = post.hand { version } else { None };
                self.core.accept(post.message.clone(), head(version), post.bytes, post.cost, self.now);
                let text = post.message.as_str();
                self.model.accept(text, &post.kind, post.hand, post.bytes, post.cost, self.now);
                post.state = PostState::Done;
                self.posts.swap_remove(at);
            }
            (Step::Fails(_), _) => self.post_ends(at),
        }
    }

    pub(super) fn post_is_late(&mut self, at: usize) {
        let post = &mut self.posts[at];
        if post.state != PostState::Reserving {
            return;
        }
        let goes = self.core.reserve_late(&mut post.ticket);
        assert_eq!(goes, self.model.reserve_late(post.key, post.bytes), "{post:?}");
        if goes {
            post.state = PostState::Reserved;
            post.waiter.waits = false;
        }
    }

    pub(super) fn post_ends(&mut self, at: usize) {
        self.deliver();
        let post = self.posts.swap_remove(at);
        match post.state {
            PostState::Reserving => {
                if post.ticket.is_some() {
                    self.core.cancel_reserve(None, post.ticket);
                }
                self.model.cancel_reserve(post.key, None);
            }
            PostState::Reserved => {
                if let Some(ticket) = post.ticket {
                    self.core.cancel_admit(ticket);
                    self.deliver();
                }
                self.model.cancel_admit(post.key);
                self.core.cancel_reserve(Some(post.bytes), None);
                self.model.cancel_reserve(post.key, Some(post.bytes));
            }
            PostState::Done => {}
        }
    }

    // ---- the app ------------------------------------------------------------------------------------

    /// `works`: the app tells how long it works on a request.
    pub(super) fn recv(&mut self, works: bool) {
        let waker = self.receiver.waker();
        let can_recv = self.model.can_recv();
        let polled = self.core.poll_recv(&waker);
        self.receiver.waits = polled.is_pending();
        let Poll::Ready(incoming) = polled else {
            assert!(!can_recv, "the app is kept waiting");
            return;
        };
        assert!(can_recv, "the app got {incoming:?} too early");
        let expected = self.model.recv();
        let Some(Incoming { message, head }) = incoming else {
            assert_eq!(expected, None, "the app saw the end too early");
            return;
        };
        let text = message.as_str();
        match expected.expect("the app should see the end") {
            ForApp::Text(expected) => {
                assert_eq!(text, expected);
                if let Some(id) = message.id().filter(|_| message.method().is_some()) {
                    let number: i64 = id.to_string().parse().unwrap();
                    self.unanswered.push(number);
                    #[cfg(feature = "rmcp-3")]
                    if works {
                        let key = self.next();
                        self.works.push((key, self.core.work_on(id, self.now)));
                        self.model.work_on(number, key, self.now);
                    }
                    #[cfg(not(feature = "rmcp-3"))]
                    let _ = works;
                }
            }
            ForApp::MadeUpInitialize(version) => {
                assert_eq!(message.method(), Some("initialize"));
                let value: serde_json::Value = serde_json::from_str(text).unwrap();
                assert_eq!(value["params"]["protocolVersion"], version);
                let named = head
                    .parts()
                    .headers
                    .get("mcp-protocol-version")
                    .map_or("2024-11-05", |v| v.to_str().unwrap());
                assert_eq!(named, version, "it comes with the head of the client's request");
            }
            ForApp::MadeUpInitialized => assert_eq!(message.method(), Some("notifications/initialized")),
        }
    }

    pub(super) fn answer_initialize(&mut self, ok: bool) {
        if !self.model.answer_initialize(ok) {
            return;
        }
        let result = if ok { r#""result":{}"# } else { r#""error":{"code":1,"message":"no"}"# };
        let json = format!(r#"{{"jsonrpc":"2.0","id":"mcp-sse/synthesized-initialize",{result}}}"#);
        let sent = self.core.send(Message::parse(json).unwrap(), self.now);
        assert!(matches!(sent, Ok(Sent::InLog)), "{sent:?}");
    }

    pub(super) fn send(&mut self, text: String, answers: Option<i64>, tries: bool) {
        let key = self.next();
        let expected = self.model.send(key, &text, answers, tries, self.now);
        let message = Message::parse(text).unwrap();
        let sent = if tries {
            self.core.try_send(message, self.now).map(|()| Sent::InLog)
        } else {
            self.core.send(message, self.now)
        };
        match sent {
            Ok(Sent::InLog) => assert_eq!(expected, Step::Goes),
            Err(error) => assert_eq!(expected, Step::Fails(error)),
            Ok(Sent::Waits(ticket)) => {
                assert_eq!(expected, Step::Waits);
                self.sends.push(Sending { key, ticket, waiter: Waiter::default() });
            }
        }
    }

    pub(super) fn send_goes_on(&mut self, at: usize) {
        let sending = &mut self.sends[at];
        let waker = sending.waiter.waker();
        let polled = match self.core.poll_sent(sending.ticket, &waker) {
            Poll::Pending => Step::Waits,
            Poll::Ready(Ok(())) => Step::Goes,
            Poll::Ready(Err(error)) => Step::Fails(error),
        };
        assert_eq!(polled, self.model.sent(sending.key), "{sending:?}");
        sending.waiter.waits = polled == Step::Waits;
        if !sending.waiter.waits {
            self.sends.remove(at);
        }
    }

    // ---- the stream and its client ------------------------------------------------------------------

    /// The stream is polled for bytes. `first`: by `poll_first`, for the first time since something waits.
    pub(super) fn take(&mut self, at: usize, first: bool) {
        let response = &mut self.responses[at];
        if response.ended {
            return;
        }
        let mut chunk = std::mem::take(&mut response.preamble);
        let preamble = chunk.len();
        let (expected, unsent) = (self.model.for_stream(response.generation), self.model.unsent());
        let waker = response.waiter.waker();
        #[cfg(feature = "server")]
        let (soon, taken) = if first && preamble == 0 {
            let soon = self.model.is_soon();
            (soon, self.core.poll_first(response.generation, &mut chunk, 0, &waker, self.now))
        } else {
            (false, self.core.poll_take(response.generation, &mut chunk, 0, &waker, self.now))
        };
        #[cfg(not(feature = "server"))]
        let taken = {
            let _ = first;
            self.core.poll_take(response.generation, &mut chunk, 0, &waker, self.now)
        };
        response.waiter.waits = matches!(taken, Taken::Nothing | Taken::All);
        response.ended = taken == Taken::End;
        response.blocked = false;
        #[cfg(feature = "server")]
        {
            assert_eq!(taken == Taken::Soon, soon);
            if soon {
                // It polls again by itself.
                return;
            }
        }
        if !matches!(taken, Taken::Chunk | Taken::All) {
            assert!(
                taken == Taken::Nothing && expected == ForStream::Nothing && preamble == 0
                    || taken == Taken::End && expected == ForStream::End,
                "{taken:?}, expected {expected:?}"
            );
            if taken == Taken::Nothing {
                self.model.took_nothing();
            }
            return;
        }
        // An event may arrive in parts.
        response.partial.extend_from_slice(&chunk[preamble..]);
        let whole = wire::whole_blocks(&response.partial);
        let blocks = wire::parse(&response.partial.drain(..whole).collect::<Vec<_>>());
        let rest = response.partial.len();
        match expected {
            ForStream::Events => {
                assert!(chunk.len() > preamble);
                for block in &blocks {
                    let sequence = self.model.cursor;
                    let Block::Message { id, data } = block else { panic!("expected a message: {block:?}") };
                    assert_eq!(*id, self.limits.resumes().then_some(sequence), "of {block:?}");
                    assert_eq!(*data, self.model.took(data), "event {sequence}");
                }
                assert!(chunk.len() - preamble <= CHUNK_BYTES, "the chunk is bounded");
                if self.model.unsent() > 0 {
                    let all = unsent * 64 + self.model.sent.iter().map(String::len).sum::<usize>();
                    assert!(all > CHUNK_BYTES / 2, "all that waits leaves together");
                }
                self.model.took_chunk(true, self.now);
            }
            ForStream::KeepAlive => {
                assert_eq!((&*blocks, rest), (&[Block::Comment][..], 0), "no comment within an event");
                self.model.took_chunk(false, self.now);
            }
            ForStream::Nothing => {
                assert_eq!((&*blocks, rest), (&[][..], 0));
                self.model.took_chunk(false, self.now);
            }
            ForStream::End => {
                assert!(blocks.is_empty() && self.model.closed.is_some());
                self.model.took_chunk(false, self.now);
            }
        }
        // The end comes in a poll of its own.
        let all = self.model.unsent() == 0 && self.model.closed.is_none();
        assert_eq!(taken == Taken::All, all);
        let response = &self.responses[at];
        if response.generation == self.client.generation {
            self.client.wire.extend_from_slice(&chunk);
        }
    }

    /// The stream's socket does not accept all of what the stream has taken.
    #[cfg(feature = "server")]
    fn blocked(&mut self, at: usize, some_left: bool) {
        let response = &mut self.responses[at];
        if response.ended {
            return;
        }
        let waker = response.waiter.waker();
        let over = self.core.poll_over(response.generation, some_left, &waker, self.now);
        assert_eq!(over, self.model.blocked(response.generation, some_left, self.now));
        response.waiter.waits = !over;
        response.blocked = !over;
        if over {
            response.ended = true;
        }
    }

    pub(super) fn resume(&mut self, sequence: u64) {
        let resumed = self.core.resume(sequence, self.now);
        assert_eq!(resumed.is_some(), self.model.resume(sequence, self.now), "after {sequence}");
        if let Some(generation) = resumed {
            let mut preamble = BytesMut::new();
            event::endpoint(&mut preamble, None, 1000, "/messages/");
            self.responses.insert(0, Response { preamble, ..Response::new(generation) });
            self.client.resumed(generation, sequence);
        }
    }

    // ---- time ---------------------------------------------------------------------------------------

    pub(super) fn pass(&mut self, millis: u64, on_time: bool) {
        let end = self.now + Duration::from_millis(millis);
        let mut rounds = 0;
        while let Some(deadline) = self.core.deadline().filter(|deadline| on_time && *deadline <= end) {
            self.now = self.now.max(deadline);
            self.on_deadline();
            rounds += 1;
            assert!(rounds < 10_000, "the timer is busy");
        }
        self.now = end;
    }

    pub(super) fn on_deadline(&mut self) {
        self.core.on_deadline(self.now);
        self.model.on_time(self.now);
        let next = self.core.deadline();
        assert!(next.is_none_or(|next| next > self.now), "the deadline was handled and is due again");
        self.check();
    }
}
