//! Traces: a span for each call of a client, which continues the client's trace and is continued by the server.
//!
//! | room | what lives there |
//! |---|---|
//! | `carried` | what continues a trace, as it stands in a message and in headers |
//! | `otlp` | the spans, and where they are sent (feature `otlp`) |
//! | `off` | the same without that feature: there are none |

mod carried;
#[cfg(not(feature = "otlp"))]
mod off;
#[cfg(feature = "otlp")]
mod otlp;

pub(crate) use self::carried::{Asked, Carried};
#[cfg(not(feature = "otlp"))]
pub(crate) use self::off::{Span, Traces};
#[cfg(feature = "otlp")]
pub(crate) use self::otlp::{Span, Traces};
