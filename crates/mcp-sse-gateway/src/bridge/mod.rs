//! Between the two eras of MCP: the specification calls the stateless revision 2026-07-28 and later ones *modern*, and those with a
//! handshake *legacy*. A client of one era reaches a server of the other through a translator, one for each session.
//!
//! | room | what lives there |
//! |---|---|
//! | `eras` | which eras a server speaks: what is set, and what was found out |
//! | `legacy_client` | the translator for a legacy client at a modern server, without IO |
//! | `discovered` | what a modern server says of itself |
//! | `straight` | between a modern client without headers and a modern server over HTTP |
//! | `own_ids` | ids of our own requests |
//! | `tool_headers` | parameters of tools that are repeated in headers |

mod discovered;
mod eras;
mod legacy_client;
pub(crate) mod modern_client;
mod own_ids;
mod straight;
mod tool_headers;

pub(crate) use self::{
    discovered::{Discovered, Unlike},
    eras::{Era, Eras, Plan},
    legacy_client::{Core, discover},
    straight::Straight,
};
