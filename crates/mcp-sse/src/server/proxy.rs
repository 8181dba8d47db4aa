//! The header with which a proxy begins a connection: PROXY protocol, version 2 (binary).
//! Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;
/// The longest header without its fixed part. Proxies may put certificates into it; few are longer than this.
const MAX_LENGTH: usize = 4 * 1024;
/// A proxy sends the header as soon as it connects.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The proxy itself, for a health check.
    Local,
    /// A client; with its address, if it has one.
    Client(Option<IpAddr>),
}

/// Why a header is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    Late,
    Version1,
    NoHeader,
    Version(u8),
    Command(u8),
    Family(u8),
    TooShort(usize),
    TooLong(usize),
    Read(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => write!(f, "no whole header came within {TIMEOUT:?}"),
            Self::Version1 => {
                f.write_str("a header of version 1 (text) came; have the proxy send version 2 (binary)")
            }
            Self::NoHeader => f.write_str("what came is not a PROXY header; does the proxy send one?"),
            Self::Version(version) => write!(f, "a header of version {version} came; expected version 2"),
            Self::Command(command) => {
                write!(f, "the header has command {command}; expected 0 (LOCAL) or 1 (PROXY)")
            }
            Self::Family(family) => write!(f, "the header has the unknown address family {family:#04x}"),
            Self::TooShort(length) => write!(f, "{length} bytes are too few for the header's addresses"),
            Self::TooLong(length) => {
                write!(f, "the header has {length} bytes; expected at most {MAX_LENGTH}")
            }
            Self::Read(error) => write!(f, "the header could not be read: {error}"),
        }
    }
}

/// Reads the header, and nothing of what follows it.
pub(super) async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Result<Source, Refusal> {
    timeout(TIMEOUT, read_all(socket)).await.unwrap_or(Err(Refusal::Late))
}

async fn read_all(socket: &mut (impl AsyncRead + Unpin)) -> Result<Source, Refusal> {
    let mut fixed = [0; FIXED];
    let mut have = 0;
    while have < FIXED {
        let read = socket.read(&mut fixed[have..]).await.map_err(Refusal::Read)?;
        if read == 0 {
            return Err(Refusal::NoHeader);
        }
        have += read;
        // Checked after every read: what is not a header may be shorter than one.
        let begun = &fixed[..have.min(SIGNATURE.len())];
        if !SIGNATURE.starts_with(begun) {
            let is_text = fixed[..have].starts_with(b"PROXY ");
            return Err(if is_text { Refusal::Version1 } else { Refusal::NoHeader });
        }
    }
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let (version, command) = (fixed[12] >> 4, fixed[12] & 0xf);
    if version != 2 {
        return Err(Refusal::Version(version));
    }
    if command > 1 {
        return Err(Refusal::Command(command));
    }
    if length > MAX_LENGTH {
        return Err(Refusal::TooLong(length));
    }
    let mut rest = vec![0; length];
    socket.read_exact(&mut rest).await.map_err(Refusal::Read)?;
    if command == 0 {
        return Ok(Source::Local);
    }
    source(fixed[13], &rest)
}

/// Parses the client's address; `family` has the kind of address in its upper four bits.
fn source(family: u8, addresses: &[u8]) -> Result<Source, Refusal> {
    let short = || Refusal::TooShort(addresses.len());
    match family >> 4 {
        // The proxy does not know.
        0 => Ok(Source::Local),
        1 => {
            let source = addresses.first_chunk::<12>().and_then(|all| all.first_chunk::<4>());
            Ok(Source::Client(Some(Ipv4Addr::from(*source.ok_or_else(short)?).into())))
        }
        2 => {
            let source = addresses.first_chunk::<36>().and_then(|all| all.first_chunk::<16>());
            Ok(Source::Client(Some(Ipv6Addr::from(*source.ok_or_else(short)?).into())))
        }
        // A Unix socket.
        3 if addresses.len() >= 216 => Ok(Source::Client(None)),
        3 => Err(short()),
        _ => Err(Refusal::Family(family)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, addresses].concat()
    }

    async fn read_from(bytes: &[u8]) -> (Result<Source, String>, usize) {
        let mut rest = bytes;
        let read = read(&mut rest).await;
        (read.map_err(|refusal| refusal.to_string()), rest.len())
    }

    #[tokio::test]
    async fn the_source_is_read_and_what_follows_is_left() {
        let four = [192, 0, 2, 1, 127, 0, 0, 1, 0, 1, 0, 2];
        let mut six = [0; 36];
        six[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        let with_more = [&four[..], &[4, 0, 1, 0]].concat();
        for (bytes, expected) in [
            (header(1, 0x11, &four), Source::Client(Some("192.0.2.1".parse().unwrap()))),
            (header(1, 0x11, &with_more), Source::Client(Some("192.0.2.1".parse().unwrap()))),
            (header(1, 0x21, &six), Source::Client(Some("2001:db8::1".parse().unwrap()))),
            (header(1, 0x31, &[0; 216]), Source::Client(None)),
            (header(0, 0x00, &[]), Source::Local),
            (header(0, 0x11, &four), Source::Local),
            (header(1, 0x00, &[1, 2, 3]), Source::Local),
        ] {
            assert_eq!(read_from(&[&bytes[..], b"GET"].concat()).await, (Ok(expected), 3));
        }
    }

    #[tokio::test]
    async fn what_is_no_such_header_is_refused_with_what_came() {
        for (bytes, expected) in [
            (b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n".to_vec(), "version 1 (text)"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "version 1 (text)"),
            (b"GET / HTTP/1.1\r\n".to_vec(), "is not a PROXY header"),
            (b"\r\n\r\n".to_vec(), "is not a PROXY header"),
            (header(2, 0x11, &[0; 12]), "command 2"),
            (header(1, 0x41, &[0; 12]), "address family 0x41"),
            (header(1, 0x11, &[0; 11]), "11 bytes are too few"),
            (header(1, 0x21, &[0; 35]), "35 bytes are too few"),
            (header(1, 0x11, &[0; MAX_LENGTH + 1]), "at most 4096"),
            ([&SIGNATURE[..], &[0x11, 0x11, 0, 0]].concat(), "version 1 came"),
        ] {
            let why = read_from(&bytes).await.0.unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_header_has_its_deadline() {
        let (mut client, mut server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, &SIGNATURE[..7]).await.unwrap();
        assert!(matches!(read(&mut server).await, Err(Refusal::Late)));
    }
}
