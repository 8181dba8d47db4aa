//! The two formats that scrapers ask for.

use http::{HeaderMap, header::ACCEPT};
use prometheus_client::{
    encoding::{prometheus_text, text},
    registry::Registry,
};

/// A format of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// The one that a request asks for.
    pub(crate) fn asked_for(headers: &HeaderMap) -> Self {
        let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let names = |value: &str| value.to_ascii_lowercase().contains("application/openmetrics-text");
        if accepts.into_iter().any(names) { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn render(format: Format, registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match format {
        Format::Prometheus => prometheus_text::encode(&mut text, registry),
        Format::OpenMetrics => text::encode(&mut text, registry),
    };
    text
}
