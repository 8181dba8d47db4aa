//! Settings for how sessions end.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// How long an app may go on after its session closed, before it is dropped. Default: 30 s; at most a
    /// year.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // The app has nothing to clean up.
    /// let sse = SseServerTransport::builder("/messages/").app_grace(Duration::from_secs(5)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn app_grace(mut self, grace: Duration) -> Self {
        self.limits.app_grace = grace;
        self
    }

    /// The time over which a shutdown spreads the ends of the streams, so that clients do not all reconnect
    /// at once. Default: 1 s; at most a year, and never longer than the shutdown's deadline.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // Ten thousand clients come back over ten seconds.
    /// let sse = SseServerTransport::builder("/messages/").shutdown_spread(Duration::from_secs(10)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn shutdown_spread(mut self, spread: Duration) -> Self {
        self.limits.shutdown_spread = spread;
        self
    }
}
