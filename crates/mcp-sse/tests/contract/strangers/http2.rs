//! Those who speak HTTP/2 and take nothing, end nothing, or flood.

use super::help::{
    CONTINUATION, Clock, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PING, PREFACE, RST_STREAM,
    Raw, SECOND, SETTINGS, frame, get, get_block, serve,
};
use crate::help::{Server, builder, message, notification, soon};

const WINDOW: u32 = 65_535;

#[tokio::test]
async fn a_preface_and_nothing_else_has_the_time_of_a_head() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    for more in [Vec::new(), frame(SETTINGS, 0, 0, &[]), frame(HEADERS, 0, 1, &get_block("/sse"))] {
        let mut raw = Raw::connect(address).await;
        raw.say(PREFACE).await;
        raw.say(&more).await;
        let clock = Clock::stop(address).await;
        let (seconds, _) = clock.until_closed(&mut raw, async |_, _| ()).await;
        assert!((29..=40).contains(&seconds), "{seconds}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_header_block_that_never_ends_is_cut_off_with_streams_open() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut client = Http2::connect(address, WINDOW).await;
    client.say(get(1, "/sse")).await;
    client.frame(DATA, 1).await;
    client.say(frame(HEADERS, END_STREAM, 3, &get_block("/sse"))).await;
    let clock = Clock::stop(address).await;
    let mut second = 0;
    let seconds = client
        .until_closed(&clock, async |client| {
            second += 1;
            // Few enough frames not to be a flood.
            if second % 10 == 0 {
                let _ = client.write.send(frame(CONTINUATION, 0, 3, &[])).await;
            }
        })
        .await;
    assert!(seconds <= 90, "{seconds}");
}

#[tokio::test]
async fn a_connection_without_streams_ends_whatever_pings_it_answers() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut client = Http2::connect(address, WINDOW).await;
    client.say(get(1, "/health")).await;
    assert_eq!(client.frame(DATA, 1).await.payload, b"ok");
    let clock = Clock::stop(address).await;
    let seconds = client
        .until_closed(&clock, async |client| {
            // And it sends some of its own.
            let _ = client.write.send(frame(PING, 0, 0, &[0; 8])).await;
        })
        .await;
    assert!((59..=130).contains(&seconds), "{seconds}");
    assert!(client.heard().iter().any(|frame| frame.kind == GOAWAY), "it is told");
}

#[tokio::test]
async fn a_connection_with_an_open_stream_stays() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut client = Http2::connect(address, WINDOW).await;
    client.say(get(1, "/sse")).await;
    client.frame(DATA, 1).await;
    let clock = Clock::stop(address).await;
    clock.pass(200).await;
    client.say(get(3, "/health")).await;
    assert_eq!(client.frame(DATA, 3).await.payload, b"ok");
    assert_eq!(server.sse.session_counts().open, 1);
}

#[tokio::test]
async fn an_ended_sessions_stream_ends_whatever_its_window_and_its_neighbour_stays() {
    let server = Server::new(builder().keep_alive(SECOND * 15));
    let address = serve(&server).await;
    // Nothing may be sent on a stream until its window is opened.
    let mut client = Http2::connect(address, 0).await;
    client.say(get(1, "/sse")).await;
    client.frame(HEADERS, 1).await;
    let mute = server.sse.sessions().remove(0);
    client.say(get(3, "/sse")).await;
    client.frame(HEADERS, 3).await;
    let window = || frame(8, 0, 3, &1_000_000_u32.to_be_bytes());
    client.say(window()).await;
    client.frame(DATA, 3).await;
    mute.send(message(notification("m"))).await.unwrap();
    let clock = Clock::stop(address).await;
    mute.close();
    clock.pass(75).await;
    let heard = client.heard();
    assert!(!client.is_closed());
    assert!(heard.iter().any(|frame| (frame.kind, frame.stream) == (RST_STREAM, 1)), "{heard:?}");
    assert!(heard.iter().any(|frame| (frame.kind, frame.stream) == (DATA, 3)), "{heard:?}");
    assert_eq!(server.sse.session_counts().open, 1);
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut client = Http2::connect(address, 0).await;
    for stream in (1..100).step_by(2) {
        client.say(get(stream, "/health")).await;
    }
    client.frame(HEADERS, 99).await;
    let clock = Clock::stop(address).await;
    let seconds = client.until_closed(&clock, async |_| ()).await;
    assert!(seconds <= 160, "{seconds}");
}

