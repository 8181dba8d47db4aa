//! A modern client at a modern server over HTTP, where the client's own transport has no headers: what it says is passed on as
//! it came, with the headers that repeat it. For those of a tool's parameters the server's tools have to be known: they are read
//! again when the server does not agree with the headers of a call.

use std::collections::{HashMap, VecDeque};

use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use serde_json::{Value, json};

use super::{eras::refusal, own_ids::OwnIds, tool_headers::ToolHeaders};
use crate::message::{
    members::{Members, with_id},
    modern::{Headers, code},
};

/// How many pages of a list of tools are read again for one call.
const PAGES: u32 = 32;

/// What stands between such a client and its server.
#[derive(Default)]
pub(crate) struct Straight {
    tools: ToolHeaders,
    ids: OwnIds,
    next: u64,
    /// The client's lists of tools and calls, by the ids that the server knows.
    asked: HashMap<RequestId, Asked>,
    to_server: VecDeque<Incoming>,
    to_client: VecDeque<Message>,
}

enum Asked {
    List,
    Call(Box<Call>),
    /// A page of the tools, which are read for a call.
    Tools(Box<Call>, u32),
}

struct Call {
    asked: Incoming,
    is_relisted: bool,
}

impl Straight {
    pub(crate) fn poll_server(&mut self) -> Option<Incoming> {
        self.to_server.pop_front()
    }

    pub(crate) fn poll_client(&mut self) -> Option<Message> {
        self.to_client.pop_front()
    }

    /// How many messages wait for the server, and for the client.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.to_server.len(), self.to_client.len())
    }

    /// A message of the client.
    pub(crate) fn client(&mut self, incoming: Incoming) {
        match incoming.message.kind() {
            MessageKind::Request { id, method } => match &**method {
                "tools/list" => {
                    self.asked.insert(id.clone(), Asked::List);
                }
                "tools/call" => {
                    let id = id.clone();
                    let call = Box::new(Call { asked: incoming, is_relisted: false });
                    return self.sends(id, call);
                }
                _ => {}
            },
            MessageKind::Notification { .. } => {
                if let Some(id) = incoming.message.cancelled_id() {
                    return self.cancels(&id, incoming);
                }
            }
            MessageKind::Response { .. } => {}
        }
        self.passes(incoming);
    }

    /// Passes a message on, or tells the client why that cannot be.
    fn passes(&mut self, incoming: Incoming) {
        let id = incoming.message.id().cloned();
        if let (Err(why), Some(id)) = (self.put(incoming), id) {
            self.asked.remove(&id);
            self.to_client.push_back(Message::error(&id, code::INVALID_PARAMS, &why));
        }
    }

    fn put(&mut self, incoming: Incoming) -> Result<(), String> {
        let headers = self.tools.headers(&incoming.message)?;
        let mut parts = incoming.parts().clone();
        parts.extensions.insert(Headers(headers));
        self.to_server.push_back(Incoming::new(incoming.message, parts));
        Ok(())
    }

    fn own_id(&mut self) -> RequestId {
        self.next += 1;
        self.ids.id(self.next)
    }

    /// Sends a call by this id.
    fn sends(&mut self, id: RequestId, call: Box<Call>) {
        let twice = "the request has a name twice";
        let Some(message) = with_id(&call.asked.message, &id) else { return self.refuses(&call, twice) };
        match self.put(Incoming::new(message, call.asked.parts().clone())) {
            Ok(()) => drop(self.asked.insert(id, Asked::Call(call))),
            Err(why) => self.refuses(&call, &why),
        }
    }

    fn refuses(&mut self, call: &Call, why: &str) {
        if let Some(id) = call.asked.message.id() {
            self.to_client.push_back(Message::error(id, code::INVALID_PARAMS, why));
        }
    }

    /// The client does not want an answer any more.
    fn cancels(&mut self, id: &RequestId, incoming: Incoming) {
        let is_it = |asked: &Asked| match asked {
            Asked::List => false,
            Asked::Call(call) | Asked::Tools(call, _) => call.asked.message.id() == Some(id),
        };
        let at = self.asked.iter().find(|(_, asked)| is_it(asked)).map(|(at, _)| at.clone());
        let at = at.unwrap_or_else(|| id.clone());
        self.asked.remove(&at);
        if at == *id {
            return self.passes(incoming);
        }
        let params =
            json!({ "requestId": serde_json::from_str::<Value>(&at.to_string()).unwrap_or_default() });
        if let Ok(message) = Message::notification("notifications/cancelled", &params) {
            self.passes(Incoming::new(message, incoming.parts().clone()));
        }
    }

    /// A message of the server.
    pub(crate) fn server(&mut self, message: Message) {
        let MessageKind::Response { id: Some(id), is_error } = message.kind() else {
            return self.to_client.push_back(message);
        };
        match self.asked.remove(id) {
            // A late answer to one of ours.
            None if id.as_str().is_some_and(|id| id.starts_with(&self.ids.prefix())) => {}
            None => self.to_client.push_back(message),
            Some(Asked::List) => {
                let told = self.learns(&message).unwrap_or(message);
                self.to_client.push_back(told);
            }
            Some(Asked::Call(call)) if *is_error && !call.is_relisted && is_mismatch(&message) => {
                self.reads_tools(Box::new(Call { is_relisted: true, ..*call }), 0, None);
            }
            Some(Asked::Call(call)) => {
                let told = call.asked.message.id().and_then(|id| with_id(&message, id));
                self.to_client.push_back(told.unwrap_or(message));
            }
            Some(Asked::Tools(call, page)) => {
                self.learns(&message);
                match cursor(&message).filter(|_| page < PAGES) {
                    Some(cursor) => self.reads_tools(call, page + 1, Some(&cursor)),
                    None => {
                        let id = self.own_id();
                        self.sends(id, call);
                    }
                }
            }
        }
    }

    /// Learns from a list of tools; as the client gets it, if that differs.
    fn learns(&mut self, message: &Message) -> Option<Message> {
        let mut whole = Members::read(message.as_str())?;
        let written = {
            let mut result = whole.get("result").and_then(Members::read)?;
            let tools = self.tools.learn(&result)?;
            result.set_json("tools", &tools);
            result.write()
        };
        whole.set_json("result", &written);
        whole.message()
    }

    /// Asks for a page of the server's tools, as the client of a call would.
    fn reads_tools(&mut self, call: Box<Call>, page: u32, cursor: Option<&str>) {
        let id = self.own_id();
        let mut params = Members::default();
        if let Some(meta) = call.asked.message.param(&["_meta"]).and_then(Members::read) {
            let mut meta = meta;
            meta.remove("progressToken");
            params.set("_meta", &meta);
        }
        if let Some(cursor) = cursor {
            params.set("cursor", cursor);
        }
        let list = Message::request(id.clone(), "tools/list", &params);
        let put = list.map_err(|error| error.to_string());
        match put.and_then(|list| self.put(Incoming::new(list, call.asked.parts().clone()))) {
            Ok(()) => drop(self.asked.insert(id, Asked::Tools(call, page))),
            Err(why) => self.refuses(&call, &why),
        }
    }
}

