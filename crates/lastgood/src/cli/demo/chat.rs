//! The story of one chat service with many users, who count what they lose: shares, guards, and a kill switch.

use super::{
    other_way,
    stage::{Stage, free_ports},
    trouble,
};
use crate::{
    cli::switch,
    drive,
    screen::{Screen, Trouble},
};
use last_layer::{
    Release,
    load::{Crowd, Load, Report},
    write_release,
};
use lastgood_domain::{
    event::End,
    switches,
    terms::{Reason, SwitchName},
};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

/// Half of them post over HTTP: enough that a fifth of the people is never nobody.
const PEOPLE: u32 = 60;
/// Few to a room: each message goes to everybody in it, and the machine is to have time for the releases.
const ROOMS: u32 = 15;
/// Between a person's messages.
const PAUSE: Duration = Duration::from_millis(150);
/// Far more than a chapter takes; they leave when it is over.
const STAY_MAX: Duration = Duration::from_secs(120);
/// How long the switch stays tripped: long enough that everybody wants to post.
const CLOSED: Duration = Duration::from_millis(1_500);
/// Longer than `drain` below: sockets of a release that was left are closed by then, and their people are back.
const DRAINED: Duration = Duration::from_secs(3);
/// One question at the front door.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// The switch of the story.
const SWITCH: &str = "auth";

/// The story of a service behind the built-in proxy.
pub(super) struct Chat {
    pub(super) stage: Stage,
    program: Vec<String>,
    front: SocketAddr,
}

