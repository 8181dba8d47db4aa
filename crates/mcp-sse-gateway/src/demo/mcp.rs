//! The built-in MCP server: a little of everything, to try out a client.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::request::Parts;
use rmcp::{
    ErrorData, Peer, RoleServer, ServerHandler,
    handler::server::{
        router::{prompt::PromptRouter, tool::ToolRouter},
        wrapper::Parameters,
    },
    model::{
        Implementation, ListResourcesResult, PaginatedRequestParams, ProgressNotificationParam,
        PromptMessage, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource,
        ResourceContents, ResourceUpdatedNotificationParam, Role, ServerCapabilities, ServerConfig,
        SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
    },
    prompt, prompt_handler, prompt_router,
    schemars::{self, JsonSchema},
    service::{RequestContext, SubscriptionContext},
    tool, tool_handler, tool_router,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::AbortHandle};

const STATS: &str = "demo://stats";

/// The headers that a tool may show: what a client says about itself, never credentials.
const SHOWN_HEADERS: [&str; 10] = [
    "accept",
    "accept-language",
    "content-length",
    "content-type",
    "host",
    "mcp-protocol-version",
    "origin",
    "traceparent",
    "user-agent",
    "x-request-id",
];

const MAX_STEPS: u32 = 100_000;
const MAX_STEP: Duration = Duration::from_secs(60);

/// What all sessions share.
#[derive(Clone)]
pub(super) struct Demo {
    stats: watch::Sender<Stats>,
    tools: Arc<ToolRouter<DemoSession>>,
    prompts: Arc<PromptRouter<DemoSession>>,
}

/// Figures for all sessions.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Stats {
    /// Tool calls so far, including running ones.
    calls: u64,
    /// Calls that are running.
    running: u64,
    /// Calls that were cancelled.
    cancelled: u64,
}

/// One session's server.
pub(super) struct DemoSession {
    demo: Demo,
    /// The task that notifies this session's client of changes, while it is subscribed.
    subscription: Mutex<Option<AbortHandle>>,
}

/// Counts a tool call as running until it is dropped, which also happens when the call is cancelled.
struct Call(watch::Sender<Stats>);

#[derive(Deserialize, JsonSchema)]
struct Echo {
    /// The text to return.
    message: String,
}

#[derive(Deserialize, JsonSchema)]
struct Add {
    a: f64,
    b: f64,
}

#[derive(Deserialize, JsonSchema)]
struct LongTask {
    /// How many steps, 100000 at most.
    #[serde(default = "ten")]
    steps: u32,
    /// How long a step takes, in milliseconds, 60000 at most.
    #[serde(default = "hundred")]
    step_ms: u64,
}

#[derive(Deserialize, JsonSchema)]
struct Greeting {
    /// Whom to greet.
    name: String,
}

fn ten() -> u32 {
    10
}

fn hundred() -> u64 {
    100
}

impl Demo {
    pub(super) fn new() -> Self {
        Self {
            stats: watch::Sender::new(Stats::default()),
            tools: Arc::new(DemoSession::tool_router()),
            prompts: Arc::new(DemoSession::prompt_router()),
        }
    }

    pub(super) fn session(&self) -> DemoSession {
        DemoSession { demo: self.clone(), subscription: Mutex::default() }
    }

    fn call(&self) -> Call {
        self.stats.send_modify(|stats| {
            stats.calls += 1;
            stats.running += 1;
        });
        Call(self.stats.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.send_modify(|stats| stats.running -= 1);
    }
}

#[tool_router]
impl DemoSession {
    #[tool(description = "Returns the message as it came")]
    fn echo(&self, Parameters(Echo { message }): Parameters<Echo>) -> String {
        let _call = self.demo.call();
        message
    }

    #[tool(description = "Adds two numbers")]
    fn add(&self, Parameters(Add { a, b }): Parameters<Add>) -> String {
        let _call = self.demo.call();
        (a + b).to_string()
    }

