//! The files that a sandboxed program may use without any option: system files that hold no user's data, and its
//! own.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{super::command::Command, asked::Sandbox, rules::Rules};

/// Programs and libraries: read and execute.
pub(super) const SYSTEM: [&str; 10] = [
    "/bin",
    "/gnu/store",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/sbin",
    "/usr",
    "/run/current-system/sw",
];

/// Read only. From `/etc` only what programs need to start and to resolve host names, and no private keys; from
/// `/proc` nothing about other processes.
pub(super) const SYSTEM_DATA: [&str; 44] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/self",
    "/proc/stat",
    "/proc/sys/crypto",
    "/proc/sys/fs",
    "/proc/sys/kernel",
    "/proc/sys/net",
    "/proc/sys/vm",
    "/proc/uptime",
    "/proc/version",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
];

/// Read and write.
pub(super) const DEVICES: [&str; 5] = ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];

/// Siblings of a `bin` folder that belong to the programs in it. Not `share` and `etc`: in `~/.local` they hold the
/// user's data.
const BESIDE_BIN: [&str; 4] = ["lib", "lib64", "libexec", "pyvenv.cfg"];

/// How long a chain of interpreters is followed: an interpreter may itself be a script.
const DEPTH: usize = 4;

/// The rules of one session's sandbox.
pub(super) fn rules(command: &Command, sandbox: &Sandbox, folder: &Path) -> Rules {
    let of = |write| {
        sandbox.paths.iter().filter(move |allowed| allowed.write == write).map(|allowed| allowed.path.clone())
    };
    let own = command.cwd.iter().filter_map(|cwd| std::path::absolute(cwd).ok());
    Rules {
        program: of_program(command),
        read: of(false).collect(),
        write: of(true).chain(own).chain([folder.to_owned()]).collect(),
        connect: sandbox.connect.clone(),
    }
}

/// The program's own files: the program, the interpreter that its first line names, and, for each of them in a `bin`
/// folder, that folder and the libraries beside it, as in a Python virtual environment or a Node installation.
fn of_program(command: &Command) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut next = command.find();
    for _ in 0..DEPTH {
        let Some(found) = next.and_then(|path| std::path::absolute(path).ok()) else { break };
        add(&mut paths, &found);
        let real = found.canonicalize().unwrap_or(found);
        add(&mut paths, &real);
        next = interpreter(&real).and_then(|interpreter| {
            let mut of_it = Command::new(interpreter);
            of_it.env.clone_from(&command.env);
            of_it.cwd.clone_from(&command.cwd);
            of_it.find()
        });
    }
    paths
}

fn add(paths: &mut Vec<PathBuf>, program: &Path) {
    paths.push(program.to_owned());
    if let Some(folder) = program.parent().filter(|folder| folder.ends_with("bin")) {
        paths.push(folder.to_owned());
        let beside = folder.parent().into_iter().flat_map(|prefix| BESIDE_BIN.map(|name| prefix.join(name)));
        paths.extend(beside);
    }
}

/// The interpreter named after `#!` in the first line; if that is `env`, the program that `env` starts.
fn interpreter(program: &Path) -> Option<String> {
    let mut start = Vec::new();
    File::open(program).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_whitespace();
    let first = words.next()?;
    if Path::new(first).file_name()? == "env" {
        return words.find(|word| !word.starts_with('-') && !word.contains('=')).map(str::to_owned);
    }
    Some(first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_a_folder_bin_has_its_libraries() {
        let mut paths = Vec::new();
        add(&mut paths, Path::new("/srv/venv/bin/python"));
        assert!(paths.contains(&"/srv/venv/lib".into()) && paths.contains(&"/srv/venv/pyvenv.cfg".into()));
        let mut paths = Vec::new();
        // For example in the root of a container.
        add(&mut paths, Path::new("/server"));
        assert_eq!(paths, [PathBuf::from("/server")]);
    }

    #[test]
    fn a_script_has_its_interpreter() {
        let folder = std::env::temp_dir().join(format!("mcp-sse-paths-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let script = folder.join("script");
        for (text, expected) in [
            ("#!/bin/sh\nx", Some("/bin/sh")),
            ("#! /usr/bin/env -S A=b node --x\n", Some("node")),
            ("#!/usr/bin/env python3", Some("python3")),
            ("#!", None),
            ("\u{7f}ELF", None),
        ] {
            std::fs::write(&script, text).unwrap();
            assert_eq!(interpreter(&script).as_deref(), expected, "{text}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
