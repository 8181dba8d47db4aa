//! One call that tells its progress many times.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
};

use memchr::memmem;

use super::{memory::Opened, now};

/// Notifications a second. All must come, in order, before the answer.
pub(crate) fn progress(address: SocketAddr, steps: u32) -> io::Result<f64> {
    let mut session = Opened::new(address, 0)?;
    session.initialize(address)?;
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{{"_meta":{{"progressToken":1}},"name":"progress","arguments":{{"steps":{steps}}}}}}}"#
    );
    let start = now();
    let status = session.post(address, &call)?;
    if status != 202 {
        return Err(io::Error::other(format!("a POST was answered {status}")));
    }
    let (mut text, mut part, mut step) = (Vec::new(), vec![0; 256 * 1024], 0);
    loop {
        let length = session.stream.read(&mut part)?;
        if length == 0 {
            return Err(io::Error::other(format!("the stream ended after {step} notifications")));
        }
        text.extend_from_slice(&part[..length]);
        let mut at = 0;
        while let Some(end) = memmem::find(&text[at..], b"\n") {
            let line = &text[at..at + end];
            at += end + 1;
            if let Some(found) = memmem::find(line, b"\"progress\":") {
                let digits = &line[found + 11..];
                let digits = &digits[..digits.iter().take_while(|byte| byte.is_ascii_digit()).count()];
                let told = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                step += 1;
                if told != Some(step) {
                    return Err(io::Error::other(format!("progress {told:?} instead of {step}")));
                }
            } else if memmem::find(line, b"\"id\":99").is_some() {
                if step != steps {
                    return Err(io::Error::other(format!("the answer came after {step} notifications")));
                }
                return Ok(f64::from(steps) / start.elapsed().as_secs_f64());
            }
        }
        text.drain(..at);
    }
}
