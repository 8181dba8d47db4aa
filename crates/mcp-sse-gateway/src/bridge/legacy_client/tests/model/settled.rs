//! The end of a sequence: all that is open is answered, or given up, and nothing is left.

use super::*;

impl World {
    pub(super) fn is_over(&mut self) {
        let gives_up = self.random.once_in(3);
        while let Some((key, call)) = self.calls.first_key_value() {
            let key = key.clone();
            if gives_up {
                let id = parse(request(&key, "x", "{}")).id().unwrap().clone();
                self.cancels(&id);
                continue;
            }
            match &call.place {
                Place::Server(_) => self.server_completes(&key),
                Place::Tools(_) => self.server_lists(&key),
                Place::Client { .. } => {
                    let id = call.open_asks().next().map(|ask| ask.id.clone());
                    let Some(id) = id else { self.fails("it waits for nothing") };
                    self.client_answers_this(&key, &id, false);
                }
            }
        }
        while let Some(ping) = self.pings.keys().next().cloned() {
            self.server_answers_a_ping(&ping);
        }
        // A server that is well again.
        for _ in 0..20 {
            self.passes_time(61);
            if let Some(id) = self.listens.opening.as_ref().map(|opening| opening.id.clone()) {
                self.acknowledges(&id, true);
            }
        }
        if let Err(why) = self.listens.is_settled()
            && self.has_begun
        {
            self.fails(why);
        }
        if !self.pair.is_quiet() || self.listens.open() > 1 || self.pair.core.waiting() != (0, 0) {
            self.fails("something is left");
        }
    }
}
