//! Messages as bytes, in either direction: how they are framed as lines, and what is read of those that are not
//! parsed whole.
//!
//! | room | what lives there |
//! |---|---|
//! | `lines` | messages one per line, on stdin and stdout |
//! | `oversized` | the envelope of a message that was too long to be kept, and what is sent in its place |
//! | `garbage` | input that is not a message, and when it is too much |
//! | `slim` | a client's message as rmcp needs it |
//! | `members` | the members of an object, to change some and to keep the others as they came |
//! | `modern` | words of the stateless revision, in messages and in headers |

pub(crate) mod garbage;
pub(crate) mod lines;
pub(crate) mod members;
pub(crate) mod modern;
pub(crate) mod oversized;
pub(crate) mod slim;
