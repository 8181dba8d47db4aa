//! The settings of how sessions end.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// How long an app may go on after its session closed, before it is dropped. Default: 30 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // The app has nothing to clear away.
    /// let sse = SseServerTransport::builder("/messages/").app_grace(Duration::from_secs(5)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn app_grace(mut self, grace: Duration) -> Self {
        self.limits.app_grace = grace;
        self
    }

    /// Over how long a time a shutdown spreads the ends of the streams. Default: 1 s; never longer than
    /// the shutdown's deadline.
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
