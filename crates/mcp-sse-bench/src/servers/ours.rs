//! The transport on plain hyper: with an echo app of its own, and with rmcp.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use mcp_sse::{BearerTokens, Message, MessageKind, RequestId, Server, Session, SseServerTransport};
use mcp_sse_oauth::{AuthorizationServer, OAuthConfigError, ProtectedResource};
use rmcp::{
    RoleServer, ServerHandler, ServiceExt as _,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::ProgressNotificationParam,
    schemars::{self, JsonSchema},
    service::RequestContext,
    tool, tool_handler, tool_router,
};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::load::{Credential, JWKS, KEY};

/// What answers a session.
pub(super) trait App: Copy + Send + Sync + 'static {
    fn run(self, session: Session) -> impl Future<Output = ()> + Send + 'static;
}

/// The echo tool over bytes.
#[derive(Clone, Copy)]
pub(super) struct Bare;

/// The echo tool with rmcp.
#[derive(Clone, Copy)]
pub(super) struct WithRmcp;

/// The server of [`WithRmcp`]. Its tools are made once, as in the peer.
#[derive(Clone)]
pub(super) struct Echoing {
    tools: Arc<ToolRouter<Self>>,
}

pub(super) async fn run(
    listener: TcpListener,
    app: impl App,
    resume_window: Duration,
    needed: Credential,
) -> std::io::Result<()> {
    let builder = SseServerTransport::builder("/messages/");
    let builder = match needed {
        Credential::Nothing => builder,
        Credential::Key => builder.authenticate(KEY.parse::<BearerTokens>().map_err(std::io::Error::other)?),
        Credential::Token => builder.authenticate(resource().map_err(std::io::Error::other)?),
    };
    let sse = builder
        .security(
            // The generator connects from several loopback addresses.
            mcp_sse::TransportSecuritySettings::default().with_allowed_hosts(["127.0.0.1:*"]),
        )
        .max_sessions(200_000)
        .max_sessions_per_principal(200_000)
        .stall_timeout(Duration::from_secs(3))
        .resume_window(resume_window)
        .build()
        .map_err(std::io::Error::other)?;
    let server = Server::new().mount("/sse", &sse, move |session| app.run(session)).max_connections(200_000);
    // Until it is killed.
    server.serve(listener, std::future::pending(), Duration::ZERO).await;
    Ok(())
}

/// What the generator's token is for.
fn resource() -> Result<ProtectedResource, OAuthConfigError> {
    let login = AuthorizationServer::builder("https://login.example").jwks(JWKS).build()?;
    ProtectedResource::new(&login, "https://mcp.example/sse")?.require_scopes(["mcp"])
}

/// The tool `progress`.
async fn progress(session: &Session, steps: u32) -> Result<(), mcp_sse::SendError> {
    for step in 1..=steps {
        let json = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":1,"progress":{step}.0}}}}"#
        );
        if let Ok(message) = Message::parse(json) {
            session.handle().send(message).await?;
        }
    }
    Ok(())
}

/// The result of `echo`; `text` is JSON and goes on as it came.
fn echo(id: &RequestId, text: &str) -> Option<Message> {
    let id = id.to_string();
    let before = [r#"{"jsonrpc":"2.0","id":"#, &id, r#","result":{"content":[{"type":"text","text":"#];
    // One buffer of the right size: the text is copied once.
    Message::parse([&before.concat(), text, r#"}],"isError":false}}"#].concat()).ok()
}

impl App for Bare {
    async fn run(self, mut session: Session) {
        while let Some(incoming) = session.recv().await {
            let MessageKind::Request { id, method } = incoming.message.kind() else { continue };
            let answer = match &**method {
                "tools/call" => {
                    let text = incoming.message.param(&["arguments", "message"]);
                    let steps = || incoming.message.param(&["arguments", "steps"])?.parse().ok();
                    if text.is_none()
                        && let Some(steps) = steps()
                        && progress(&session, steps).await.is_err()
                    {
                        return;
                    }
                    echo(id, text.unwrap_or("null"))
                }
                "initialize" => Message::result(
                    id,
                    &serde_json::json!({
                        "protocolVersion": "2024-11-05",
                        "capabilities": { "tools": {} },
                        "serverInfo": { "name": "bare", "version": "1" },
                    }),
                )
                .ok(),
                _ => Message::result(id, &serde_json::json!({})).ok(),
            };
            let Some(answer) = answer else { continue };
            if session.handle().send(answer).await.is_err() {
                return;
            }
        }
    }
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Echo {
    message: String,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Steps {
    steps: u32,
}

#[tool_router]
impl Echoing {
    #[tool(description = "Returns the message as it came")]
    fn echo(&self, Parameters(Echo { message }): Parameters<Echo>) -> String {
        message
    }

    #[tool(description = "Tells its progress after each step")]
    async fn progress(
        &self,
        Parameters(Steps { steps }): Parameters<Steps>,
        context: RequestContext<RoleServer>,
    ) -> String {
        let Some(token) = context.meta.get_progress_token() else { return "no token".to_owned() };
        for step in 1..=steps {
            let progress = ProgressNotificationParam::new(token.clone(), f64::from(step));
            if context.peer.notify_progress(progress).await.is_err() {
                break;
            }
        }
        "done".to_owned()
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Echoing {}

impl Echoing {
    pub(super) fn new() -> Self {
        static TOOLS: OnceLock<Arc<ToolRouter<Echoing>>> = OnceLock::new();
        Self { tools: Arc::clone(TOOLS.get_or_init(|| Arc::new(Echoing::tool_router()))) }
    }
}

impl App for WithRmcp {
    async fn run(self, session: Session) {
        if let Ok(server) = Echoing::new().serve(session).await {
            let _ = server.waiting().await;
        }
    }
}
