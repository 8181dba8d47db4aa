//! Why an engine cannot be used.

/// Why there is no connection to an engine.
///
/// No text has the user, the password or the token of a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Not the URL of an engine.
    #[error("the URL of {engine} {why}; expected {expected}")]
    Url {
        /// Which engine.
        engine: &'static str,
        /// What is wrong with it.
        why: String,
        /// What was expected.
        expected: &'static str,
    },
    /// An option that this engine cannot have, or not with this URL.
    #[error("{engine} {why}")]
    Setting {
        /// Which engine.
        engine: &'static str,
        /// What is wrong with it, and what was expected.
        why: String,
    },
    /// A file cannot be used.
    #[error("{file}: {why}")]
    File {
        /// Which file.
        file: String,
        /// What is wrong with it, and what was expected.
        why: String,
    },
    /// Nobody answers there, or not in time.
    #[error(
        "{engine} at {address} cannot be reached: {why}; check that it runs there, and that this machine may connect to it"
    )]
    Unreachable {
        /// Which engine.
        engine: &'static str,
        /// Its URL, without a user.
        address: String,
        /// What went wrong last.
        why: String,
    },
    /// It does not let this client in, or not do what a replica has to do.
    #[error(
        "{engine} at {address} refuses: {why}; check the user and the password of the URL, or the credentials file"
    )]
    Refused {
        /// Which engine.
        engine: &'static str,
        /// Its URL, without a user.
        address: String,
        /// What it says.
        why: String,
    },
    /// There is no TLS between it and this client.
    #[error(
        "no TLS with {engine} at {address}: {why}; check the file of authorities, the client's certificate, and that the URL has the name of the engine's certificate"
    )]
    Tls {
        /// Which engine.
        engine: &'static str,
        /// Its URL, without a user.
        address: String,
        /// What went wrong.
        why: String,
    },
    /// It cannot connect replicas as it is.
    #[error("{engine} at {address} cannot connect replicas: {why}")]
    Unsuitable {
        /// Which engine.
        engine: &'static str,
        /// Its URL, without a user.
        address: String,
        /// What it lacks, and what was expected.
        why: String,
    },
}
