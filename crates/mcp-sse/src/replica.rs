//! The name of one of several replicas.

use std::{fmt, str::FromStr, sync::Arc};

/// One process of several that are one server: its name, and a part that is new at every start.
///
/// The endpoint that a client is told bears it (`at=NAME.RUN`), so that every replica knows which one holds a session
/// without asking anybody. It is no secret.
///
/// ```
/// use mcp_sse::ReplicaId;
///
/// let id = ReplicaId::new("web-1")?;
/// assert_eq!(id.name(), "web-1");
/// assert_eq!(id.as_str().len(), "web-1.0123456789abcdef".len());
/// assert_eq!(id.as_str().parse(), Ok(id));
/// # Ok::<(), mcp_sse::ReplicaIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(Arc<str>);

/// Why there is no [`ReplicaId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaIdError {
    /// The name has other characters, or too many of them.
    #[error("the replica name {0:?} is not valid; expected 1 to 63 of a-z, A-Z, 0-9, - and _")]
    Name(String),
    /// The text does not end with a run.
    #[error("not the id of a replica; expected NAME.RUN, where RUN is 16 hex digits")]
    Run,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for the id of a replica")]
    NoRandomness,
}

/// How long a name may be.
const NAME: usize = 63;
/// How many digits the other part has.
const RUN: usize = 16;

impl ReplicaId {
    /// How long the text of an id may be, in bytes.
    pub(crate) const LONGEST: usize = NAME + 1 + RUN;

    /// A replica with this name that starts now: 1 to 63 letters, digits, `-` and `_` of ASCII.
    ///
    /// # Errors
    ///
    /// [`ReplicaIdError`], if the name is not valid or the system has no random bytes.
    pub fn new(name: &str) -> Result<Self, ReplicaIdError> {
        if !is_name(name) {
            return Err(ReplicaIdError::Name(name.to_owned()));
        }
        let mut run = [0; RUN / 2];
        getrandom::fill(&mut run).map_err(|_| ReplicaIdError::NoRandomness)?;
        Ok(Self(format!("{name}.{}", hex::encode(run)).into()))
    }

    /// The name, without the part that is new at every start.
    pub fn name(&self) -> &str {
        self.0.split_once('.').map_or(&*self.0, |(name, _)| name)
    }

    /// The part that is new at every start: 16 hex digits.
    pub fn run(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, run)| run)
    }

    /// The whole of it, as `at` has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(name: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=NAME).contains(&name.len()) && name.bytes().all(is_valid)
}

impl FromStr for ReplicaId {
    type Err = ReplicaIdError;

    /// Reads exactly what [`as_str`](Self::as_str) gives: no other spelling is the same replica.
    fn from_str(text: &str) -> Result<Self, ReplicaIdError> {
        let (name, run) = text.split_once('.').ok_or(ReplicaIdError::Run)?;
        if !is_name(name) {
            return Err(ReplicaIdError::Name(name.chars().take(NAME).collect()));
        }
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if run.len() != RUN || !run.bytes().all(is_digit) {
            return Err(ReplicaIdError::Run);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = ReplicaId::new("web-1_B").unwrap();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_eq!(format!("{}.{}", id.name(), id.run()), id.to_string());
        assert_ne!(id, ReplicaId::new("web-1_B").unwrap());
        for bad in
            ["", "a", ".0123456789abcdef", "a.0123456789ABCDEF", "a.0123456789abcde", "a.b.0123456789abcdef"]
        {
            assert!(bad.parse::<ReplicaId>().is_err(), "{bad}");
        }
        for name in ["", "a.b", "a b", "*", ">", "ü", &"a".repeat(64)] {
            assert_eq!(ReplicaId::new(name), Err(ReplicaIdError::Name(name.to_owned())));
        }
        assert_eq!(ReplicaId::new(&"a".repeat(63)).unwrap().as_str().len(), ReplicaId::LONGEST);
    }
}
