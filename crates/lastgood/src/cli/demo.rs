//! `lastgood demo`: the whole story in a minute, on the built-in notebook service. Nothing is pretended: real
//! processes, real SQLite data, real releases of which some are bad.

use super::{Ended, evidence, run, status::describe};
use crate::{
    app::{self, App},
    drive,
    exit::Exit,
    screen::{Screen, Trouble},
};
use clap::Args;
use lastgood_domain::{
    event::{End, Event},
    terms::{HoldId, InstanceName, Reason, ServiceName},
};
use lastgood_engine::{config::Config, paths::Home, world::Site};
use lastgood_notebook::{Fault, Release, Seed};
use serde_json::json;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The instances, and which accounts they have; only carol's has letters that 2.3.0 breaks.
const INSTANCES: [(&str, &str, u32); 5] = [
    ("alice", "probe", 40),
    ("bob", "probe", 400),
    ("carol", "café o'clock", 20),
    ("dave", "probe", 40),
    ("erin", "probe", 40),
];
/// The one that somebody is using.
const BUSY: &str = "dave";
/// The password of the demo's accounts: nobody's, made for this.
const PASSWORD: &str = "a demo password";

/// Tell the whole story in a minute, on a built-in service.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keep everything in this folder, which must not exist yet. Default: a temporary one, removed at the end.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

impl Demo {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen) -> Ended {
        let began = Instant::now();
        let temporary;
        let folder = match &self.keep {
            Some(folder) => {
                fs::create_dir(folder).map_err(|error| trouble("make the folder", folder, &error))?;
                std::path::absolute(folder).map_err(|error| trouble("find", folder, &error))?
            }
            None => {
                temporary = tempfile::Builder::new()
                    .prefix("lastgood-demo-")
                    .tempdir()
                    .map_err(|error| trouble("make a temporary folder in", &std::env::temp_dir(), &error))?;
                temporary.path().to_path_buf()
            }
        };
        let stage = Stage::build(screen, &folder)?;
        let told = stage.tell();
        stage.clear();
        let (chapters, holds) = told?;
        let verdict = if holds { "the evidence holds" } else { "the evidence does NOT hold" };
        let kept = self.keep.as_ref().map_or_else(String::new, |folder| {
            format!("\nlook around: lastgood --config {}/lastgood.toml log", folder.display())
        });
        screen.show(
            "demo",
            &json!({ "chapters": chapters, "evidence_holds": holds, "seconds": began.elapsed().as_secs() }),
            &format!(
                "{chapters} chapters in {} s; nobody lost a note, and {verdict}{kept}\nyour own service: lastgood init npm:PACKAGE",
                began.elapsed().as_secs()
            ),
        );
        Ok(if holds { Exit::Done } else { Exit::Failed })
    }
}

fn trouble(act: &str, path: &Path, error: &dyn std::fmt::Display) -> Trouble {
    Trouble::say(
        Exit::Failed,
        "demo-failed",
        format!("the demo can't {act} {}: {error}", path.display()),
        "name a folder on a disk with some room: lastgood demo --keep FOLDER",
    )
}

/// The place where the story plays.
struct Stage {
    app: App,
    service: ServiceName,
    folder: PathBuf,
    program: Vec<String>,
    ports: Vec<(InstanceName, u16)>,
}