fn is_mismatch(error: &Message) -> bool {
    refusal(error).0 == Some(code::HEADER_MISMATCH)
}

/// Where the next page of a list begins.
fn cursor(message: &Message) -> Option<String> {
    let whole = Members::read(message.as_str())?;
    whole.get("result").and_then(Members::read)?.text("nextCursor").filter(|cursor| !cursor.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &str =
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1}"#;

    fn says(straight: &mut Straight, json: &str) {
        let message = Message::parse(json.to_owned()).unwrap();
        straight.client(Incoming::new(message, http::Request::new(()).into_parts().0));
    }

    fn call(straight: &mut Straight) -> (Message, Option<String>) {
        let sent = straight.poll_server().unwrap();
        let headers = &sent.parts().extensions.get::<Headers>().unwrap().0;
        let header = headers.get("mcp-param-region").map(|value| value.to_str().unwrap().to_owned());
        (sent.message, header)
    }

    #[test]
    fn headers_of_parameters_are_learned_when_they_are_missed() {
        let mut straight = Straight::default();
        let asked = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"region","arguments":{{"region":"eu"}},{META}}}}}"#
        );
        says(&mut straight, &asked);
        let (message, header) = call(&mut straight);
        assert_eq!((message.as_str(), header), (&*asked, None));
        straight.server(Message::error(&RequestId::from(7), code::HEADER_MISMATCH, "no"));
        let (list, _) = call(&mut straight);
        assert_eq!(list.method(), Some("tools/list"));
        assert!(list.as_str().contains("protocolVersion") && !list.as_str().contains("progressToken"));
        let tools = json!([
            { "name": "region", "inputSchema": { "properties": { "region": { "type": "string", "x-mcp-header": "Region" } } } },
            { "name": "bad", "inputSchema": { "properties": { "a": { "type": "string", "x-mcp-header": "" } } } },
        ]);
        straight.server(Message::result(list.id().unwrap(), &json!({ "tools": tools })).unwrap());
        let (again, header) = call(&mut straight);
        assert_eq!(header.as_deref(), Some("eu"));
        assert_ne!(again.id(), Some(&RequestId::from(7)));
        straight.server(Message::result(again.id().unwrap(), &json!({ "resultType": "complete" })).unwrap());
        let answer = straight.poll_client().unwrap();
        assert_eq!(answer.as_str(), r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete"}}"#);
        // And a list as its client gets it.
        says(
            &mut straight,
            &format!(r#"{{"jsonrpc":"2.0","id":8,"method":"tools/list","params":{{{META}}}}}"#),
        );
        straight.server(Message::result(&RequestId::from(8), &json!({ "tools": tools })).unwrap());
        let listed = straight.poll_client().unwrap();
        assert!(listed.as_str().contains("region") && !listed.as_str().contains("bad"));
        assert!(straight.asked.is_empty());
    }

    #[test]
    fn once_is_enough_and_a_cancelled_call_is_given_up_wherever_it_is() {
        let mut straight = Straight::default();
        let asked =
            format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"a",{META}}}}}"#);
        says(&mut straight, &asked);
        call(&mut straight);
        straight.server(Message::error(&RequestId::from(7), code::HEADER_MISMATCH, "no"));
        let (list, _) = call(&mut straight);
        straight.server(Message::result(list.id().unwrap(), &json!({ "tools": [] })).unwrap());
        let (again, _) = call(&mut straight);
        straight.server(Message::error(again.id().unwrap(), code::HEADER_MISMATCH, "no"));
        assert_eq!(straight.poll_client().unwrap().id(), Some(&RequestId::from(7)));
        says(&mut straight, &asked);
        call(&mut straight);
        straight.server(Message::error(&RequestId::from(7), code::HEADER_MISMATCH, "no"));
        let (list, _) = call(&mut straight);
        says(
            &mut straight,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#,
        );
        assert_eq!(straight.poll_server().unwrap().message.cancelled_id().as_ref(), list.id());
        assert!(straight.asked.is_empty());
    }
}
