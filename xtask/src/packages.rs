//! The system packages that tests need: installed on Debian, asked for elsewhere.

use crate::{Done, root};
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

/// A program a test starts, or a file it needs, and the Debian package that has it.
const NEEDED: [(&str, &str); 23] = [
    ("systemd-nspawn", "systemd-container"),
    ("dbus-daemon", "dbus"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("git", "git"),
    ("gpg", "gpg"),
    ("gpg-agent", "gpg-agent"),
    ("ssh-keygen", "openssh-client"),
    ("openssl", "openssl"),
    ("npm", "npm"),
    ("pip", "python3-pip"),
    ("haproxy", "haproxy"),
    ("pg_lsclusters", "postgresql"),
    ("psql", "postgresql-client"),
    ("python3", "python3"),
    ("cron", "cron"),
    ("curl", "curl"),
    ("mkfs.ext4", "e2fsprogs"),
    ("pgrep", "procps"),
    ("script", "bsdutils"),
];

/// Where Debian keeps each version of PostgreSQL.
const SERVERS: &str = "/usr/lib/postgresql";
/// What tests do that only root may.
const AS_ROOT: &str = "boot a systemd in a container, mount small disks and act as other users";

/// Runs Autobahn's own WebSocket cases; the version is a part of what is promised.
const WEBSOCKET_SUITE: &str = "kosoku==0.1.0";

/// Makes sure that every program is there, and that we are root.
///
/// On Debian the missing packages are installed; elsewhere the line to type is the error.
pub(crate) fn install() -> Done {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n");
    if !is_root {
        return Err(format!(
            "tests {AS_ROOT}, so they run as root; type: sudo --preserve-env=PATH,HOME cargo xtask test"
        ));
    }
    let mut before = Vec::new();
    loop {
        let missing = missing();
        if missing.is_empty() {
            return nextest().and_then(|()| websocket_suite());
        }
        if missing == before {
            return Err(format!("what tests need is not there although it is installed: {}", missing.join(", ")));
        }
        if !is_there("apt-get") {
            return Err(format!("tests need what Debian has in these packages: {}", missing.join(" ")));
        }
        println!("installing {}", missing.join(", "));
        apt(&["update", "-qq"])?;
        let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
        arguments.extend(missing.iter().map(String::as_str));
        apt(&arguments)?;
        before = missing;
    }
}

/// Lists the packages of what is not here.
fn missing() -> Vec<String> {
    let lacking = NEEDED.iter().filter(|(program, _)| !is_there(program));
    let mut missing: Vec<String> = lacking.map(|(_, package)| (*package).to_owned()).collect();
    missing.extend(scheduler());
    missing.dedup();
    missing
}

/// Names the package of PostgreSQL's scheduler, if it is not here: each version of the server has one of its own, so there
/// is none before the server.
fn scheduler() -> Option<String> {
    let servers = fs::read_dir(SERVERS).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let version = servers.filter_map(|name| name.parse::<u32>().ok()).max()?;
    let library = format!("{SERVERS}/{version}/lib/pg_cron.so");
    (!Path::new(&library).exists()).then(|| format!("postgresql-{version}-cron"))
}

/// Puts Autobahn's WebSocket cases, in the form that needs no Python 2, into `target/suites`.
fn websocket_suite() -> Done {
    let folder = root().join("target/suites/kosoku");
    if folder.join("kosoku").is_dir() {
        return Ok(());
    }
    println!("installing {WEBSOCKET_SUITE}");
    let status = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"])
        .args([folder.as_os_str(), WEBSOCKET_SUITE.as_ref()])
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("{WEBSOCKET_SUITE} could not be installed with pip; the WebSocket cases need it")),
    }
}

fn nextest() -> Done {
    let there =
        Command::new("cargo").args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match there {
        Ok(status) if status.success() => Ok(()),
        _ => {
            println!("installing cargo-nextest (once; some minutes)");
            let status = Command::new("cargo").args(["install", "cargo-nextest", "--locked"]).status();
            match status {
                Ok(status) if status.success() => Ok(()),
                _ => Err("tests run under cargo-nextest; type: cargo install cargo-nextest --locked".into()),
            }
        }
    }
}

fn apt(arguments: &[&str]) -> Done {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("apt-get {} ended with {status}", arguments.join(" "))),
        Err(error) => Err(format!("apt-get can't be run: {error}")),
    }
}

fn is_there(program: &str) -> bool {
    // Debian keeps administrators' programs where a user's PATH may not look.
    let path = env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|folder| Path::new(folder).join(program).exists())
}
