//! Real proxies between a client and the gateway, with the configurations of `deploy/proxies`.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    install::{interop, python},
    program::{Program, checks},
};
use crate::{
    report::Report,
    tools::{apt_install, exists, root},
};

/// A proxy: its name and its configuration, where that says to listen, and what stands for the place in a test.
struct Proxy {
    name: &'static str,
    file: &'static str,
    listens: &'static str,
    at: fn(u16) -> String,
    /// What a whole configuration has beside it, before and after.
    around: (&'static str, &'static str),
    command: fn(&Path) -> Command,
}

const PROXIES: [Proxy; 3] = [
    Proxy {
        name: "nginx",
        file: "nginx.conf",
        listens: "listen 80;",
        at: |port| format!("listen 127.0.0.1:{port};"),
        around: (
            "daemon off; pid nginx.pid; error_log stderr;\nevents {}\nhttp {\naccess_log off; gzip on; gzip_types *;\n",
            "}\n",
        ),
        command: |file| {
            let mut command = Command::new("nginx");
            command.arg("-p").arg(file.parent().unwrap_or(file)).arg("-c").arg(file);
            command
        },
    },
    Proxy {
        name: "HAProxy",
        file: "haproxy.cfg",
        listens: "bind :80",
        at: |port| format!("bind 127.0.0.1:{port}"),
        around: ("", ""),
        command: |file| {
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(file);
            command
        },
    },
    Proxy {
        name: "Caddy",
        file: "Caddyfile",
        listens: "http://mcp.example.com",
        at: |port| format!("http://127.0.0.1:{port}"),
        around: ("{\n\tadmin off\n}\n", ""),
        command: |file| {
            let mut command = Command::new("caddy");
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
            command
        },
    },
];

/// Runs the clients through each of them; `node` is the folder with those of Node.
pub(super) fn run(report: &mut Report, node: &Path) {
    for proxy in &PROXIES {
        let name = format!("behind {}", proxy.name);
        let program = proxy.name.to_lowercase();
        if !exists(&program) && apt_install(&program).is_err() {
            report.left_out(&name, "it is not here and could not be installed by apt-get");
            continue;
        }
        report.part(&name, proxy.clients(node));
    }
}

impl Proxy {
    fn clients(&self, node: &Path) -> Result<String, String> {
        let mut lines = Vec::new();
        for client in ["sdk-1x", "2x"] {
            let mut program = Program::start(&["demo".into(), "--trust-forwarded-for".into(), "1".into()])?;
            let running = self.start(&program.url)?;
            let mut command = if client == "2x" {
                let mut command = Command::new(python(client)?);
                command.arg(interop("python/client.py"));
                command
            } else {
                let mut command = Command::new("node");
                command.arg(node.join(format!("{client}.mjs")));
                command
            };
            command.args(["--url", &running.url]);
            lines.push(checks(&mut program, &mut command)?);
        }
        Ok(lines.join("; "))
    }

    /// Starts it in front of the program with this URL.
    fn start(&self, url: &str) -> Result<Running, String> {
        let text = |error: std::io::Error| format!("{}: {error}", self.name);
        let to = url.trim_start_matches("http://").trim_end_matches("/sse");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(text)?.port();
        let given = fs::read_to_string(root().join("deploy/proxies").join(self.file)).map_err(text)?;
        for needed in [self.listens, "127.0.0.1:8000"] {
            if !given.contains(needed) {
                return Err(format!("deploy/proxies/{} has no {needed:?} any more", self.file));
            }
        }
        let own = given.replace(self.listens, &(self.at)(port)).replace("127.0.0.1:8000", to);
        let folder: PathBuf = root().join("target/interop/proxies").join(self.name);
        fs::create_dir_all(&folder).map_err(text)?;
        let file = folder.join(self.file);
        fs::write(&file, format!("{}{own}{}", self.around.0, self.around.1)).map_err(text)?;
        let mut command = (self.command)(&file);
        command.env("HOME", &folder).current_dir(&folder).stdout(Stdio::null()).stderr(Stdio::null());
        let running =
            Running { child: command.spawn().map_err(text)?, url: format!("http://127.0.0.1:{port}/sse") };
        running.until_it_listens(port).map_err(|why| format!("{}: {why}", self.name))
    }
}

/// A proxy, until it is dropped.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    #[allow(clippy::disallowed_methods, reason = "a proxy does not say when it listens")]
    fn until_it_listens(mut self, port: u16) -> Result<Self, String> {
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(self);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("it does not listen".to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
