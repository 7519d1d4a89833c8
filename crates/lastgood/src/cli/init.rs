//! `lastgood init`: writes a commented lastgood.toml for a channel, with free ports and a state folder this user can write.

use super::Ended;
use crate::{
    exit::Exit,
    screen::{Screen, Trouble},
};
use clap::Args;
use lastgood_engine::config::FILE_NAME;
use serde_json::json;
use std::{
    io::{ErrorKind, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
};

/// Write a commented lastgood.toml for a channel, such as npm:@actual-app/sync-server.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The channel: npm:PACKAGE, pypi:PROJECT, git:REPOSITORY or dir:FOLDER.
    channel: String,
    /// The service's name [default: derived from the channel].
    #[arg(long)]
    name: Option<String>,
    /// Instance name. Repeatable.
    #[arg(long, value_name = "NAME", default_values_t = ["main".to_owned()])]
    instance: Vec<String>,
}

/// The first port that is proposed.
const PORT_FIRST: u16 = 7_101;

impl Init {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen, config: Option<&Path>) -> Ended {
        let path = config.map_or_else(|| PathBuf::from(FILE_NAME), Path::to_path_buf);
        let text = self.text()?;
        let unwritable = |error: std::io::Error| {
            Trouble::say(
                Exit::Failed,
                "config-unwritable",
                format!("{} can't be written: {error}", path.display()),
                "name a file that you may write: lastgood --config FILE init …",
            )
        };
        let created = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = created.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Trouble::say(
                Exit::Failed,
                "config-exists",
                format!("{} exists already", path.display()),
                "name another file: lastgood --config OTHER.toml init …",
            ),
            _ => unwritable(error),
        })?;
        file.write_all(text.as_bytes()).map_err(unwritable)?;
        screen.show(
            "init",
            &json!({ "file": path, "channel": self.channel }),
            &format!("wrote {}\nedit each value that says CHANGE, then: lastgood doctor", path.display()),
        );
        Ok(Exit::Done)
    }

    fn text(&self) -> Result<String, Trouble> {
        let wrong = || {
            Trouble::say(
                Exit::Usage,
                "channel-unknown",
                format!("{:?} is not a channel", self.channel),
                "write npm:PACKAGE, pypi:PROJECT, git:REPOSITORY or dir:FOLDER",
            )
        };
        let (kind, what) = self.channel.split_once(':').ok_or_else(wrong)?;
        if what.trim().is_empty() {
            return Err(Trouble::say(
                Exit::Usage,
                "channel-unknown",
                format!("{:?} has no name after the colon", self.channel),
                "name what is followed: lastgood init npm:PACKAGE",
            ));
        }
        let quoted = serde_json::to_string(what).unwrap_or_default();
        let (channel, command) = match kind {
            "npm" => (format!("{{ npm = {quoted}, tag = \"latest\" }}"), "{release}/node_modules/.bin/CHANGE"),
            "pypi" => (format!("{{ pypi = {quoted} }}"), "{release}/bin/CHANGE"),
            "git" => (format!("{{ git = {quoted}, tags = \"v*\" }}"), "{release}/CHANGE"),
            "dir" => (format!("{{ directory = {quoted} }}"), "{release}/CHANGE"),
            _ => return Err(wrong()),
        };
        let name = self.name.clone().unwrap_or_else(|| name_of(what));
        let state_dir = if rustix::process::getuid().is_root() { "/var/lib/lastgood" } else { "state" };
        let template = TEMPLATE.replace("STATE_DIR", state_dir);
        let mut text = template.replace("NAME", &name).replace("CHANNEL", &channel).replace("COMMAND", command);
        for (instance, port) in self.instance.iter().zip(free_ports(ephemeral_from())) {
            text += &format!(
                "\n[[service.{name}.instance]]\nname = \"{instance}\"\nport = {port}\ndata = \"data/{instance}\"     # CHANGE: its data folder\n"
            );
        }
        Ok(text)
    }
}

/// Makes a service name of a channel's: the last part, in small letters.
fn name_of(what: &str) -> String {
    let last = what.trim_end_matches('/').rsplit('/').next().unwrap_or(what);
    let last = last.strip_suffix(".git").unwrap_or(last);
    let name: String = last.to_ascii_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if name.is_empty() { "app".into() } else { name }
}

/// Gives ports that nobody listens on, below `end` while there are any: connections draw theirs from there on, so one
/// that is free now might be taken when the instance is to start.
fn free_ports(end: u16) -> impl Iterator<Item = u16> {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (PORT_FIRST..end).chain(end.max(PORT_FIRST)..=u16::MAX).filter(free)
}

/// Reads where the ports begin that the system gives to outgoing connections.
fn ephemeral_from() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    // 32768 is the kernel's default.
    range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768)
}

const TEMPLATE: &str = r#"# lastgood: release safety for NAME. Every key with its meaning: lastgood config schema

# Evidence, installations and snapshots. Needs space for several copies of all data.
state_dir = "STATE_DIR"

# Secrets stay in files that only you can read. Name them here and use them as {secret:login}.
# [secret.login]
# file = "/etc/lastgood/login"

[service.NAME]
channel = CHANNEL
# When `lastgood serve` checks for a new release.
schedule = { at = "05:30", jitter = "20m" }

# How to start an instance. {release} is the installed release; {data} and {port} are per instance.
command = ["COMMAND"]
env = { PORT = "{port}", DATA_DIR = "{data}" }

# The data that a release may migrate: SQLite files and everything that must match them.
state = { directory = "{data}", exclude = [] }

# When the process is ready to be probed. This does not prove that the release works.
ready = { http = { path = "/" }, expect = { status = [200, 302] } }

# Whether an instance is in use right now. Busy instances are never stopped.
# busy = { log = "{data}/access.log", quiet = "10m" }

rollout = { soak = "30s", wave_size = 1 }

# Prove real behaviour: log in, then fetch something only a logged-in user gets. A health page proves little.
[[service.NAME.probe]]
name = "CHANGE: what users do first"
http = { method = "GET", path = "/" }
expect = { status = 200 }
"#;
