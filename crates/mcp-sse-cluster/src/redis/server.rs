//! What the server is asked, and what it says: of itself, in errors, and by itself.

use std::time::Duration;

use ::redis::{ErrorKind, PushInfo, PushKind, RedisError, RedisResult, Value, aio::MultiplexedConnection};

/// What it is called in errors and logs.
pub(super) const NAME: &str = "Redis";

/// A message as it comes.
pub(super) struct Received {
    pub(super) channel: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// Asks the server what it is. It changes nothing on a connection that speaks RESP3 already.
pub(super) async fn hello(connection: &mut MultiplexedConnection) -> RedisResult<Value> {
    ::redis::cmd("HELLO").arg("3").query_async(connection).await
}

/// Publishes something, and says how many got it.
pub(super) async fn publish(
    connection: &mut MultiplexedConnection,
    channel: &str,
    payload: &[u8],
) -> RedisResult<u64> {
    ::redis::cmd("PUBLISH").arg(channel).arg(payload).query_async(connection).await
}

pub(super) fn no_answer(within: Duration) -> String {
    format!("no answer within {} s", within.as_secs())
}

/// An old server repeats what it does not know, which has the password in it.
pub(super) fn is_too_old(error: &RedisError) -> bool {
    error.kind() == ErrorKind::RESP3NotSupported
        || error.code() == Some("NOPROTO")
        || error.detail().is_some_and(|detail| detail.starts_with("unknown command"))
}

/// What an error says.
pub(super) fn said(error: &RedisError) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}

/// Whether the server has answered, and that it does not do what it was asked.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Whether a server that says this of itself can connect replicas.
pub(super) fn standing(hello: &Value) -> Result<(), String> {
    match field(hello, "mode") {
        Some("standalone") | None => {}
        Some(mode) => {
            return Err(format!("it runs in the mode {mode:?}; expected one server, \"standalone\""));
        }
    }
    match field(hello, "role") {
        Some("master") | None => Ok(()),
        Some(role) => Err(format!("it is a {role:?}; expected the master, where all replicas have to be")),
    }
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a str> {
    let Value::Map(fields) = map else { return None };
    let (_, value) = fields.iter().find(|(key, _)| text(key) == Some(name))?;
    text(value)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The message in what the server sends by itself, if it is one.
pub(super) fn received(push: PushInfo) -> Option<Received> {
    if push.kind != PushKind::Message {
        return None;
    }
    let mut data = push.data.into_iter();
    match (data.next(), data.next()) {
        (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) => {
            Some(Received { channel, payload })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn only_a_single_master_will_do() {
        let says = |mode: &str, role: &str| {
            let fields = vec![
                (bulk("server"), bulk("redis")),
                (bulk("proto"), Value::Int(3)),
                (bulk("mode"), bulk(mode)),
                (Value::SimpleString("role".to_owned()), bulk(role)),
            ];
            standing(&Value::Map(fields))
        };
        assert_eq!(says("standalone", "master"), Ok(()));
        assert!(says("cluster", "master").unwrap_err().contains("cluster"));
        assert!(says("sentinel", "master").is_err());
        assert!(says("standalone", "replica").unwrap_err().contains("master"));
        // Others that speak RESP3 may say less.
        assert_eq!(standing(&Value::Map(Vec::new())), Ok(()));
        assert_eq!(standing(&Value::Okay), Ok(()));
    }

    #[test]
    fn only_messages_are_received() {
        let push = |kind, data| received(PushInfo { kind, data }).map(|it| (it.channel, it.payload));
        let data = vec![bulk("channel"), bulk("payload")];
        let expected = Some((b"channel".to_vec(), b"payload".to_vec()));
        assert_eq!(push(PushKind::Message, data.clone()), expected);
        assert_eq!(push(PushKind::Message, vec![bulk("channel")]), None);
        assert_eq!(push(PushKind::Subscribe, data), None);
        assert_eq!(push(PushKind::Disconnection, Vec::new()), None);
    }

    #[test]
    fn an_old_server_is_told_by_what_it_does_not_know_and_its_words_are_not_repeated() {
        let error = |text: &str| {
            let value = ::redis::parse_redis_value(text.as_bytes()).unwrap();
            value.extract_error().unwrap_err()
        };
        for text in [
            "-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'geheim'\r\n",
            "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n",
            "-NOPROTO unsupported protocol version\r\n",
        ] {
            assert!(is_too_old(&error(text)), "{text}");
        }
        let refused = error("-WRONGPASS invalid username-password pair or user is disabled.\r\n");
        assert!(!is_too_old(&refused) && is_refusal(&refused));
        assert_eq!(said(&refused), "invalid username-password pair or user is disabled.");
        assert_eq!(refused.code(), Some("WRONGPASS"));
    }
}
