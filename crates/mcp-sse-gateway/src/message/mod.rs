//! Messages as bytes, in either direction: how they are framed as lines, and what is read of those that are not
//! parsed whole.
//!
//! | room | what lives there |
//! |---|---|
//! | `lines` | messages one per line, on stdin and stdout |
//! | `oversized` | the envelope of a message that was too long to be kept, and what is sent in its place |
//! | `garbage` | input that is not a message, and when it is too much |
//! | `slim` | a client's message as rmcp needs it |

pub(crate) mod garbage;
pub(crate) mod lines;
pub(crate) mod oversized;
pub(crate) mod slim;
