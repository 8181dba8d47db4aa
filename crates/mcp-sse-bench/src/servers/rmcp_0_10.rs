//! The peer: the SSE server that rmcp had until it was removed.

use rmcp_0_10::{
    self as rmcp, RoleServer, ServerHandler,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{ProgressNotificationParam, ServerCapabilities, ServerInfo},
    schemars::{self, JsonSchema},
    service::RequestContext,
    tool, tool_handler, tool_router,
    transport::sse_server::SseServer,
};
use serde::Deserialize;

#[derive(Clone)]
struct Peer {
    tool_router: ToolRouter<Self>,
}

#[derive(Deserialize, JsonSchema)]
struct Echo {
    message: String,
}

#[derive(Deserialize, JsonSchema)]
struct Steps {
    steps: u32,
}

#[tool_router]
impl Peer {
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
            let progress = ProgressNotificationParam {
                progress_token: token.clone(),
                progress: f64::from(step),
                total: None,
                message: None,
            };
            if context.peer.notify_progress(progress).await.is_err() {
                break;
            }
        }
        "done".to_owned()
    }
}

#[tool_handler]
impl ServerHandler for Peer {
    fn get_info(&self) -> ServerInfo {
        ServerInfo {
            capabilities: ServerCapabilities::builder().enable_tools().build(),
            ..Default::default()
        }
    }
}

pub(crate) async fn run(port: u16) -> std::io::Result<()> {
    let server = SseServer::serve(([0, 0, 0, 0], port).into()).await?;
    let token = server.with_service(|| Peer { tool_router: Peer::tool_router() });
    let () = token.cancelled().await;
    Ok(())
}
