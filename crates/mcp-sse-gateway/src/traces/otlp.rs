//! The spans, and the exporter that sends them as OTLP over HTTP. All of it is set by the standard variables `OTEL_*`.
//!
//! Invariant: a call never waits for a span. Spans wait in a bounded queue (`OTEL_BSP_MAX_QUEUE_SIZE`); what does not
//! fit is dropped.

use std::{
    env, fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{
        Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
        TracerProvider as _,
    },
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider, Span as SdkSpan},
};
use tokio::{runtime::Handle, time::Instant};

use super::carried::{Asked, Carried};
use crate::clock;

/// The name of what makes the spans, and of the service if `OTEL_SERVICE_NAME` does not say another.
const NAME: &str = "mcp-sse";
/// How long the last spans may take to be sent.
const LAST_SPANS: Duration = Duration::from_secs(5);
/// How long an export may take where the environment does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is said that spans cannot be sent.
const AGAIN: Duration = Duration::from_secs(60);
/// The most spans that may wait. Their queue is made at the start.
const MOST_WAITING: u64 = 1_000_000;
/// How much of a collector's answer is read.
const ANSWER: usize = 64 * 1024;

/// What makes spans. Clones make the same.
#[derive(Clone)]
pub(crate) struct Traces(Arc<Inner>);

struct Inner {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    propagator: TraceContextPropagator,
}

/// The span of a call, until it ends.
pub(crate) struct Span(SdkSpan);

impl Traces {
    /// `None` if the environment does not ask for traces.
    pub(crate) fn from_environment(client: reqwest::Client) -> Result<Option<Self>, String> {
        if !is_asked_for(|name| env::var(name).ok())? {
            return Ok(None);
        }
        let waiting =
            env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok().and_then(|size| size.trim().parse::<u64>().ok());
        if waiting.is_some_and(|waiting| waiting > MOST_WAITING) {
            return Err(format!("OTEL_BSP_MAX_QUEUE_SIZE is more than {MOST_WAITING}"));
        }
        let is_json = is_json(|name| env::var(name).ok());
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(if is_json { Protocol::HttpJson } else { Protocol::HttpBinary })
            .with_http_client(Client::new(client))
            .build();
        // The error repeats the value, which may have a secret in it.
        let exporter = exporter
            .map_err(|_| "OTEL_EXPORTER_OTLP_ENDPOINT or another variable OTEL_EXPORTER_OTLP_… cannot be read; expected a URL such as http://localhost:4318".to_owned())?;
        let mut resource = Resource::builder();
        if !is_named(|name| env::var(name).ok()) {
            resource = resource.with_service_name(NAME);
        }
        let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer(NAME);
        Ok(Some(Self(Arc::new(Inner { tracer, provider, propagator: TraceContextPropagator::new() }))))
    }

    /// Begins the span of a call.
    pub(crate) fn begin(&self, asked: &Asked<'_>) -> Span {
        let Inner { tracer, propagator, .. } = &*self.0;
        let read = |carried: &Option<Carried>| {
            let context = propagator.extract_with_context(&Context::new(), &Read(carried.as_ref()?));
            let context = context.span().span_context().clone();
            context.is_valid().then_some(context)
        };
        let (in_message, in_headers) = (read(&asked.in_message), read(&asked.in_headers));
        let (parent, linked) = match (in_message, in_headers) {
            // What is around the request is not the same as what is around the call in it.
            (Some(message), Some(headers)) if message.span_id() != headers.span_id() => {
                (Some(message), Some(headers))
            }
            (message, headers) => (message.or(headers), None),
        };
        let parent = parent
            .map_or_else(Context::new, |parent: SpanContext| Context::new().with_remote_span_context(parent));
        let name = match asked.tool {
            Some(tool) => format!("{} {tool}", asked.method),
            None => asked.method.to_owned(),
        };
        let mut attributes = vec![
            KeyValue::new("mcp.method.name", asked.method.to_owned()),
            KeyValue::new("mcp_sse.server", asked.server.to_owned()),
            KeyValue::new("mcp_sse.transport", asked.transport),
            KeyValue::new("network.protocol.name", "http"),
        ];
        if let Some(tool) = asked.tool {
            attributes.push(KeyValue::new("gen_ai.operation.name", "execute_tool"));
            attributes.push(KeyValue::new("gen_ai.tool.name", tool.to_owned()));
        }
        if let Some(id) = &asked.id {
            attributes.push(KeyValue::new("jsonrpc.request.id", id.clone()));
        }
        let builder = tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
        let builder =
            builder.with_links(linked.map(|linked| Link::new(linked, Vec::new(), 0)).into_iter().collect());
        Span(builder.start_with_context(tracer, &parent))
    }

