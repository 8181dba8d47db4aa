//! The pinned clients, servers and gateways, in `target/interop`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools::{self, copy_files, install_once, root};

pub(super) fn interop(path: &str) -> PathBuf {
    root().join("tests/interop").join(path)
}

/// A venv with one of the pinned versions: its interpreter.
pub(super) fn python(version: &str) -> Result<PathBuf, String> {
    let venv = root().join(format!("target/interop/python-{version}"));
    install_venv(&venv, &interop(&format!("python/requirements-{version}.txt")))
}

/// A copy of the Node clients with their packages beside them.
pub(super) fn node() -> Result<PathBuf, String> {
    let folder = root().join("target/interop/node");
    let from = interop("node");
    install_packages(&folder, &from)?;
    // The scripts may have changed since.
    copy_files(&from, &folder)?;
    Ok(folder)
}

/// A venv with what is pinned there: its interpreter.
pub(super) fn install_venv(venv: &Path, pins: &Path) -> Result<PathBuf, String> {
    let python = venv.join("bin/python");
    install_once(venv, pins, || {
        tools::run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(pins);
        tools::run(&mut pip)
    })?;
    Ok(python)
}

/// A copy of a folder with the packages that its lock file pins.
pub(super) fn install_packages(folder: &Path, from: &Path) -> Result<(), String> {
    install_once(folder, &from.join("package-lock.json"), || {
        copy_files(from, folder)?;
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder);
        tools::run(&mut npm)
    })
}