    #[tool(description = "Takes a while, reports progress after each step, and can be cancelled")]
    async fn long_task(
        &self,
        Parameters(LongTask { steps, step_ms }): Parameters<LongTask>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        let step = Duration::from_millis(step_ms);
        if steps > MAX_STEPS || step > MAX_STEP {
            let text = format!("steps {steps}, step_ms {step_ms}; expected at most {MAX_STEPS} and 60000");
            return Err(ErrorData::invalid_params(text, None));
        }
        let _call = self.demo.call();
        let token = context.meta.get_progress_token();
        for done in 1..=steps {
            tokio::select! {
                () = tokio::time::sleep(step), if !step.is_zero() => {}
                () = context.ct.cancelled() => {
                    self.demo.stats.send_modify(|stats| stats.cancelled += 1);
                    return Err(ErrorData::internal_error(format!("cancelled at step {done}"), None));
                }
                else => {}
            }
            if let Some(token) = &token {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(done))
                    .with_total(f64::from(steps));
                let sent = context.peer.notify_progress(progress).await;
                sent.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
            }
        }
        Ok(format!("done {steps} steps"))
    }

    #[allow(clippy::needless_pass_by_value, reason = "the router passes it by value")]
    #[tool(description = "Shows a safe selection of the headers of the request")]
    fn request_headers(&self, context: RequestContext<RoleServer>) -> Result<String, ErrorData> {
        let _call = self.demo.call();
        let parts = context.extensions.get::<Parts>();
        let parts =
            parts.ok_or_else(|| ErrorData::internal_error("the request did not come over HTTP", None))?;
        let shown: BTreeMap<_, _> = SHOWN_HEADERS
            .iter()
            .filter_map(|name| Some((*name, parts.headers.get(*name)?.to_str().ok()?)))
            .collect();
        serde_json::to_string(&shown).map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }
}

#[prompt_router]
impl DemoSession {
    #[prompt(description = "Greets somebody")]
    async fn greeting(&self, Parameters(Greeting { name }): Parameters<Greeting>) -> Vec<PromptMessage> {
        vec![PromptMessage::new_text(Role::User, format!("Hello, {name}!"))]
    }
}

impl DemoSession {
    fn subscription(&self) -> std::sync::MutexGuard<'_, Option<AbortHandle>> {
        self.subscription.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifies the client of every change. Changes that come faster than the client reads are combined.
    async fn tell(peer: Peer<RoleServer>, mut stats: watch::Receiver<Stats>) {
        while stats.changed().await.is_ok() {
            let update = ResourceUpdatedNotificationParam::new(STATS);
            if peer.notify_resource_updated(update).await.is_err() {
                return; // the session is closed
            }
        }
    }
}

impl Drop for DemoSession {
    fn drop(&mut self) {
        if let Some(task) = self.subscription().take() {
            task.abort();
        }
    }
}

fn known(uri: &str) -> Result<(), ErrorData> {
    if uri == STATS {
        return Ok(());
    }
    Err(ErrorData::resource_not_found(format!("no resource {uri:?}; there is {STATS}"), None))
}

#[tool_handler(router = self.demo.tools)]
#[prompt_handler(router = self.demo.prompts)]
impl ServerHandler for DemoSession {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("mcp-sse demo", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "A server to try a client on: echo, add, a long task, headers, figures, a prompt.",
            )
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(vec![Resource::new(STATS, "stats")]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        known(&request.uri)?;
        let stats = *self.demo.stats.borrow();
        let text = serde_json::to_string(&stats)
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(ReadResourceResult::new(vec![ResourceContents::text(text, STATS)]).into())
    }

    /// How clients of revision 2026-07-28 subscribe.
    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut stats = self.demo.stats.subscribe();
        let subscribed = context.accepted().resource_subscriptions.iter().flatten().any(|uri| uri == STATS);
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                changed = stats.changed(), if subscribed => {
                    if changed.is_err() || context.sink().notify_resource_updated(STATS).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// How clients of older revisions subscribe.
    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        known(&request.uri)?;
        let task = tokio::spawn(Self::tell(context.peer, self.demo.stats.subscribe()));
        if let Some(before) = self.subscription().replace(task.abort_handle()) {
            before.abort();
        }
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        known(&request.uri)?;
        if let Some(task) = self.subscription().take() {
            task.abort();
        }
        Ok(())
    }
}