    /// Sends the spans that wait.
    pub(crate) async fn close(self) {
        let closed = tokio::task::spawn_blocking(move || self.0.provider.shutdown_with_timeout(LAST_SPANS));
        if let Ok(Err(error)) = closed.await {
            tracing::warn!("the last spans may not have been sent: {error}");
        }
    }
}

impl Span {
    /// What lets a server continue the trace.
    pub(crate) fn carried(&self) -> Carried {
        let context = self.0.span_context();
        let parent =
            format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8());
        Carried { parent, state: context.trace_state().header() }
    }

    /// It has ended, with an error of this kind or well.
    pub(crate) fn end(mut self, error: Option<&'static str>) {
        if let Some(error) = error {
            self.0.set_attribute(KeyValue::new("error.type", error));
            self.0.set_status(Status::error(error));
        }
        self.0.end();
    }
}

/// Whether the environment asks for traces; an error if it asks for what cannot be done.
fn is_asked_for(get: impl Fn(&str) -> Option<String>) -> Result<bool, String> {
    let get =
        |name| get(name).map(|value| value.trim().to_ascii_lowercase()).filter(|value| !value.is_empty());
    if get("OTEL_SDK_DISABLED").as_deref() == Some("true") {
        return Ok(false);
    }
    let exporter = get("OTEL_TRACES_EXPORTER");
    let is_asked_for = match exporter.as_deref() {
        Some("none") => return Ok(false),
        Some("otlp") => true,
        Some(other) => {
            return Err(format!("OTEL_TRACES_EXPORTER is {other:?}; expected otlp or none"));
        }
        None => {
            get("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")).is_some()
        }
    };
    match protocol(get) {
        Some((name, other)) if is_asked_for && !matches!(&*other, "http/protobuf" | "http/json") => {
            Err(format!(
                "{name} is {other:?}; expected http/protobuf or http/json (most collectors take them at port 4318)"
            ))
        }
        _ => Ok(is_asked_for),
    }
}

/// The protocol that the environment asks for, and where it does.
fn protocol(get: impl Fn(&'static str) -> Option<String>) -> Option<(&'static str, String)> {
    ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]
        .into_iter()
        .find_map(|name| get(name).filter(|value| !value.is_empty()).map(|value| (name, value)))
}

fn is_json(get: impl Fn(&str) -> Option<String>) -> bool {
    protocol(get).is_some_and(|(_, value)| value.trim().eq_ignore_ascii_case("http/json"))
}

