//! Who may use the servers.
//!
//! | room | what lives there |
//! |---|---|
//! | `key_file` | a file of keys, which is read again when it changes |

mod key_file;

pub(crate) use self::key_file::{KeyFile, KeyFiles};
