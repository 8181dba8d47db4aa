//! What happens in a session, one thing at a time.

use super::*;

fn error(message: &Message) -> i64 {
    words::error(message).unwrap().code
}

#[test]
fn a_server_that_answers_discover_is_modern() {
    let mut world = World::new(Plan::Ask, "{}");
    let call = world.call(r#""a""#);
    let probe = world.sent();
    assert_eq!(probe.method(), Some("server/discover"));
    world.silent();
    world.answer(&probe, "{}");
    assert_eq!(world.host.take_era(), Some(true));
    let request = world.sent();
    assert!(request.as_str().contains("protocolVersion"), "all of it is passed on");
    world.answer(&request, r#"{"resultType":"input_required","requestState":"own"}"#);
    assert_eq!(
        world.got(call),
        r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"input_required","requestState":"own"}}"#
    );
    // Its states are its own.
    let call = world.ask("2", "tools/call", r#""name":"t","requestState":"own","#, "");
    assert!(world.sent().as_str().contains(r#""requestState":"own""#));
    world.nothing(call);
}

#[test]
fn one_that_refuses_it_is_greeted_and_so_is_one_that_is_silent() {
    for is_silent in [false, true] {
        let mut world = World::new(Plan::Ask, "{}");
        let call = world.ask("1", "tools/list", "", "");
        let probe = world.sent();
        if is_silent {
            world.passes(PROBE);
        } else {
            let id = probe.id().unwrap().clone();
            world.says(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"m"}}}}"#));
        }
        let initialize = world.sent();
        assert_eq!(initialize.method(), Some("initialize"));
        world.answer(&initialize, GREETING);
        assert_eq!(world.host.take_era(), Some(false));
        assert_eq!(world.sent().method(), Some("notifications/initialized"));
        let list = world.sent();
        assert_eq!(
            list.as_str(),
            format!(r#"{{"jsonrpc":"2.0","id":{call},"method":"tools/list","params":{{}}}}"#)
        );
        world.answer(&list, r#"{"tools":[]}"#);
        assert!(world.got(call).contains(r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#));
        assert!(!world.host.is_used());
    }
}

#[test]
fn one_that_is_slow_to_say_that_it_is_modern_is_believed_when_it_refuses_the_greeting() {
    let mut world = World::new(Plan::Ask, "{}");
    let call = world.call("1");
    let probe = world.sent();
    world.passes(PROBE);
    let initialize = world.sent();
    world.answer(&probe, "{}");
    let id = initialize.id().unwrap().clone();
    world.says(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32022,"message":"m"}}}}"#));
    assert_eq!(world.host.take_era(), Some(true));
    assert_eq!(world.sent().id(), Some(&RequestId::from(call)));
}

#[test]
fn a_server_that_refuses_the_greeting_or_does_not_answer_it_ends_the_session() {
    for is_silent in [false, true] {
        let mut world = World::new(Plan::Ask, "{}");
        let call = world.call("1");
        let probe = world.sent();
        let id = probe.id().unwrap().clone();
        world.says(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"m"}}}}"#));
        let id = world.sent().id().unwrap().clone();
        if is_silent {
            world.passes(Duration::from_secs(20));
        } else {
            world.says(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"not you"}}}}"#
            ));
        }
        let said = world.got(call);
        assert!(said.contains("-32603") && (is_silent || said.contains("not you")), "{said}");
        assert!(world.host.is_over());
        assert_eq!(world.try_ask("2", "tools/list", "", ""), Err(Refused::Over));
    }
}