impl Stage {
    fn build(screen: Screen, folder: &Path) -> Result<Self, Trouble> {
        let program = vec![drive::program()?.display().to_string(), "internal".into(), "notebook".into(), "--".into()];
        let mut ports = Vec::new();
        let mut listeners = Vec::new();
        for (name, account, notes) in INSTANCES {
            let data = folder.join("data").join(name);
            let first = Release::of_catalogue("1.0.0").ok_or_else(|| trouble("find", folder, &"release 1.0.0"))?;
            let seed = Seed { release: &first, names: &[account], accounts: 3, notes, password: PASSWORD };
            fs::create_dir_all(&data).map_err(|error| trouble("make", &data, &error))?;
            lastgood_notebook::seed(&data, &seed).map_err(|error| trouble("fill", &data, &error))?;
            let listener =
                TcpListener::bind(("127.0.0.1", 0)).map_err(|error| trouble("find a port for", &data, &error))?;
            let port = listener.local_addr().map_err(|error| trouble("find a port for", &data, &error))?.port();
            let name = InstanceName::new(name).expect("a fixed valid name");
            ports.push((name, port));
            // Held until all are chosen, so that no two instances get the same one.
            listeners.push(listener);
        }
        drop(listeners);
        let secret = folder.join("probe-password");
        fs::write(&secret, PASSWORD)
            .and_then(|()| fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)))
            .map_err(|error| trouble("write", &secret, &error))?;
        let path = folder.join("lastgood.toml");
        let text = config(&ports);
        fs::write(&path, &text).map_err(|error| trouble("write", &path, &error))?;
        let config = Config::parse(&text, &path, folder).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        let app = App { screen, config_path: path, home: Home::at(&config.state_dir), config, actor: app::actor() };
        let service = ServiceName::new("notebook").expect("a fixed valid name");
        Ok(Self { app, service, folder: folder.to_path_buf(), program, ports })
    }

    /// Tells the chapters in order; gives how many there were, and whether the evidence holds.
    fn tell(&self) -> Result<(u32, bool), Trouble> {
        let mut chapters = 0;
        let mut chapter = |title: &str| {
            chapters += 1;
            self.app.screen.tell(&format!("\n== {chapters}. {title}"));
        };
        chapter("1.0.0 comes to five people, each with data of their own");
        self.publish("1.0.0", None)?;
        self.expect("promoted", |end| matches!(end, End::Promoted))?;
        chapter("1.1.0 is good and adds a column; dave is in use and is left for later");
        self.session("open")?;
        self.publish("1.1.0", None)?;
        self.expect("promoted", |end| matches!(end, End::Promoted))?;
        chapter("2.1.0 breaks every login in its migration, with a healthy page: the rehearsal catches it");
        self.publish("2.1.0", None)?;
        self.expect("rejected in rehearsal", |end| matches!(end, End::RehearsalFailed { .. }))?;
        chapter("2.3.0 passes the rehearsal and breaks one person's login: the canary goes back, with its data");
        self.publish("2.3.0", None)?;
        self.expect("rolled back", |end| matches!(end, End::RolledBack { .. }))?;
        self.lift()?;
        chapter("2.4.0 dies soon after its start: the watch over the first wave catches it");
        self.publish("2.4.0", Some(Fault::Crash { after_ms: 700 }))?;
        self.expect("rolled back", |end| matches!(end, End::RolledBack { .. }))?;
        self.lift()?;
        chapter("2.5.0 is good; dave's session ends, and dave follows later");
        self.publish("2.5.0", None)?;
        self.expect("promoted", |end| matches!(end, End::Promoted))?;
        self.session("close")?;
        self.expect("promoted", |end| matches!(end, End::Promoted))?;
        chapter("2.5.0 comes again with other bytes: a tag that moved is refused");
        self.republish("2.5.0")?;
        self.expect("refused", |end| matches!(end, End::Refused { .. }))?;
        chapter("where everything stands, and whether the evidence holds");
        let folded = self.app.look(&self.service)?;
        let (_, text) = describe(&self.app, &[(self.service.clone(), folded)])?;
        self.app.screen.tell(&text);
        let verified = evidence::verified(&self.app)?;
        Ok((chapters, verified.is_ok()))
    }

    fn publish(&self, version: &str, fault: Option<Fault>) -> Result<(), Trouble> {
        let folder = self.folder.join("releases");
        let mut release =
            Release::of_catalogue(version).ok_or_else(|| trouble("find release", Path::new(version), &"unknown"))?;
        if let Some(fault) = fault {
            release.fault = fault;
        }
        fs::create_dir_all(&folder).map_err(|error| trouble("make", &folder, &error))?;
        lastgood_notebook::write_release(&folder, &release, &self.program)
            .map(drop)
            .map_err(|error| trouble("publish into", &folder, &error))
    }

    fn republish(&self, version: &str) -> Result<(), Trouble> {
        let folder = self.folder.join("releases");
        let release =
            Release::of_catalogue(version).ok_or_else(|| trouble("find release", Path::new(version), &"unknown"))?;
        lastgood_notebook::republish(&folder, &release, &self.program)
            .map(drop)
            .map_err(|error| trouble("publish into", &folder, &error))
    }

    /// Does one pass and stops the story if it does not end as told.
    fn expect(&self, wanted: &str, is: fn(&End) -> bool) -> Result<(), Trouble> {
        let end = run::pass(&self.app, &self.service)?;
        match &end {
            Some(end) if is(end) => Ok(()),
            other => Err(Trouble::say(
                Exit::Failed,
                "demo-failed",
                format!("the story went another way: {wanted} was to come, and {other:?} came"),
                "look at it with --keep FOLDER and report it",
            )),
        }
    }

    /// Lifts the hold that lastgood set when it rolled back, as the person who has read its notice would.
    fn lift(&self) -> Result<(), Trouble> {
        let reason = Reason::new("read the notice; upstream is told").expect("a fixed valid reason");
        self.app.say(&self.service, |folded| {
            let holds: Vec<HoldId> = folded.holds.keys().copied().collect();
            Ok(holds.into_iter().map(|hold| Event::HoldLifted { hold, reason: reason.clone() }).collect())
        })?;
        self.app.screen.tell("      a person reads the notice and lifts the hold");
        Ok(())
    }

    /// Opens or closes somebody's session on the busy instance.
    fn session(&self, act: &str) -> Result<(), Trouble> {
        let failed = |error: std::io::Error| trouble("reach", Path::new(BUSY), &error);
        let port = self.ports.iter().find(|(name, _)| name.as_str() == BUSY).map_or(0, |(_, port)| *port);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(failed)?;
        let request =
            format!("POST /session/{act} HTTP/1.1\r\nHost: {BUSY}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        self.app.screen.tell(&format!("      somebody's session on {BUSY}: {act}"));
        Ok(())
    }

    /// Stops what the story started.
    fn clear(&self) {
        let Ok(program) = drive::program() else { return };
        let home = self.app.home.service(&self.service);
        let Ok(site) = Site::open(&self.app.config, &self.service, home, program) else { return };
        for (instance, _) in &self.ports {
            if let Err(error) = site.runtime.stop(&self.service, instance, site.config.stop_timeout.0) {
                self.app.screen.trouble(&Trouble::new(Exit::Failed, &error));
            }
        }
    }
}

