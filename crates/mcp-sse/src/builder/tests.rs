//! The values that each setting refuses, and the errors.

use std::time::Duration;

use super::Builder;
use crate::error::ConfigError;

type Set = fn(Builder) -> Builder;

fn refused(set: impl FnOnce(Builder) -> Builder) -> String {
    set(Builder::new("/messages/")).build().unwrap_err().to_string()
}

#[test]
fn a_bound_of_nothing_is_refused_by_its_name() {
    let set: [(&str, Set); 10] = [
        ("max_sessions", |b| b.max_sessions(0)),
        ("max_sessions_per_principal", |b| b.max_sessions_per_principal(0)),
        ("max_sessions_per_address", |b| b.max_sessions_per_address(0)),
        ("sessions_per_second_per_address", |b| b.sessions_per_second_per_address(0)),
        ("max_silent_sessions", |b| b.max_silent_sessions(0)),
        ("max_body_bytes", |b| b.max_body_bytes(0)),
        ("max_outbound_message_bytes", |b| b.max_outbound_message_bytes(0)),
        ("inbound_queue", |b| b.inbound_queue(0, 1)),
        ("requests_in_flight", |b| b.requests_in_flight(1, 0)),
        ("outbound_backlog", |b| b.outbound_backlog(0, 1)),
    ];
    for (name, set) in set {
        assert_eq!(refused(set), format!("{name} must be at least 1"));
    }
    assert_eq!(refused(|b| b.outbound_queue(200, 0)), "outbound_queue must be at least 1");
}

#[test]
fn a_time_of_more_than_a_year_is_refused_by_its_name() {
    let set: [(&str, Set); 9] = [
        ("keep_alive", |b| b.keep_alive(Duration::MAX)),
        ("reconnect_delay", |b| b.reconnect_delay(Duration::MAX)),
        ("resume_window", |b| b.resume_window(Duration::MAX)),
        ("stall_timeout", |b| b.stall_timeout(Duration::MAX)),
        ("body_timeout", |b| b.body_timeout(Duration::MAX)),
        ("queue_timeout", |b| b.queue_timeout(Duration::MAX)),
        ("app_grace", |b| b.app_grace(Duration::MAX)),
        ("silent_grace", |b| b.silent_grace(Duration::MAX)),
        ("shutdown_spread", |b| b.shutdown_spread(Duration::MAX)),
    ];
    for (name, set) in set {
        assert_eq!(refused(set), format!("{name} must be at most a year"));
    }
    assert_eq!(refused(|b| b.stall_timeout(Duration::ZERO)), "stall_timeout must be more than zero");
}

#[test]
fn a_mount_prefix_that_is_no_path_is_refused_with_what_came() {
    assert!(refused(|b| b.mount_prefix("//evil")).contains("\"//evil\" is not a path"));
    let error = Builder::new("//evil.example/messages/").build().unwrap_err();
    assert!(matches!(error, ConfigError::Endpoint { why: "a network-path reference", .. }));
    // Zero is allowed where it turns something off.
    let nothing =
        Builder::new("/").replay_buffer(0, 0).resume_window(Duration::ZERO).keep_alive(Duration::ZERO);
    assert!(nothing.build().is_ok());
}
