//! Messages as bytes, whichever way they go: how they are told apart where they come one a line, and what is
//! looked at of one that is not read whole.
//!
//! | room | what lives there |
//! |---|---|
//! | `lines` | messages one a line, on stdin and stdout |
//! | `oversized` | what is known of a message that was too long to be kept, and what goes out in its place |
//! | `garbage` | what is no message, and when it is too much |
//! | `slim` | a client's message as rmcp needs it |

pub(crate) mod garbage;
pub(crate) mod lines;
pub(crate) mod oversized;
pub(crate) mod slim;
