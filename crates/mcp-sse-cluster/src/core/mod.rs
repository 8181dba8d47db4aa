//! What a replica keeps of the others, without IO: messages and times in, decisions out.
//!
//! | room | what lives there |
//! |---|---|
//! | `seen` | the requests of others that came, so that none is acted on twice |
//! | `parts` | bodies that come in parts |
//! | `others` | who is there, and who does not answer |

pub(crate) mod others;
pub(crate) mod parts;
pub(crate) mod seen;
