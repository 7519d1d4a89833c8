//! What HAProxy's runtime socket answers, read into values.

use super::counts::Counters;
use std::{collections::BTreeMap, net::SocketAddr};

/// One look at a backend, taken by one line of commands.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The process that answered.
    pub(super) process: Process,
    pub(super) servers: BTreeMap<String, Server>,
    /// The map's entries in their order; `None` if HAProxy has no such map or was not asked.
    pub(super) closed: Option<Vec<(String, String)>>,
    /// `show servers state` as it came: what HAProxy reads at a reload.
    pub(super) state: String,
}

/// A process of HAProxy; counters begin at none with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) start: u64,
}

/// One server of the backend.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) address: Option<SocketAddr>,
    /// Bits of `srv_admin_state`.
    pub(super) admin: u32,
    /// Not held for down by a health check or an agent, and not in maintenance.
    pub(super) up: bool,
    pub(super) weight: u16,
    pub(super) backup: bool,
    pub(super) sessions: u64,
    pub(super) counters: Counters,
}

/// `srv_admin_state` for maintenance: by command, by a tracked server, by name resolution, by host name.
const MAINTENANCE: u32 = 0x01 | 0x02 | 0x20 | 0x40;
/// Was `disabled` in the configuration: tells nothing about now.
const WAS_DISABLED: u32 = 0x04;

impl Server {
    /// No request that begins now is sent to it, not even one that sticks to it.
    pub(super) const fn rests(&self) -> bool {
        self.admin & MAINTENANCE != 0
    }

    /// It takes all that is given to it, as far as commands decide.
    pub(super) const fn is_ready(&self) -> bool {
        self.admin & !WAS_DISABLED == 0
    }
}

/// Why the answer is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// There is no such backend.
    NoBackend,
    /// The socket's level does not allow the command.
    Denied,
    /// Not HAProxy's, or of a form that is not known.
    Strange(String),
}

/// Reads the answer to `show info; show servers state B; show stat B 4 -1` and, with a map, `show map M`.
pub(super) fn read(answer: &str, with_map: bool) -> Result<Seen, Unread> {
    let mut seen = Seen::default();
    let mut blocks = answer.split("\n\n").map(|block| block.trim_start_matches('\n'));
    let mut block = |what: &str| match blocks.next().map(str::trim_end) {
        Some(text) if text.starts_with("Permission denied") => Err(Unread::Denied),
        Some("Can't find backend." | "No such proxy.") => Err(Unread::NoBackend),
        Some(text) => Ok(text),
        None => Err(Unread::Strange(format!("it ends before {what}"))),
    };
    info(block("show info")?, &mut seen)?;
    let state = block("show servers state")?;
    seen.state = format!("{state}\n");
    states(state, &mut seen)?;
    statistics(block("show stat")?, &mut seen)?;
    if with_map {
        seen.closed = map(block("show map")?)?;
    }
    Ok(seen)
}

fn strange(what: impl Into<String>) -> Unread {
    Unread::Strange(what.into())
}

fn info(block: &str, seen: &mut Seen) -> Result<(), Unread> {
    let value = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    let pid = value("Pid").and_then(|pid| pid.parse().ok()).ok_or_else(|| strange("show info has no Pid"))?;
    // Not all versions say when they started; the process id tells nearly as much.
    let start = value("Start_time_sec").and_then(|start| start.parse().ok()).unwrap_or_default();
    seen.process = Process { pid, start };
    Ok(())
}

fn states(block: &str, seen: &mut Seen) -> Result<(), Unread> {
    let mut lines = block.lines().skip_while(|line| !line.starts_with('#'));
    let head = lines.next().ok_or_else(|| strange("show servers state has no head"))?;
    let names: Vec<&str> = head.trim_start_matches('#').split_whitespace().collect();
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let field = |name: &str| {
            let at = names.iter().position(|one| *one == name);
            at.and_then(|at| fields.get(at)).copied().ok_or_else(|| strange(format!("a server has no {name}")))
        };
        let number = |name: &str| field(name)?.parse::<u32>().map_err(|_| strange(format!("{name} is no number")));
        let server = seen.servers.entry(field("srv_name")?.to_owned()).or_default();
        let port = field("srv_port")?.parse().unwrap_or_default();
        server.address = field("srv_addr")?.parse().ok().map(|ip| SocketAddr::new(ip, port));
        server.admin = number("srv_admin_state")?;
        server.up = matches!(number("srv_op_state")?, 1 | 2);
        server.weight = number("srv_uweight")?.try_into().map_err(|_| strange("a weight is too large"))?;
    }
    Ok(())
}

fn statistics(block: &str, seen: &mut Seen) -> Result<(), Unread> {
    let mut lines = block.lines();
    let head = lines.next().and_then(|line| line.strip_prefix("# ")).ok_or_else(|| strange("show stat has no head"))?;
    let names: Vec<&str> = head.split(',').collect();
    let place = |name: &str| names.iter().position(|one| *one == name);
    for line in lines {
        let fields = fields(line);
        let text = |name: &str| place(name).and_then(|at| fields.get(at)).map(String::as_str).unwrap_or_default();
        let count = |name: &str| text(name).parse::<u64>().unwrap_or_default();
        let Some(server) = seen.servers.get_mut(text("svname")) else { continue };
        server.backup = count("bck") > 0;
        server.sessions = count("scur");
        server.counters = Counters {
            status: ["hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx"].map(count),
            failed_answers: count("eresp"),
            failed_connections: count("econ"),
            cut: count("srv_abrt"),
            redispatched: count("wredis"),
        };
    }
    Ok(())
}

/// Splits a line of comma-separated values; a quote within quotes is doubled.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for part in line.chars() {
        match part {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            part => fields.last_mut().into_iter().for_each(|field| field.push(part)),
        }
    }
    fields
}

fn map(block: &str) -> Result<Option<Vec<(String, String)>>, Unread> {
    if block.starts_with("Unknown map identifier") {
        return Ok(None);
    }
    let entry = |line: &str| {
        let mut parts = line.splitn(3, ' ').skip(1).map(str::to_owned);
        Some((parts.next()?, parts.next().unwrap_or_default()))
    };
    let entries = block.lines().filter(|line| !line.is_empty()).map(|line| entry(line).ok_or(line));
    entries.collect::<Result<_, _>>().map(Some).map_err(|line| strange(format!("a map's line is {line:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_field_does_not_move_those_after_it() {
        assert_eq!(fields(r#"a,"b, ""c"",",,d"#), ["a", "b, c,", "", "d"]);
    }

    #[test]
    fn what_is_not_haproxys_is_told_from_what_it_refuses() {
        let unread = |answer| read(answer, false).unwrap_err();
        assert_eq!(unread("Permission denied\n\n"), Unread::Denied);
        assert_eq!(unread("Name: HAProxy\nPid: 7\n\nCan't find backend.\n\n"), Unread::NoBackend);
        assert!(matches!(unread(""), Unread::Strange(_)));
        assert!(matches!(unread("HTTP/1.1 400 Bad request\r\n\r\n"), Unread::Strange(_)));
        assert!(matches!(unread("Name: HAProxy\nPid: 7\n\n"), Unread::Strange(_)));
        assert!(matches!(unread("Name: HAProxy\nPid: 7\n\n1\n# be_id srv_name\n3\n\n"), Unread::Strange(_)));
    }
}
