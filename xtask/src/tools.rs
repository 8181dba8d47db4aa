//! Running commands, and installing what the tests need.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new(".")).to_owned()
}

/// Runs a command in the checkout, its output passed on.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = show(command);
    println!("$ {shown}");
    let status = command.status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
}

/// Runs a command, passes its output on, and returns it too.
pub(crate) fn output(command: &mut Command) -> Result<(bool, String), String> {
    let shown = show(command);
    println!("$ {shown}");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{shown}: {error}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    print!("{text}");
    Ok((output.status.success(), text))
}

/// Whether a command can be run at all.
pub(crate) fn exists(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// A tool of cargo's that is installed, pinned, into `target/tools`.
pub(crate) struct Tool {
    /// The crate, and its program.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The Python package that has the program ready made, of the same version. Else, or without pip, it is compiled.
    pub(crate) wheel: Option<&'static str>,
}

impl Tool {
    /// Installs tools one after the other while something else runs, with what that leaves of the processor and without a
    /// word. Whoever needs one joins the thread first; what failed here fails again then, and says why.
    pub(crate) fn install_beside(tools: Vec<&'static Self>) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            for tool in tools {
                let compile = tool.compile();
                let mut nice = Command::new("nice");
                nice.args(["-n", "19"]).arg(compile.get_program()).args(compile.get_args());
                nice.envs(compile.get_envs().filter_map(|(name, value)| Some((name, value?))));
                nice.current_dir(root()).stdout(Stdio::null()).stderr(Stdio::null());
                if !tool.program().exists() {
                    let _ = nice.status();
                }
            }
        })
    }

    fn folder(&self) -> PathBuf {
        root().join(format!("target/tools/{}-{}", self.name, self.version))
    }

    fn program(&self) -> PathBuf {
        self.folder().join("bin").join(self.name)
    }

    fn compile(&self) -> Command {
        let mut install = cargo();
        // It runs for a moment, so what counts is how long it takes to compile.
        install.args(["install", self.name, "--locked", "--debug", "--version", self.version, "--root"]);
        install.arg(self.folder()).env("CARGO_PROFILE_DEV_DEBUG", "false");
        install
    }

    /// The program.
    pub(crate) fn install(&self) -> Result<PathBuf, String> {
        let Self { version, wheel, .. } = self;
        let program = self.program();
        if program.exists() {
            return Ok(program);
        }
        if let Some(wheel) = wheel
            && exists("python3")
            && unpack(&self.folder(), &format!("{wheel}=={version}")).is_ok()
            && program.exists()
        {
            return Ok(program);
        }
        run(&mut self.compile())?;
        Ok(program)
    }
}

fn unpack(folder: &Path, package: &str) -> Result<(), String> {
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    run(pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary=:all:",
        package,
    ]))
}

/// Whether the nightly toolchain is here.
pub(crate) fn has_nightly() -> bool {
    let nightly = Command::new("cargo").args(["+nightly", "--version"]).stderr(Stdio::null()).output();
    nightly.is_ok_and(|output| output.status.success())
}

/// Runs `install` unless the folder was installed from the same pins before.
pub(crate) fn install_once(
    folder: &Path,
    pins: &Path,
    install: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let stamp = folder.join("installed-from");
    let wanted = fs::read(pins).map_err(|error| format!("{}: {error}", pins.display()))?;
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    install()?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// Copies the files of a folder, not its folders.
pub(crate) fn copy_files(from: &Path, to: &Path) -> Result<(), String> {
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Installs one of Debian's packages, as root; a plain user is told what is missing.
pub(crate) fn apt_install(package: &str) -> Result<(), ()> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
            .map_err(drop)
    };
    apt(&["update", "-qq"])?;
    apt(&["install", "-y", "-qq", "--no-install-recommends", package])
}
