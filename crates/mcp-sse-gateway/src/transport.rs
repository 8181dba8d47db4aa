//! Both directions of an rmcp transport at the same time. Its methods want it whole, so a task of its own
//! holds it, with a bounded channel each way.

use rmcp::{
    service::{RxJsonRpcMessage, ServiceRole, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};

/// Messages that wait in a channel, and sends that are under way.
const CAPACITY: usize = 16;
const SENDS: usize = 64;

/// A message to be sent, and what became of it.
pub(crate) struct Outgoing<R: ServiceRole> {
    pub(crate) message: TxJsonRpcMessage<R>,
    pub(crate) sent: oneshot::Sender<Result<(), String>>,
}

pub(crate) type Sender<R> = mpsc::Sender<Outgoing<R>>;
pub(crate) type Receiver<R> = mpsc::Receiver<RxJsonRpcMessage<R>>;

/// The task ends when the sender is dropped or the transport ends; the receiver ends with the transport.
pub(crate) fn split<R, T>(mut transport: T) -> (Sender<R>, Receiver<R>, JoinHandle<()>)
where
    R: ServiceRole,
    T: Transport<R> + 'static,
{
    let (sender, mut outgoing) = mpsc::channel::<Outgoing<R>>(CAPACITY);
    let (incoming, receiver) = mpsc::channel(CAPACITY);
    let run = async move {
        let mut sends = JoinSet::new();
        loop {
            let receive = async {
                // First the room, then the message: none is taken that could not be passed on.
                let permit = incoming.reserve().await.ok()?;
                Some((permit, transport.receive().await?))
            };
            tokio::select! {
                next = outgoing.recv(), if sends.len() < SENDS => match next {
                    Some(Outgoing { message, sent }) => {
                        // The future has its place in the order when it is first polled, which is now.
                        let mut send = Box::pin(transport.send(message));
                        let first = futures_util::poll!(&mut send);
                        sends.spawn(async move {
                            let result = match first {
                                std::task::Poll::Ready(result) => result,
                                std::task::Poll::Pending => send.await,
                            };
                            let _ = sent.send(result.map_err(|error| chain(&error)));
                        });
                    }
                    None => break,
                },
                Some(_) = sends.join_next() => {}
                received = receive => match received {
                    Some((permit, message)) => permit.send(message),
                    None => break,
                },
            }
        }
        drop(incoming);
        let _ = transport.close().await;
        while sends.join_next().await.is_some() {}
    };
    let task = tokio::spawn(tracing::Instrument::instrument(run, tracing::Span::current()));
    (sender, receiver, task)
}

/// An error with its causes, for people.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many repeat the text of their cause.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
