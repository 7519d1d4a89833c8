//! `lastgood init`: writes a commented lastgood.toml for a channel, with what is there already and free ports.

mod found;

use self::found::{Data, Programs};
use super::Ended;
use crate::{
    exit::Exit,
    screen::{Screen, Trouble},
    who,
};
use clap::Args;
use lastgood_domain::words;
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
        let root = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (text, found) = self.text(screen, root)?;
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
            &json!({ "file": path, "channel": self.channel, "found": found }),
            &format!(
                "wrote {}\n{}edit each value that says CHANGE, then: lastgood doctor",
                path.display(),
                found.iter().map(|one| format!("  {one}\n")).collect::<String>()
            ),
        );
        Ok(Exit::Done)
    }

    /// Gives the file's text, and what was found for it.
    fn text(&self, screen: Screen, root: &Path) -> Result<(String, Vec<String>), Trouble> {
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
        let quoted = string(what);
        let (channel, command) = match kind {
            "npm" => (format!("{{ npm = {quoted}, tag = \"latest\" }}"), "{release}/node_modules/.bin/CHANGE"),
            "pypi" => (format!("{{ pypi = {quoted} }}"), "{release}/bin/CHANGE"),
            "git" => (format!("{{ git = {quoted}, tags = \"v*\" }}"), "{release}/CHANGE"),
            "dir" => (format!("{{ directory = {quoted} }}"), "{release}/CHANGE"),
            _ => return Err(wrong()),
        };
        let name = self.name.clone().unwrap_or_else(|| name_of(what));
        screen.tell(&format!("asking {} which programs it brings …", self.channel));
        // A folder is written as seen from the configuration.
        let where_from = if kind == "dir" { root.join(what).display().to_string() } else { what.to_owned() };
        let programs = found::programs(kind, &where_from);
        let is_root = rustix::process::getuid().is_root();
        let state_dir = if is_root { "/var/lib/lastgood" } else { "state" };
        let data = found::data(root, &[root.join(what), root.join(state_dir)]);
        let unit = found::template(&name).filter(|_| is_root);
        let mut found = Vec::new();
        let mut runs = Vec::new();
        if let Some(unit) = &unit {
            let unit_name = format!("{name}@{{instance}}.service");
            runs.push(comment(&format!("{} exists; its instances get drop-ins and are started.", unit.display())));
            runs.push(format!("runtime = {{ systemd = {{ unit = {} }} }}", string(&unit_name)));
            found.push(format!("runtime  {}", unit.display()));
        }
        runs.push(user_line(&data, is_root && unit.is_none(), &mut found));
        let mut text = filled(
            TEMPLATE,
            &[
                ("STATE_DIR", state_dir),
                ("RUNS_AS", &runs.join("\n")),
                ("COMMAND", &command_lines(command, &programs, &mut found)),
                ("NAME", &name),
                ("CHANNEL", &channel),
            ],
        );
        let words: Vec<&str> =
            std::iter::once(name.as_str()).chain(programs.names.iter().map(String::as_str)).collect();
        for one in found::listeners(&words) {
            let ports: Vec<String> = one.ports.iter().map(ToString::to_string).collect();
            let what = format!("process {} listens on {}: it is named {}", one.pid, ports.join(", "), one.program);
            text += &format!("\n{}\n# If it is this service, stop it before the first run.\n", comment(&what));
            found.push(what);
        }
        for (instance, port) in self.instance.iter().zip(free_ports(ephemeral_from())) {
            let data = data_line(instance, self.instance.len(), &data, &mut found);
            let instance = string(instance);
            text += &format!("\n[[service.{name}.instance]]\nname = {instance}\nport = {port}\n{data}\n");
        }
        Ok((text, found))
    }
}

/// Writes how an instance is started: with the only program there is, or with what there is to choose from.
fn command_lines(command: &str, programs: &Programs, found: &mut Vec<String>) -> String {
    let Programs { names, needs, because } = programs;
    let needs = needs.as_ref().map_or_else(String::new, |needs| comment(&format!("It needs {needs}.")) + "\n");
    let (says, program) = match names.as_slice() {
        [only] => {
            found.push(words::one_line(&format!("command  {only}: the only program, {because}")));
            (format!("The only program: {because}."), command.replace("CHANGE", only))
        }
        [] => (format!("Not known: {because}."), command.to_owned()),
        several => {
            found.push(words::one_line(&format!("command  one of {}: {because}", several.join(", "))));
            (format!("One of {}: {because}.", several.join(", ")), command.to_owned())
        }
    };
    format!("{needs}{}\ncommand = [{}]", comment(&says), string(&program))
}

