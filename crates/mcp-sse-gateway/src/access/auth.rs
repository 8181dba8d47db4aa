//! What the clients of a server need, as it is set on the command line or in the configuration file.

use std::{fmt, path::PathBuf};

/// What clients need; one of the two, if there are two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Auth {
    /// A key of this file.
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) tokens: Option<Tokens>,
}

/// A token of an authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) issuer: String,
    /// Else they are found by the issuer's metadata.
    pub(crate) jwks: Option<Jwks>,
    /// If there are none: the URLs of the server.
    pub(crate) audiences: Vec<String>,
    pub(crate) scopes: Vec<String>,
}

/// Where the keys of an authorization server are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Jwks {
    Url(String),
    File(PathBuf),
}

impl Jwks {
    /// A URL, or the path of a file.
    pub(crate) fn parse(text: &str) -> Self {
        if text.contains("://") { Self::Url(text.to_owned()) } else { Self::File(text.into()) }
    }
}

impl fmt::Display for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What stands behind it may be secret.
            Self::Url(url) => f.write_str(url.split('?').next().unwrap_or_default()),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Auth {
    pub(crate) fn is_empty(&self) -> bool {
        self.key_file.is_none() && self.tokens.is_none()
    }
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.key_file, &self.tokens) {
            (Some(file), None) => write!(f, "a key from {}", file.display()),
            (None, Some(tokens)) => write!(f, "{tokens}"),
            (Some(file), Some(tokens)) => write!(f, "a key from {} or {tokens}", file.display()),
            (None, None) => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a token of {}", self.issuer)?;
        for (what, texts) in [("scope", &self.scopes), ("audience", &self.audiences)] {
            if !texts.is_empty() {
                write!(f, ", {what} {}", texts.join(" "))?;
            }
        }
        Ok(())
    }
}
