//! The transport on plain hyper: with an echo app of its own, and with rmcp.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Response, StatusCode};
use mcp_sse::{Body, Message, MessageKind, Session, SseServerTransport};
use rmcp::{
    RoleServer, ServerHandler, ServiceExt as _,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::ProgressNotificationParam,
    schemars::{self, JsonSchema},
    service::RequestContext,
    tool, tool_handler, tool_router,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

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
struct Echoing {
    tools: Arc<ToolRouter<Self>>,
}

pub(super) async fn run(listener: TcpListener, app: impl App) -> std::io::Result<()> {
    let sse = SseServerTransport::builder("/messages/")
        .security(mcp_sse::TransportSecuritySettings {
            // The generator connects from several loopback addresses.
            allowed_hosts: vec!["127.0.0.1:*".into()],
            ..Default::default()
        })
        .max_sessions(200_000)
        .stall_timeout(Duration::from_secs(10))
        .build()
        .map_err(std::io::Error::other)?;
    let connect = sse.connect_sse(move |session| app.run(session));
    let post = sse.handle_post_message();
    super::serve(listener, move |request| {
        let (connect, post) = (connect.clone(), post.clone());
        async move {
            match request.uri().path() {
                "/sse" => connect.oneshot(request).await,
                "/messages/" => post.oneshot(request).await,
                _ => {
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    Ok(response)
                }
            }
        }
    })
    .await
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    arguments: Arguments<'a>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
}

impl App for Bare {
    async fn run(self, mut session: Session) {
        while let Some(incoming) = session.recv().await {
            let MessageKind::Request { id, method } = incoming.message.kind() else { continue };
            let json = match &**method {
                "tools/call" => {
                    let call: Result<Call<'_>, _> = serde_json::from_str(incoming.message.as_str());
                    let text = call.as_ref().map_or("null", |call| call.params.arguments.message.get());
                    format!(
                        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":{text}}}],"isError":false}}}}"#
                    )
                }
                "initialize" => format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2024-11-05","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"bare","version":"1"}}}}}}"#
                ),
                _ => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
            };
            let Ok(answer) = Message::parse(json) else { continue };
            if session.send(answer).await.is_err() {
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

impl App for WithRmcp {
    async fn run(self, session: Session) {
        static TOOLS: OnceLock<Arc<ToolRouter<Echoing>>> = OnceLock::new();
        let tools = Arc::clone(TOOLS.get_or_init(|| Arc::new(Echoing::tool_router())));
        if let Ok(server) = (Echoing { tools }).serve(session).await {
            let _ = server.waiting().await;
        }
    }
}