impl Chat {
    /// Makes the service's configuration; nothing runs yet.
    pub(super) fn build(screen: Screen, folder: &Path) -> Result<Self, Trouble> {
        let program = vec![drive::program()?.display().to_string(), "internal".into(), "last-layer".into()];
        for name in ["data", "releases"] {
            let made = folder.join(name);
            fs::create_dir_all(&made).map_err(|error| trouble("make", &made, &error))?;
        }
        let [front, blue, green] = free_ports(folder)?;
        let text = [("FRONT", front), ("BLUE", blue), ("GREEN", green)]
            .iter()
            .fold(CONFIG.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
        let stage = Stage::build(screen, folder, "chat", &text)?;
        Ok(Self { stage, program, front: SocketAddr::from((Ipv4Addr::LOCALHOST, front)) })
    }

    /// Tells the chapters in order; gives how many there were, and whether the evidence holds.
    pub(super) fn tell(&self) -> Result<(u32, bool), Trouble> {
        let stage = &self.stage;
        stage.chapter("1.0.0 comes behind lastgood's proxy");
        self.publish("1.0.0")?;
        stage.expect("promoted", |end| matches!(end, End::Promoted))?;

        stage.chapter(&format!("{PEOPLE} people talk, and 1.1.0 comes: 20 %, 50 %, then everybody"));
        let crowd = self.crowd()?;
        self.publish("1.1.0")?;
        stage.expect("promoted", |end| matches!(end, End::Promoted))?;
        thread::sleep(DRAINED);
        let report = self.counted(crowd)?;
        if report.failed_requests > 0 {
            return Err(other_way(&format!("a good release failed requests: {:?}", report.failures)));
        }

        stage.chapter("1.2.0 fails a fifth of all requests: the guard sees it at the first share and takes it back");
        let crowd = self.crowd()?;
        self.publish("1.2.0")?;
        stage.expect("rolled back", |end| matches!(end, End::RolledBack { .. }))?;
        thread::sleep(DRAINED);
        self.counted(crowd)?;
        stage.lift()?;

        stage.chapter("a kill switch closes posting, and only posting, and opens it again");
        let crowd = self.crowd()?;
        self.switch_off_and_on()?;
        self.counted(crowd)?;
        stage.end()
    }

    fn publish(&self, version: &str) -> Result<(), Trouble> {
        let release =
            Release::of_catalogue(version).ok_or_else(|| trouble("find release", Path::new(version), &"unknown"))?;
        let folder = self.stage.folder.join("releases");
        write_release(&folder, &release, &self.program)
            .map(drop)
            .map_err(|error| trouble("publish into", &folder, &error))
    }

    fn crowd(&self) -> Result<Crowd, Trouble> {
        let load = Load {
            address: self.front,
            clients: PEOPLE,
            rooms: ROOMS,
            messages: u64::MAX,
            time: STAY_MAX,
            pause: PAUSE,
        };
        Crowd::come(load).map_err(|error| trouble("bring people into", &self.stage.folder, &error))
    }

    /// Lets the people leave and says what they saw; the story ends if a message was lost or came twice.
    fn counted(&self, crowd: Crowd) -> Result<Report, Trouble> {
        let report = crowd.leave();
        let Report { acknowledged, delivered, missing, doubled, out_of_order, failed_requests, .. } = report;
        if !report.holds || acknowledged == 0 {
            return Err(other_way(&format!(
                "{acknowledged} of {} messages were acknowledged, {missing} lost, {doubled} twice, {out_of_order} out of order",
                report.sent
            )));
        }
        self.stage
            .aside(&format!("the people: {acknowledged} messages sent, {delivered} deliveries, none lost, none twice"));
        let answers: Vec<String> = report.releases.iter().map(|(name, count)| format!("{count} by {name}")).collect();
        let closed = report.closes.get("1012").unwrap_or(&0);
        self.stage.aside(&format!(
            "the people: {failed_requests} requests failed; answers {}; {closed} sockets closed with 1012, {} cut",
            answers.join(", "),
            report.cuts
        ));
        Ok(report)
    }

    fn switch_off_and_on(&self) -> Result<(), Trouble> {
        let app = &self.stage.app;
        let name = SwitchName::new(SWITCH).expect("a fixed valid name");
        let reason = |text: &str| Reason::new(text).expect("a fixed valid reason");
        thread::sleep(CLOSED);
        let why = reason("tokens leak");
        switch::say(app, &|_, declared, _| switches::trip(declared, &name, &why))?;
        self.answers("lastgood switch trip auth", 503)?;
        thread::sleep(CLOSED);
        let why = reason("tokens are new");
        switch::say(app, &|state, declared, by| switches::reset(state, declared, by, &name, &why))?;
        self.answers("lastgood switch reset auth", 201)
    }

    /// Posts and reads as a new person; posting must be answered so, and reading always.
    fn answers(&self, typed: &str, post: u16) -> Result<(), Trouble> {
        let body = format!("{{\"id\":\"asked-{post}\",\"text\":\"c2VjcmV0\"}}");
        let posted = self.ask("POST", &body)?;
        let read = self.ask("GET", "")?;
        self.stage.aside(&format!("{typed}: a post is answered {posted}, a read {read}"));
        match (posted, read) == (post, 200) {
            true => Ok(()),
            false => Err(other_way(&format!("{post} and 200 were to come, and {posted} and {read} came"))),
        }
    }

    /// Asks at the front door and gives the answer's status.
    fn ask(&self, method: &str, body: &str) -> Result<u16, Trouble> {
        let failed = |error: std::io::Error| trouble("ask", Path::new("/rooms/lobby/messages"), &error);
        let mut stream = TcpStream::connect(self.front).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(failed)?;
        let head = format!(
            "{method} /rooms/lobby/messages HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| other_way(&format!("no HTTP answer came: {answer:?}")))
    }
}

const CONFIG: &str = r#"# The demo's configuration: examples/last-layer/lastgood.toml explains each line.
state_dir = "state"

[switches]
subsystems = ["auth"]
# No daemon runs here that would tell the proxy every few seconds that the switches stand as they stood.
lease = "1h"

[service.chat]
channel = { directory = "releases", version_file = "VERSION" }
command = ["{release}/last-layer", "--port", "{port}", "--bind", "{bind}", "--data", "{data}"]
state = { directory = "{data}" }
ready = { http = { path = "/health" }, expect = { status = 200 } }
rca = "off"

[service.chat.traffic]
proxy = { listen = ["127.0.0.1:FRONT"] }
# Far shorter than real ones, so that the story takes a minute.
shares = [{ percent = 20, bake = "2s" }, { percent = 50, bake = "2s" }, { percent = 100, bake = "2s" }]
drain = "2s"
warm = "10m"
guard = { error_rate_max = 3, deadline = "1m" }

[[service.chat.traffic.closes]]
switch = "auth"
routes = ["POST /rooms/*"]
retry_after = "5s"

[service.chat.traffic.resume]
path = "/rooms/lastgood-{run}/socket"
resume_path = "/rooms/lastgood-{run}/socket?after={last}"
send_json = { type = "post", id = "{id}", text = "c2VjcmV0" }
when = { "$.type" = "message" }
id = "$.id"
position = "$.seq"

[[service.chat.instance]]
name = "chat"
port = BLUE
other_port = GREEN
data = "data"

# A probe finds what never works. What fails now and then is for the guards to count: five tries, so that one 500 does not
# decide here.
[[service.chat.probe]]
name = "read the lobby"
http = { method = "GET", path = "/rooms/lobby/messages" }
expect = { status = 200 }
tries = 5
"#;
