//! The system packages that tests need: installed where we may, asked for where we may not.

use crate::{Done, root};
use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

/// A program a test starts, or a file it needs, and the Debian package that has it.
const NEEDED: [(&str, &str); 20] = [
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
    ("/usr/lib/postgresql/15/lib/pg_cron.so", "postgresql-15-cron"),
    ("cron", "cron"),
];

/// Runs Autobahn's own WebSocket cases; the version is a part of what is promised.
const WEBSOCKET_SUITE: &str = "kosoku==0.1.0";

/// Makes sure that every program is there.
///
/// As root on Debian the missing packages are installed; otherwise the line to type is the error.
pub(crate) fn install() -> Done {
    let mut missing: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return nextest().and_then(|()| websocket_suite());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n");
    if !is_root || !is_there("apt-get") {
        return Err(format!("tests need packages that are not here. As root, type: {line}"));
    }
    println!("installing {}", missing.join(", "));
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments)?;
    match NEEDED.iter().find(|(program, _)| !is_there(program)) {
        Some((program, package)) => Err(format!("{program} is not there although {package} is installed")),
        None => nextest().and_then(|()| websocket_suite()),
    }
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
