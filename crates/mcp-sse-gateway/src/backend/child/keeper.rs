//! The parent of one session's program: a small process between the gateway and the program. It is a child
//! subreaper: orphans of the program, in whatever process group or session, are reparented to it. So it can tell the
//! processes of its session from all others, and it ends all of them, on order of the gateway or when the gateway
//! is gone for any reason.
//!
//! Its stdin is a socket to the gateway, which first sends the program's stdin over it. On the socket each
//! [`Order`] is a byte; the answers are lines, see [`Said`]. The keeper exits when no descendant is left.
//!
//! Invariant: only children of this process are killed, and none of them is waited for meanwhile.

use std::{
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{ExitCode, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, wait, waitid},
};

use super::descendants;

pub(crate) const WORD: &str = "__keep";
/// Time between SIGTERM and SIGKILL for the session's processes when the gateway is gone.
const GRACE: Duration = Duration::from_secs(2);
/// How often the keeper checks which killed processes are left; after `LOOKS` checks, less often.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS: u32 = 1_000;
const LATER_LOOK: Duration = Duration::from_secs(1);
/// Stack size of the second thread; pages that it does not touch cost nothing.
const STACK: usize = 1024 * 1024;

/// What the gateway tells the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Send SIGTERM to all descendants.
    Terminate,
    /// Send SIGKILL to all descendants, until none is left.
    Kill,
}

impl Order {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Terminate => b't',
            Self::Kill => b'k',
        }
    }
}

/// What the keeper tells the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The program runs, or the launch step that becomes it. With its pid.
    Started(i32),
    /// It could not be started.
    Failed(String),
    /// The program has ended, with this wait status. Other descendants may be left.
    Exited(i32),
}

impl Said {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.trim_end().split_once(' ')?;
        match word {
            "started" => rest.parse().ok().map(Self::Started),
            "failed" => Some(Self::Failed(rest.to_owned())),
            "exited" => rest.parse().ok().map(Self::Exited),
            _ => None,
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Started(pid) => format!("started {pid}\n"),
            Self::Failed(why) => format!("failed {}\n", why.escape_debug()),
            Self::Exited(status) => format!("exited {status}\n"),
        }
    }
}

/// Sends the program's stdin over the socket.
pub(super) fn hand_over(control: &UnixStream, stdin: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let stdin = [stdin];
    message.push(SendAncillaryMessage::ScmRights(&stdin));
    sendmsg(control, &[IoSlice::new(b"+")], &mut message, SendFlags::empty())?;
    Ok(())
}

fn take_over(control: &UnixStream) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::empty();
    #[cfg(target_os = "linux")]
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut message, flags).ok()?;
    message.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// The keeper process. `launch` is the word that selects the launch step; `args` are the arguments of that step.
pub(crate) fn run(launch: &str, args: impl Iterator<Item = OsString>) -> ExitCode {
    let Ok(control) = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::from(2);
    };
    let Some(stdin) = take_over(&control) else { return ExitCode::FAILURE };
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::thread::set_name(c"mcp-keeper");
        if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            eprintln!("mcp-sse: cannot become a subreaper: {error}");
        }
    }
    let mut command = program(launch, args);
    let spawned = command.stdin(Stdio::from(stdin)).process_group(0).spawn();
    // It holds our copy of the program's stdin.
    drop(command);
    let said = match &spawned {
        Ok(child) => Said::Started(Pid::from_child(child).as_raw_nonzero().get()),
        Err(error) => Said::Failed(error.to_string()),
    };
    let _ = (&control).write_all(said.line().as_bytes());
    let Ok(child) = spawned else { return ExitCode::FAILURE };
    let kept = Kept { control, program: Mutex::new(Some(Pid::from_child(&child))) };
    // Only the program may hold its pipes open, so that the gateway sees when the program closes them.
    let _ = let_go();
    std::thread::scope(|scope| -> ExitCode {
        let orders = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || kept.obey());
        if orders.is_err() {
            descendants::kill_children(|_| false);
        }
        kept.reap();
        // Not a return: the other thread still waits for orders.
        std::process::exit(0)
    })
}

/// The command line of the launch step, which becomes the program.
#[cfg(target_os = "linux")]
fn program(launch: &str, args: impl Iterator<Item = OsString>) -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("mcp-sse").arg(launch).arg(std::process::id().to_string()).args(args);
    command
}

/// Where there is no launch step: the program itself.
#[cfg(not(target_os = "linux"))]
fn program(_: &str, mut args: impl Iterator<Item = OsString>) -> std::process::Command {
    let mut command = std::process::Command::new(args.nth(2).unwrap_or_default());
    command.args(args);
    command
}

fn let_go() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    std::env::set_current_dir("/")
}

struct Kept {
    control: UnixStream,
    /// The program, which leads its process group; `None` once it was waited for. Locked while any process is
    /// signalled or waited for.
    program: Mutex<Option<Pid>>,
}

impl Kept {
    fn program(&self) -> std::sync::MutexGuard<'_, Option<Pid>> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reaps children until none is left.
    fn reap(&self) {
        loop {
            // `NOWAIT`: only learns that one has ended, and reaps it under the lock below.
            let ended = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            match ended {
                Err(Errno::INTR) => continue,
                Err(_) => return,
                Ok(_) => {}
            }
            let mut program = self.program();
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                if *program == Some(pid) {
                    *program = None;
                    let _ = (&self.control).write_all(Said::Exited(status.as_raw()).line().as_bytes());
                    #[cfg(not(target_os = "linux"))]
                    let _ = kill_process_group(pid, Signal::KILL);
                }
            }
        }
    }

    /// Carries out orders until the gateway is gone, then ends all descendants.
    fn obey(&self) {
        let mut byte = [0];
        while let Ok(1) = (&self.control).read(&mut byte) {
            match byte {
                [b't'] => self.terminate(),
                [b'k'] => self.kill(),
                _ => {}
            }
        }
        self.terminate();
        pause(GRACE);
        self.kill();
    }

    fn terminate(&self) {
        let program = self.program();
        if let Some(program) = *program {
            let _ = kill_process_group(program, Signal::TERM);
        }
        descendants::terminate_outside(*program);
    }

    /// Never returns: when no descendant is left, the other thread exits the process.
    fn kill(&self) {
        let mut looks = 0;
        loop {
            let program = self.program();
            if let Some(program) = *program {
                let _ = kill_process_group(program, Signal::KILL);
            }
            descendants::kill_children(|_| false);
            drop(program);
            // What is left after many checks is a process that we may not kill.
            looks = LOOKS.min(looks + 1);
            pause(if looks < LOOKS { LOOK } else { LATER_LOOK });
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a separate process that has nothing else to do")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