#[tokio::test]
async fn what_one_connection_may_do_at_once_is_bounded() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut client = Http2::connect(address, 0).await;
    for stream in (1..=241).step_by(2) {
        client.say(get(stream, "/sse")).await;
    }
    let refused = soon(client.frame(RST_STREAM, 241)).await;
    assert_eq!(refused.payload, 7_u32.to_be_bytes(), "REFUSED_STREAM");
    assert_eq!(server.sse.session_counts().open, 100);
}

#[tokio::test]
async fn what_may_be_sent_unread_is_bounded() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut raw = Raw::connect(address).await;
    raw.say(PREFACE).await;
    // The server's settings are its first frame.
    let mut head = [0; 9];
    use tokio::io::AsyncReadExt as _;
    soon(raw.0.read_exact(&mut head)).await.unwrap();
    let mut payload = vec![0; usize::from(head[2])];
    soon(raw.0.read_exact(&mut payload)).await.unwrap();
    let settings: Vec<(u16, u32)> = payload
        .chunks(6)
        .map(|pair| {
            let value = [pair[2], pair[3], pair[4], pair[5]];
            (u16::from_be_bytes([pair[0], pair[1]]), u32::from_be_bytes(value))
        })
        .collect();
    for (id, value) in [(3, 100), (4, 65_535), (6, 16 * 1024)] {
        // What is not said is the protocol's default.
        let said = settings.iter().find(|(said, _)| *said == id).map(|(_, value)| *value);
        assert_eq!(said.unwrap_or(65_535), value, "setting {id} in {settings:?}");
    }
}

#[tokio::test]
async fn a_head_over_its_bound_is_refused() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut client = Http2::connect(address, WINDOW).await;
    client.say(get(1, "/health")).await;
    client.frame(DATA, 1).await;
    let mut block = get_block("/health");
    for name in 0..6 {
        // A literal of 4000 bytes.
        block.extend_from_slice(&[0, 2, b'x', b'a' + name, 0x7f, 0xa1, 0x1e]);
        block.extend_from_slice(&[b'v'; 4000]);
    }
    let (first, rest) = block.split_at(16_000);
    client.say(frame(HEADERS, END_STREAM, 3, first)).await;
    client.say(frame(CONTINUATION, END_HEADERS, 3, rest)).await;
    let answer = soon(client.frame(HEADERS, 3)).await;
    // `:status: 431`, a literal with the name from the static table.
    assert!(
        answer.payload.windows(3).any(|text| text == b"431") || answer.payload.contains(&0x48),
        "{answer:?}"
    );
    assert_eq!(server.sse.session_counts().open, 0);
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_end_the_connection() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let client = Http2::connect(address, WINDOW).await;
    let mut client = client;
    let mut flood = Vec::new();
    for stream in (1..2_001).step_by(2) {
        flood.extend(get(stream, "/sse"));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    client.say(flood).await;
    let goaway = soon(client.frame(GOAWAY, 0)).await;
    assert_eq!(goaway.payload[4..8], 11_u32.to_be_bytes(), "ENHANCE_YOUR_CALM");
}

/// The answers to pings and settings are never queued: nothing is read until they are written.
#[tokio::test]
async fn a_flood_of_pings_and_settings_whose_answers_are_not_read_ends_the_connection() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut raw = Raw::connect(address).await;
    raw.say(PREFACE).await;
    raw.say(frame(SETTINGS, 0, 0, &[])).await;
    let flood: Vec<u8> =
        (0..1_000).flat_map(|_| [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])].concat()).collect();
    // Until the server reads no more: its answers fill the buffers on the way to us.
    let full = async {
        loop {
            raw.0.writable().await.unwrap();
            if raw.0.try_write(&flood).is_err() {
                let waited = tokio::time::timeout(std::time::Duration::from_millis(300), raw.0.writable());
                if waited.await.is_err() {
                    return;
                }
            }
        }
    };
    soon(full).await;
    let clock = Clock::stop(address).await;
    clock.pass(80).await;
    // It reads now: there is an end.
    let mut heard = Vec::new();
    while !raw.is_closed(&mut heard) {
        clock.settle().await;
    }
}