fn config(ports: &[(InstanceName, u16)]) -> String {
    let mut text = CONFIG.to_owned();
    for (name, port) in ports {
        let account =
            INSTANCES.iter().find(|(known, ..)| *known == name.as_str()).map_or("", |(_, account, _)| account);
        text += &format!(
            "\n[[service.notebook.instance]]\nname = \"{name}\"\nport = {port}\ndata = \"data/{name}\"\nvars = {{ account = \"{account}\" }}\n"
        );
    }
    text
}

const CONFIG: &str = r#"# The demo's configuration: examples/notebook/lastgood.toml explains each line.
state_dir = "state"

[secret.login]
file = "probe-password"

[service.notebook]
channel = { directory = "releases", version_file = "VERSION" }
command = ["{release}/notebook"]
env = { NOTEBOOK_DATA = "{data}", NOTEBOOK_PORT = "{port}", NOTEBOOK_BIND = "{bind}" }
state = { directory = "{data}", exclude = ["access.log*"] }
ready = { http = { path = "/health" }, expect = { status = 200 } }
busy = { http = { path = "/busy" }, expect = { status = 200, json = { "$.busy" = true } } }
rollout = { soak = "1200ms", wave_size = 2 }

[[service.notebook.probe]]
name = "log in"
any = [
  { name = "v2", http = { method = "POST", path = "/v2/login", json = { name = "{account}", password = "{secret:login}" } }, expect = { status = 200 }, capture = { token = { json = "$.token" } } },
  { name = "v1", http = { method = "POST", path = "/account/login", json = { name = "{account}", password = "{secret:login}" } }, expect = { status = 200 }, capture = { token = { json = "$.token" } } },
]

[[service.notebook.probe]]
name = "read the notes"
http = { method = "GET", path = "/notes", headers = { Authorization = "Bearer {token}" } }
expect = { status = 200 }
"#;
