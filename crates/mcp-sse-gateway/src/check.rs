//! `mcp-sse check`: whether a configuration file is right, before it is served.

use std::{io::Write as _, time::Duration};

use serde_json::Value;

use crate::{
    access,
    args::{Check, Exit},
    config::{self, Definition, Server},
};

pub(crate) fn run(args: &Check) -> Result<(), Exit> {
    let shown = match &args.config {
        Some(file) if !args.schema => {
            let (configuration, shown) = config::read_to_show(file).map_err(Exit::Usage)?;
            let wrong = |name: &str, why: String| {
                Exit::Usage(format!("{}: mcpServers.{name}: {why}", file.display()))
            };
            for (name, Definition { server, keep, .. }) in &configuration.servers {
                keep.policy(Duration::MAX, false).map_err(|why| wrong(name, why))?;
                if let Server::Command(command) = server
                    && command.find().is_none()
                {
                    return Err(wrong(name, format!("cannot find the program {:?}", command.name())));
                }
                if let Some(auth) = configuration.auths.of(name) {
                    server.check_auth(Some(auth)).map_err(|why| wrong(name, why))?;
                    access::check(auth).map_err(|why| wrong(name, why))?;
                }
            }
            if configuration.servers.is_empty() {
                return Err(Exit::Usage(format!("{}: there is no server in it", file.display())));
            }
            shown
        }
        _ => config::schema(),
    };
    print(&shown);
    Ok(())
}

/// A closed stdout is ignored.
fn print(value: &Value) {
    let _ = writeln!(std::io::stdout(), "{value:#}");
}