/// Whether the environment names the service.
fn is_named(get: impl Fn(&str) -> Option<String>) -> bool {
    get("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty())
        || get("OTEL_RESOURCE_ATTRIBUTES")
            .is_some_and(|all| all.split(',').any(|one| one.trim().starts_with("service.name=")))
}

/// How long an export may take, from the variables, in milliseconds.
fn timeout(get: impl Fn(&str) -> Option<String>) -> Duration {
    let time = |name| get(name).and_then(|value| value.trim().parse().ok()).filter(|&time| time > 0);
    let set = time("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| time("OTEL_EXPORTER_OTLP_TIMEOUT"));
    set.map_or(TIMEOUT, Duration::from_millis)
}

/// What is wrong with the collector: said when it begins, once a minute, and when it is over.
#[derive(Debug, Default)]
struct Troubles(Mutex<Option<(Instant, u64)>>);

impl Troubles {
    fn are(&self, what: impl FnOnce() -> String) {
        let now = clock::now();
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *troubles {
            Some((said, times)) => {
                *times += 1;
                if now.saturating_duration_since(*said) < AGAIN {
                    return;
                }
                tracing::warn!(times, "{}; still", what());
                *said = now;
            }
            None => {
                tracing::warn!("{}", what());
                *troubles = Some((now, 1));
            }
        }
    }

    fn are_over(&self) {
        if let Some((_, times)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tracing::info!(times, "the collector takes spans again");
        }
    }
}

/// A place in a trace, for the propagator.
struct Read<'a>(&'a Carried);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(&self.0.parent),
            "tracestate" => Some(&self.0.state),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// The exporter's HTTP client. The exporter has a thread of its own, so requests are made in the runtime for it.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
    /// For a whole request, with its answer.
    timeout: Duration,
    troubles: Troubles,
}

impl Client {
    fn new(client: reqwest::Client) -> Self {
        let timeout = timeout(|name| env::var(name).ok());
        Self { client, runtime: Handle::current(), timeout, troubles: Troubles::default() }
    }
}

#[async_trait::async_trait]
impl opentelemetry_http::HttpClient for Client {
    async fn send_bytes(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, opentelemetry_http::HttpError> {
        let client = self.client.clone();
        let exchange = async move {
            let mut answer = client.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                *headers = std::mem::take(answer.headers_mut());
            }
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await? {
                let room = ANSWER - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
                if body.len() == ANSWER {
                    break;
                }
            }
            Ok::<_, opentelemetry_http::HttpError>(response.body(Bytes::from(body))?)
        };
        // The exporter bounds only how often it tries.
        let timeout = self.timeout;
        let sent = self.runtime.spawn(async move { tokio::time::timeout(timeout, exchange).await });
        let answer = match sent.await? {
            Ok(answer) => answer,
            Err(late) => {
                self.troubles.are(|| "the collector of spans gives no answer in time".to_owned());
                return Err(late.into());
            }
        };
        match &answer {
            Ok(answer) if answer.status().is_success() => self.troubles.are_over(),
            Ok(answer) if answer.status().is_redirection() => {
                self.troubles.are(|| "the collector of spans is elsewhere, as it says".to_owned());
            }
            Ok(answer) => {
                self.troubles.are(|| format!("the collector does not take spans ({})", answer.status()));
            }
            // Without the URL, which may have a secret in it.
            Err(error) => self.troubles.are(|| match error.downcast_ref::<reqwest::Error>() {
                Some(error) if error.is_connect() => "the collector of spans cannot be reached".to_owned(),
                _ => "spans cannot be sent".to_owned(),
            }),
        }
        answer
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_asks_for_traces_in_the_standard_words() {
        let asked = |variables: &[(&str, &str)]| {
            is_asked_for(|name| {
                variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
        assert_eq!(asked(&[]), Ok(false));
        assert_eq!(asked(&[endpoint]), Ok(true));
        assert_eq!(asked(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a/v1/traces")]), Ok(true));
        assert_eq!(asked(&[("OTEL_TRACES_EXPORTER", "otlp")]), Ok(true));
        assert_eq!(asked(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
        assert_eq!(asked(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(false));
        assert_eq!(asked(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]), Ok(true));
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert!(asked(&[endpoint, grpc]).unwrap_err().contains("http/protobuf"));
        assert_eq!(asked(&[grpc]), Ok(false));
        assert_eq!(
            asked(&[endpoint, grpc, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")]),
            Ok(true)
        );
        assert!(asked(&[("OTEL_TRACES_EXPORTER", "zipkin")]).unwrap_err().contains("expected otlp"));
    }
}