#[test]
fn a_question_becomes_the_answer_and_its_answer_continues_the_request() {
    let mut world = World::legacy(ALL);
    let call = world.call(r#""first""#);
    let request = world.sent();
    world.question(r#""q""#, "elicitation/create");
    world.question("7", "sampling/createMessage");
    let asked = world.gathered(call);
    assert!(asked.starts_with(
        r#"{"jsonrpc":"2.0","id":"first","result":{"resultType":"input_required","inputRequests":{"#
    ));
    assert!(asked.contains("elicitation/create") && asked.contains("sampling/createMessage"), "{asked}");
    let keys: Vec<String> =
        serde_json::from_str::<serde_json::Value>(&asked).unwrap()["result"]["inputRequests"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
    assert!(asked.ends_with(&format!(r#""requestState":"state-{}"}}}}"#, world.minted - 1)));
    let state = format!("state-{}", world.minted - 1);
    assert_eq!(world.resume(call, "2", "other", "{}"), Err(Refused::State));
    let responses = format!(r#"{{"{}":{{"action":"accept"}},"unknown":{{}}}}"#, keys[0]);
    assert_eq!(world.resume(call, "2", &state, &responses), Ok(()));
    assert_eq!(world.resume(call, "3", &state, &responses), Err(Refused::State), "it is used once");
    assert_eq!(world.host.take_freed(), [State::new(state)]);
    assert_eq!(world.sent().as_str(), r#"{"jsonrpc":"2.0","id":"q","result":{"action":"accept"}}"#);
    // What it has not answered it is asked again.
    let again = world.got(call);
    assert!(again.contains(r#""id":2"#) && again.contains(&keys[1]) && !again.contains(&keys[0]), "{again}");
    let state = format!("state-{}", world.minted - 1);
    world.resume(call, "4", &state, &format!(r#"{{"{}":{{"model":"m"}}}}"#, keys[1])).unwrap();
    assert_eq!(world.sent().as_str(), r#"{"jsonrpc":"2.0","id":7,"result":{"model":"m"}}"#);
    world.nothing(call);
    world.answer(&request, r#"{"content":[]}"#);
    assert!(
        world
            .got(call)
            .starts_with(r#"{"jsonrpc":"2.0","id":4,"result":{"content":[],"resultType":"complete""#)
    );
    assert!(!world.host.is_used());
}

#[test]
fn an_answer_that_comes_while_the_client_is_away_waits_for_it() {
    let mut world = World::legacy(ALL);
    let call = world.call("1");
    let request = world.sent();
    world.question("7", "sampling/createMessage");
    world.gathered(call);
    let state = format!("state-{}", world.minted - 1);
    world.answer(&request, r#"{"content":[]}"#);
    assert_eq!(error(&world.sent()), i64::from(INVALID_REQUEST), "nobody answers the question any more");
    world.resume(call, "2", &state, "{}").unwrap();
    world.silent();
    assert!(world.got(call).contains(r#""id":2,"result":{"content":[]"#));
}

#[test]
fn too_large_an_answer_does_not_wait() {
    let mut world = World::legacy(ALL);
    let call = world.call("1");
    let request = world.sent();
    world.question("7", "sampling/createMessage");
    world.gathered(call);
    let state = format!("state-{}", world.minted - 1);
    world.answer(&request, &format!(r#"{{"x":"{}"}}"#, "x".repeat(KEPT_BYTES)));
    world.resume(call, "2", &state, "{}").unwrap();
    let said = world.got(call);
    assert!(said.contains(r#""id":2,"error":{"code":-32603"#), "{said}");
    assert_eq!(world.host.kept_bytes, 0);
}

#[test]
fn a_client_that_does_not_come_back_is_given_up() {
    let mut world = World::legacy(ALL);
    let call = world.call("1");
    world.sent();
    world.question("7", "sampling/createMessage");
    world.gathered(call);
    let state = format!("state-{}", world.minted - 1);
    assert_eq!(world.host.deadline(), Some(world.now + PARKED));
    world.passes(PARKED);
    let refusal = world.sent();
    assert_eq!((refusal.id(), error(&refusal)), (Some(&RequestId::from(7)), -32000));
    assert_eq!(world.sent().cancelled_id(), Some(RequestId::from(call)));
    assert_eq!(world.resume(call, "2", &state, "{}"), Err(Refused::State));
    assert_eq!(world.host.take_freed(), [State::new(state)]);
    assert!(!world.host.is_used());
    assert_eq!(world.host.idle_since(), world.now);
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    let mut world = World::legacy("{}");
    let (sent, queued) = (world.call("1"), world.call("2"));
    world.sent();
    world.host.leave(sent, world.now);
    // What the server has not seen it need not hear of.
    world.host.leave(queued, world.now);
    assert_eq!(world.sent().cancelled_id(), Some(RequestId::from(sent)));
    world.silent();
    world.says(&format!(r#"{{"jsonrpc":"2.0","id":{sent},"result":{{}}}}"#));
    assert!(world.next(sent).is_none());
}

#[test]
fn a_question_that_may_belong_to_two_requests_waits_until_it_can_be_told() {
    let mut world = World::legacy(ALL);
    let (first, second) = (world.call("1"), world.call("2"));
    let request = world.sent();
    world.sent();
    world.question("7", "sampling/createMessage");
    world.silent();
    world.nothing(first);
    // Unless its answer is the same for both.
    world.question("9", "roots/list");
    assert!(world.gathered(first).contains("roots/list"));
    let state = format!("state-{}", world.minted - 1);
    world.nothing(second);
    world.answer(&request, "{}");
    assert!(world.gathered(second).contains("sampling/createMessage"));
    world.resume(first, "3", &state, "{}").unwrap();
    assert!(world.got(first).contains(r#""id":3"#));
    assert_eq!(world.host.take_askers(), [Box::from(r#"tools/call "t""#)]);
}

#[test]
fn a_request_that_waits_for_answers_asks_no_more() {
    let mut world = World::legacy(ALL);
    let away = world.call("1");
    world.sent();
    world.question("7", "sampling/createMessage");
    world.gathered(away);
    let call = world.call("2");
    world.sent();
    world.question("8", "elicitation/create");
    // It may be one more of those that came together.
    world.nothing(call);
    let clears = world.host.deadline().unwrap();
    assert!(clears - world.now <= Duration::from_secs(1));
    world.now = clears;
    world.host.due(clears);
    assert!(world.gathered(call).contains("elicitation/create"));
    // And if there is no other one, it is.
    let state = format!("state-{}", world.minted - 1);
    world.resume(call, "3", &state, "{}").unwrap();
    world.host.leave(call, world.now);
    world.passes(Duration::from_secs(5));
    world.question("9", "elicitation/create");
    assert_eq!(world.host.calls[&away].questions.len(), 2);
}

#[test]
fn and_is_refused_if_it_cannot_be_told_in_time() {
    let mut world = World::legacy(ALL);
    world.call("1");
    world.call("2");
    world.sent();
    world.sent();
    world.question("7", "sampling/createMessage");
    assert_eq!(world.host.deadline(), Some(world.now + questions::ORPHANED));
    world.question("8", "sampling/createMessage");
    // Both requests wait for one of them.
    assert_eq!(world.host.deadline(), Some(world.now + questions::HURRIED));
    world.passes(questions::HURRIED);
    assert_eq!(error(&world.sent()), i64::from(INVALID_REQUEST));
    assert_eq!(error(&world.sent()), i64::from(INVALID_REQUEST));
    // The next time they are apart.
    assert_eq!(world.host.take_askers().len(), 2);
}

#[test]
fn nor_does_it_wait_if_it_says_to_which_it_belongs() {
    let mut world = World::legacy(ALL);
    world.call("1");
    let call = world.ask("3", "tools/call", r#""name":"t","#, r#","progressToken":9"#);
    world.sent();
    let token = world.sent().param(&["_meta", "progressToken"]).unwrap().to_owned();
    world.says(&format!(r#"{{"jsonrpc":"2.0","id":8,"method":"sampling/createMessage","params":{{"_meta":{{"progressToken":{token}}}}}}}"#));
    assert!(world.gathered(call).contains("input_required"));
}

#[test]
fn a_question_that_the_client_cannot_answer_is_refused() {
    let mut world = World::legacy(r#"{"roots":{}}"#);
    world.call("1");
    world.sent();
    for method in ["sampling/createMessage", "elicitation/create", "own/method"] {
        world.question("7", method);
        assert_eq!(error(&world.sent()), -32601, "{method}");
    }
    world.question("8", "ping");
    assert_eq!(world.sent().as_str(), r#"{"jsonrpc":"2.0","id":8,"result":{}}"#);
}

#[test]
fn roots_are_asked_for_before_the_next_request() {
    let mut world = World::legacy(ALL);
    world.question("7", "roots/list");
    world.silent();
    world.question("8", "sampling/createMessage");
    assert_eq!(error(&world.sent()), i64::from(INVALID_REQUEST));
    let list = world.ask("1", "tools/list", "", "");
    assert_eq!(world.sent().method(), Some("tools/list"));
    world.nothing(list);
    let call = world.call("2");
    world.silent();
    let asked = world.gathered(call);
    assert!(asked.contains("roots/list"), "{asked}");
    let key = asked.split('"').find(|part| part.starts_with("question-")).unwrap().to_owned();
    let state = format!("state-{}", world.minted - 1);
    world.resume(call, "3", &state, &format!(r#"{{"{key}":{{"roots":[]}}}}"#)).unwrap();
    assert_eq!(world.sent().as_str(), r#"{"jsonrpc":"2.0","id":7,"result":{"roots":[]}}"#);
    assert_eq!(world.sent().method(), Some("tools/call"));
}

#[test]
fn roots_that_nobody_asks_for_in_time_are_refused() {
    let mut world = World::legacy(ALL);
    world.question("7", "roots/list");
    world.question("8", "roots/list");
    world.says(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":8}}"#);
    world.passes(questions::ORPHANED);
    assert_eq!(error(&world.sent()), i64::from(INVALID_REQUEST));
    world.silent();
    for id in 0..=questions::ORPHANS {
        world.question(&id.to_string(), "roots/list");
    }
    assert_eq!(world.sent().id(), Some(&RequestId::from(16)), "there are too many");
}

#[test]
fn a_question_that_is_taken_back_is_not_asked() {
    let mut world = World::legacy(ALL);
    let call = world.call("1");
    world.sent();
    world.question("7", "sampling/createMessage");
    world.says(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#);
    world.nothing(call);
}

#[test]
fn questions_are_bounded_and_so_are_states() {
    let mut world = World::legacy(ALL);
    let call = world.call("1");
    world.sent();
    for id in 0..=questions::QUESTIONS {
        world.question(&id.to_string(), "sampling/createMessage");
    }
    assert_eq!(error(&world.sent()), i64::from(INVALID_REQUEST));
    world.silent();
    world.may_mint = false;
    world.passes(GATHERED);
    world.nothing(call);
    for _ in 0..questions::QUESTIONS {
        assert_eq!(error(&world.sent()), -32000);
    }
    world.silent();
}

#[test]
fn requests_are_bounded_and_those_whose_clients_are_away_make_room() {
    let mut world = World::legacy(ALL);
    let away = world.call("0");
    world.sent();
    world.question("7", "sampling/createMessage");
    world.gathered(away);
    for id in 1..8 {
        world.call(&id.to_string());
        world.sent();
    }
    world.call("8");
    assert_eq!(error(&world.sent()), -32000);
    assert_eq!(world.sent().cancelled_id(), Some(RequestId::from(away)));
    assert_eq!(world.try_ask("9", "tools/call", r#""name":"t","#, ""), Err(Refused::Full));
}

#[test]
fn progress_goes_to_its_request_under_its_own_token() {
    let mut world = World::legacy("{}");
    let plain = world.call("1");
    let call = world.ask("2", "tools/call", r#""name":"t","#, r#","progressToken":"mine""#);
    world.sent();
    let token = world.sent().param(&["_meta", "progressToken"]).unwrap().to_owned();
    let progress = |token: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1.0}}}}"#
        )
    };
    world.says(&progress(&token));
    for other in ["1", r#""mine""#, r#""x-1""#, "null"] {
        world.says(&progress(other));
    }
    assert_eq!(world.got(call), progress(r#""mine""#));
    world.nothing(call);
    world.nothing(plain);
}

#[test]
fn a_client_that_does_not_read_loses_the_oldest_messages() {
    let mut world = World::legacy("{}");
    let call = world.ask("1", "tools/call", r#""name":"t","#, r#","progressToken":1"#);
    let request = world.sent();
    let token = request.param(&["_meta", "progressToken"]).unwrap().to_owned();
    for n in 0..1000 {
        world.says(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{n}}}}}"#));
    }
    world.answer(&request, "{}");
    let mut got = Vec::new();
    while let Some(Out::Notification(message)) = world.next(call) {
        got.push(message);
    }
    assert_eq!(got.len(), 64);
    assert!(got[63].as_str().contains(r#""progress":999"#));
}

#[test]
fn the_log_is_for_the_only_request_that_wants_it() {
    let mut world = World::legacy("{}");
    let log = |level: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}","data":1}}}}"#
        )
    };
    let level = r#","io.modelcontextprotocol/logLevel":"warning""#;
    let call = world.ask("1", "tools/call", r#""name":"t","#, level);
    let set = world.sent();
    assert_eq!((set.method(), set.param(&["level"])), (Some("logging/setLevel"), Some(r#""warning""#)));
    // The request must not overtake it.
    world.silent();
    world.answer(&set, "{}");
    assert_eq!(world.sent().method(), Some("tools/call"));
    world.says(&log("info"));
    world.says(&log("error"));
    assert_eq!(world.got(call), log("error"));
    world.nothing(call);
    // It cannot be told any more whose it is.
    let other = world.ask("2", "tools/call", r#""name":"t","#, &level.replace("warning", "debug"));
    assert_eq!(world.sent().param(&["level"]), Some(r#""debug""#));
    // Nor wait for a server that does not answer.
    world.passes(LEVELLED);
    world.sent();
    world.says(&log("error"));
    world.nothing(call);
    world.nothing(other);
    world.host.leave(other, world.now);
    world.says(&log("error"));
    assert_eq!(world.got(call), log("error"));
}

#[test]
fn listeners_hear_what_they_were_promised() {
    let mut world = World::legacy("{}");
    let first = world.ask(r#""L""#, "subscriptions/listen", r#""notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["a:/b"]},"#, "");
    assert_eq!(
        world.got(first),
        r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourceSubscriptions":["a:/b"],"toolsListChanged":true},"_meta":{"io.modelcontextprotocol/subscriptionId":"L"}}}"#
    );
    let subscribe = world.sent();
    assert_eq!(
        (subscribe.method(), subscribe.param(&["uri"])),
        (Some("resources/subscribe"), Some(r#""a:/b""#))
    );
    let second =
        world.ask("2", "subscriptions/listen", r#""notifications":{"resourceSubscriptions":["a:/b"]},"#, "");
    world.got(second);
    world.silent();
    let updated = |uri: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}"#
        )
    };
    for uri in ["a:/b", "a:/b", "a:/b/c", "a:/bc", "a:/"] {
        world.says(&updated(uri));
    }
    world.says(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    world.says(r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#);
    // Twice the same is once, if nobody has read it.
    for (listener, id) in [(first, r#""L""#), (second, "2")] {
        for uri in ["a:/b", "a:/b/c"] {
            assert_eq!(
                world.got(listener),
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}","_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
                )
            );
        }
    }
    assert!(world.got(first).contains("tools/list_changed"));
    world.nothing(first);
    world.nothing(second);
    world.host.leave(first, world.now);
    world.silent();
    world.host.leave(second, world.now);
    assert_eq!(world.sent().method(), Some("resources/unsubscribe"));
    assert!(!world.host.is_used() && world.host.subscriptions.is_empty());
}

#[test]
fn listeners_are_bounded_and_do_not_count_as_requests() {
    let mut world = World::legacy("{}");
    for id in 0..LISTENERS {
        world.ask(&id.to_string(), "subscriptions/listen", r#""notifications":{},"#, "");
    }
    assert_eq!(world.try_ask("0", "subscriptions/listen", r#""notifications":{},"#, ""), Err(Refused::Full));
    assert!(world.try_ask("0", "tools/list", "", "").is_ok());
}

#[test]
fn the_end_of_a_session_answers_everybody() {
    let mut world = World::legacy(ALL);
    let (call, away) = (world.call("1"), world.call("2"));
    world.sent();
    world.sent();
    world.host.leave(call, world.now);
    world.question("7", "sampling/createMessage");
    world.gathered(away);
    let state = format!("state-{}", world.minted - 1);
    let call = world.call("3");
    let listener = world.ask("4", "subscriptions/listen", r#""notifications":{},"#, "");
    world.got(listener);
    world.host.fail("it is over");
    assert!(world.got(call).contains(r#""id":3,"error":{"code":-32603,"message":"it is over"}"#));
    assert!(world.got(listener).contains(
        r#""id":4,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":4},"resultType":"complete"}"#
    ));
    assert_eq!(world.host.take_freed(), [State::new(state.clone())]);
    assert_eq!(world.resume(away, "5", &state, "{}"), Err(Refused::State));
    assert!(matches!(world.host.poll_outgoing(&Context::from_waker(Waker::noop())), Poll::Ready(None)));
}

#[test]
fn who_waits_is_woken() {
    let mut world = World::legacy(ALL);
    let flag = Arc::<Flag>::default();
    let waker = Waker::from(Arc::clone(&flag));
    let woken = || flag.0.swap(false, Ordering::Relaxed);
    assert!(world.host.poll_outgoing(&Context::from_waker(&waker)).is_pending());
    let call = world.call("1");
    assert!(woken());
    let request = world.sent();
    assert!(world.poll(call, &waker).is_pending() && !woken());
    world.question("7", "sampling/createMessage");
    assert!(woken());
    assert!(world.poll(call, &waker).is_pending());
    world.passes(GATHERED);
    assert!(woken());
    world.got(call);
    let state = format!("state-{}", world.minted - 1);
    world.resume(call, "2", &state, "{}").unwrap();
    world.says(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#);
    assert!(world.poll(call, &waker).is_pending());
    world.answer(&request, "{}");
    assert!(woken());
}
