//! What a program may access on the machine: the keys `isolation`, `sandbox`, `allowPath`, `allowConnect` and `limits`.

use super::document::{Node, Object};
use crate::backend::child::isolation::{self, Isolation, Limits, Sandbox, parse};

/// Reads the keys from a server's entry. `text` returns a string with its variables expanded.
pub(super) fn read(
    object: &Object<'_>,
    text: &impl Fn(&Node<'_>) -> Result<String, String>,
) -> Result<Isolation, String> {
    let mut isolation = Isolation::default();
    if let Some(node) = object.get("isolation") {
        isolation.own_domain = node.boolean()?;
    }
    if let Some(node) = object.get("sandbox")
        && node.boolean()?
    {
        if !isolation.own_domain {
            return Err(node.wrong("\"sandbox\" cannot be combined with \"isolation\": false"));
        }
        isolation::check_sandbox().map_err(|why| node.wrong(&why))?;
        isolation.sandbox = Some(Sandbox::default());
    }
    for key in ["allowPath", "allowConnect"] {
        let Some(list) = object.get(key) else { continue };
        let Some(sandbox) = &mut isolation.sandbox else {
            return Err(list.wrong("only a server with \"sandbox\": true can have this"));
        };
        for node in list.array()? {
            if key == "allowPath" {
                sandbox.paths.push(parse::allowed_path(&text(&node)?).map_err(|why| node.wrong(&why))?);
            } else {
                isolation::check_ports().map_err(|why| node.wrong(&why))?;
                let port = u16::try_from(node.number("a port")?).ok();
                sandbox.connect.push(port.ok_or_else(|| node.wrong("expected a port, 1 to 65535"))?);
            }
        }
    }
    if let Some(limits) = object.get("limits") {
        isolation::check_limits().map_err(|why| limits.wrong(&why))?;
        isolation.limits = read_limits(&limits.object()?, text)?;
    }
    Ok(isolation)
}

fn read_limits(
    object: &Object<'_>,
    text: &impl Fn(&Node<'_>) -> Result<String, String>,
) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for (key, node) in object.entries() {
        match key {
            "memory" if node.is_number() => limits.memory = Some(node.number("a number of bytes")?),
            "memory" => limits.memory = Some(parse::bytes(&text(node)?).map_err(|why| node.wrong(&why))?),
            "cpu" => limits.cpu = Some(parse::time(&text(node)?).map_err(|why| node.wrong(&why))?),
            "files" => limits.files = Some(node.number("a number of files")?),
            "processes" => limits.processes = Some(node.number("a number of processes")?),
            _ => {
                return Err(node.wrong("there is no such limit; expected memory, cpu, files or processes"));
            }
        }
    }
    Ok(limits)
}
