//! The proxies that are measured, and the two upstreams behind each.

use crate::{Bench, notebook::said};
use lastgood_domain::{
    terms::{Digest, InstanceName, ServiceName},
    traffic::{Share, Side, Table, Upstream},
};
use lastgood_drivers::traffic::{Builtin, Router as _};
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Programs, and the Debian packages that have them.
const NEEDED: [&str; 3] = ["haproxy", "nginx", "wrk"];
/// A proxy that does not listen by then has failed.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
/// Ticks of the kernel's clock in a second, as /proc counts.
const TICKS: f64 = 100.0;

/// Says what is missing.
pub(super) fn need() -> Result<(), String> {
    let missing: Vec<&str> = NEEDED.into_iter().filter(|program| find(program).is_none()).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("as root, type: apt-get install -y --no-install-recommends {}", missing.join(" "))),
    }
}

pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin"]).map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

fn free() -> Result<SocketAddr, String> {
    said(said(TcpListener::bind("127.0.0.1:0"))?.local_addr())
}

/// A process that ends with this.
pub(super) struct Running(Child);

impl Running {
    fn start(program: &Path, arguments: &[&str], listens: SocketAddr) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let mut running = Self(said(command.spawn())?);
        let began = Instant::now();
        while TcpStream::connect(listens).is_err() {
            let ended = said(running.0.try_wait())?.is_some();
            if ended || began.elapsed() > LISTENS_WITHIN {
                return Err(format!("{} does not listen", program.display()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    /// Lists the process and its children.
    fn pids(&self) -> Result<Vec<u32>, String> {
        let id = self.0.id();
        let children = said(fs::read_to_string(format!("/proc/{id}/task/{id}/children")))?;
        Ok(std::iter::once(id).chain(children.split_whitespace().filter_map(|child| child.parse().ok())).collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A master that is killed leaves its workers; one that is told to end takes them along.
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// The two releases.
pub(super) struct Upstreams {
    pub(super) old: SocketAddr,
    pub(super) new: SocketAddr,
    _running: Running,
}

impl Upstreams {
    pub(super) fn start(bench: &Bench) -> Result<Self, String> {
        let (old, new) = (free()?, free()?);
        let server = |address, name| {
            format!(
                "server {{ listen {address} backlog=4096; location / {{ return 200 \"{name} release says it\\n\"; }} }}"
            )
        };
        let config = nginx_config(bench, "upstream", 1, &format!("{}\n{}", server(old, "old"), server(new, "new")))?;
        let running = nginx(&config, old)?;
        Ok(Self { old, new, _running: running })
    }
}

fn nginx(config: &str, listens: SocketAddr) -> Result<Running, String> {
    let program = find("nginx").ok_or("nginx is missing")?;
    Running::start(&program, &["-g", "daemon off;", "-c", config], listens)
}

fn nginx_config(bench: &Bench, name: &str, workers: u8, servers: &str) -> Result<String, String> {
    let path = bench.scratch.join(format!("{name}.conf"));
    let pid = bench.scratch.join(format!("{name}.pid"));
    let text = format!(
        "worker_processes {workers}; pid {}; error_log /dev/null;\nevents {{ worker_connections 9000; }}\n\
         http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600;\n{servers}\n}}\n",
        pid.display()
    );
    said(fs::write(&path, text))?;
    Ok(path.display().to_string())
}

/// One of those that are measured.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    running: Running,
    state: PathBuf,
}

impl Peer {
    pub(super) fn lastgood(bench: &Bench, upstreams: &Upstreams) -> Result<Self, String> {
        let address = free()?;
        let state = bench.scratch.join("proxy");
        let settings = serde_json::json!({
            "state_dir": state, "threads": 2, "services": { "chat": { "listen": [address] } }
        });
        let path = bench.scratch.join("proxy.json");
        said(fs::write(&path, settings.to_string()))?;
        let arguments = ["proxy", "--settings", &path.display().to_string()];
        let running = Running::start(&bench.lastgood, &arguments, address)?;
        let peer = Self { name: "lastgood", address, running, state };
        route(&peer, upstreams, 500)?;
        Ok(peer)
    }

    pub(super) fn haproxy(bench: &Bench, upstreams: &Upstreams) -> Result<Self, String> {
        let address = free()?;
        let path = bench.scratch.join("haproxy.cfg");
        let text = format!(
            "global\n nbthread 2\n maxconn 9000\ndefaults\n mode http\n timeout connect 3s\n timeout client 60s\n \
             timeout server 60s\n http-reuse aggressive\n option forwardfor\nfrontend f\n bind {address}\n \
             default_backend b\nbackend b\n balance hash req.cook(lastgood)\n hash-type consistent\n \
             http-request set-header X-Forwarded-Proto http\n server old {} weight 95\n server new {} weight 5\n",
            upstreams.old, upstreams.new
        );
        said(fs::write(&path, text))?;
        let program = find("haproxy").ok_or("haproxy is missing")?;
        let running = Running::start(&program, &["-db", "-f", &path.display().to_string()], address)?;
        Ok(Self { name: "HAProxy", address, running, state: PathBuf::new() })
    }

    pub(super) fn nginx(bench: &Bench, upstreams: &Upstreams) -> Result<Self, String> {
        let address = free()?;
        let upstream = |name, address| {
            format!("upstream {name} {{ server {address}; keepalive 128; keepalive_requests 100000000; }}\n")
        };
        let servers = format!(
            "{}{}split_clients \"${{cookie_lastgood}}\" $side {{ 5% new; * old; }}\n\
             server {{ listen {address} reuseport backlog=4096; location / {{ proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_set_header Host $host; \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
             proxy_set_header X-Forwarded-Proto $scheme; proxy_pass http://$side; }} }}",
            upstream("old", upstreams.old),
            upstream("new", upstreams.new)
        );
        let config = nginx_config(bench, "peer", 2, &servers)?;
        Ok(Self { name: "nginx", address, running: nginx(&config, address)?, state: PathBuf::new() })
    }

    /// Gives the processor time that it has used, in seconds.
    pub(super) fn processor(&self) -> Result<f64, String> {
        let mut ticks = 0.0;
        for pid in self.running.pids()? {
            let text = said(fs::read_to_string(format!("/proc/{pid}/stat")))?;
            let fields = text.rsplit(") ").next().unwrap_or_default().split(' ');
            // The 14th and 15th of all; two stand before the parenthesis' end.
            ticks += fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
        }
        Ok(ticks / TICKS)
    }

    /// Gives its memory in KiB, what it shares counted once.
    pub(super) fn memory(&self) -> Result<f64, String> {
        let mut sum = 0.0;
        for pid in self.running.pids()? {
            let text = said(fs::read_to_string(format!("/proc/{pid}/smaps_rollup")))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
            sum += line.trim().trim_end_matches(" kB").parse::<f64>().map_err(|error| error.to_string())?;
        }
        Ok(sum)
    }
}

/// Tells ours to send so many seats of 10,000 to the new release.
pub(super) fn route(proxy: &Peer, upstreams: &Upstreams, seats: u16) -> Result<(), String> {
    let side = |tag: &str, address| {
        let instance = InstanceName::new(tag).map_err(|error| error.to_string())?;
        let upstreams = vec![Upstream { instance, address }];
        Ok::<_, String>(Some(Side { release: Digest::of(tag.as_bytes()), tag: tag.into(), upstreams }))
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let table = Table {
        v: Table::VERSION,
        service: ServiceName::new("chat").map_err(|error| error.to_string())?,
        epoch: u64::try_from(now.as_micros()).unwrap_or(u64::MAX),
        salt: "bench".into(),
        last_good: side("old", upstreams.old)?,
        candidate: side("new", upstreams.new)?,
        share: Share::of_seats(seats),
        leaving: Vec::new(),
        synthetic: None,
        closed: Vec::new(),
        lease: None,
        fallback: None,
    };
    Builtin::new(&proxy.state).route(&table).map(drop).map_err(|error| error.to_string())
}