/// Writes what a stranger may have written as one comment.
fn comment(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    format!("# {}", words::one_line(&plain))
}

/// Writes a text as TOML has it; JSON's strings are TOML's but for one character.
fn string(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007F")
}

/// Puts values in the places of a template, each once: what is put in is looked at no more.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    let (mut text, mut rest) = (String::new(), template);
    let next = |rest: &str| values.iter().filter_map(|(place, value)| Some((rest.find(place)?, *place, *value))).min();
    while let Some((at, place, value)) = next(rest) {
        text += &rest[..at];
        text += value;
        rest = &rest[at + place.len()..];
    }
    text + rest
}

/// Writes whom the program runs as: whoever owns the data that was found, if that is one account.
fn user_line(data: &[Data], is_asked: bool, found: &mut Vec<String>) -> String {
    let mut owners: Vec<u32> = data.iter().map(|one| one.uid).collect();
    owners.sort_unstable();
    owners.dedup();
    match owners.as_slice() {
        [owner] if is_asked && *owner != 0 && who::has_account(*owner) => {
            let (user, folder) = (who::account(*owner), data[0].folder.display().to_string());
            found.push(format!("user     {user} owns {folder}"));
            format!("{}\nuser = {}", comment(&format!("{user} owns {folder}.")), string(&user))
        }
        _ => {
            "# Whom the programs run as; without it the user that runs lastgood, or the unit's.\n# user = \"…\"".into()
        }
    }
}

/// Writes where an instance's data is: the folder of its name, or the only one if there is one instance.
fn data_line(instance: &str, instances: usize, data: &[Data], found: &mut Vec<String>) -> String {
    // The configuration's own folder is nobody's data.
    let folders: Vec<&Data> = data.iter().filter(|one| !one.folder.as_os_str().is_empty()).collect();
    let named = folders.iter().find(|one| one.folder.file_name().is_some_and(|name| name == instance));
    let only = folders.first().filter(|_| folders.len() == 1 && instances == 1);
    match named.or(only) {
        Some(Data { folder, databases, .. }) => {
            found.push(format!("data     {} of {instance}: {}", folder.display(), databases.join(", ")));
            format!(
                "data = {}     {}",
                string(&folder.display().to_string()),
                comment(&format!("has {}", databases.join(", ")))
            )
        }
        None if folders.is_empty() => {
            format!("data = {}     # CHANGE: its data folder", string(&format!("data/{instance}")))
        }
        None => {
            let all: Vec<String> = folders.iter().map(|one| one.folder.display().to_string()).collect();
            let says = format!("CHANGE: its data folder; SQLite files are in {}", all.join(", "));
            format!("data = {}     {}", string(&format!("data/{instance}")), comment(&says))
        }
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
COMMAND
env = { PORT = "{port}", DATA_DIR = "{data}" }

RUNS_AS

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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_package_says_stays_text_whatever_it_says() {
        let answer = json!({
            "bin": { "a\"]\nuser = \"root\nNAME COMMAND CHANNEL": "x" },
            "engines": { "node": "1\n[service.evil]\nchannel = 1", "b\u{1b}[2J\u{7f}": "NAME" },
        });
        let programs = found::of_answer(&answer);
        let mut found = Vec::new();
        let command = command_lines("{release}/bin/CHANGE", &programs, &mut found);
        let text = filled(
            TEMPLATE,
            &[
                ("STATE_DIR", "state"),
                ("RUNS_AS", ""),
                ("COMMAND", &command),
                ("NAME", "app"),
                ("CHANNEL", &format!("{{ npm = {} }}", string("x\u{7f}\"NAME"))),
            ],
        );
        let read: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
        let service = read["service"].as_table().unwrap();
        assert_eq!(service.keys().collect::<Vec<_>>(), ["app"]);
        assert_eq!(service["app"]["channel"]["npm"].as_str(), Some("x\u{7f}\"NAME"));
        let program = service["app"]["command"][0].as_str().unwrap();
        assert_eq!(program, "{release}/bin/a\"]\nuser = \"root\nNAME COMMAND CHANNEL");
        assert!(service["app"].get("user").is_none());
        assert!(found.iter().all(|line| !line.contains('\n')), "{found:?}");
    }
}
