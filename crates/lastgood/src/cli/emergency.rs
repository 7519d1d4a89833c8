//! `lastgood emergency`: everything off in one command, and what was seen kept.
//!
//! Each act stands alone: one that fails keeps no other from being done, and is said.

use super::{Ended, evidence, switch};
use crate::{app::App, enforce, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    failure::Failure,
    operations::{
        Event,
        emergency::{Act, EmergencyEvent, Row},
        hold::{self, HoldEvent, HoldKind, InFlight, Selector},
    },
    switches,
    terms::{ChainName, Digest, Reason, ServiceName, Timestamp},
    words::{count, one_line},
};
use lastgood_engine::{incident::emergency_step, letter::rfc3339, room};
use lastgood_store::EVIDENCE_FILE;
use serde_json::json;
use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// What has to be typed, because it stops everybody.
const NAME: &str = "everything";

/// Stop everything now: trip the global switch, hold all changes, run the runbook's emergency commands, verify the
/// evidence and preserve logs. Rollbacks stay possible.
#[derive(Debug, Args)]
pub(crate) struct Emergency {
    /// Why.
    #[arg(long)]
    reason: Reason,
    /// Type `everything` to confirm: this affects all users.
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

impl Emergency {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        if self.confirm.as_deref() != Some(NAME) {
            return Err(Trouble::say(
                Exit::Declined,
                "emergency-unconfirmed",
                "nothing was done: this stops everybody",
                &format!("type: lastgood emergency --reason … --confirm {NAME}"),
            ));
        }
        let _kept_open = crate::room::make(app);
        let now = app.now();
        let mut rows = Vec::new();
        let mut row = |act: Act, done: Result<String, Failure>| {
            let (done, says) = match done {
                Ok(says) => (true, says),
                Err(failure) => (false, failure.to_string()),
            };
            app.screen.tell(&format!("{}  {}: {says}", if done { "done  " } else { "FAILED" }, act.words()));
            rows.push(Row { act, done, says });
        };
        // By safety: what keeps harm from going on comes before what is only looked at.
        if app.config.switches.is_some() {
            row(Act::TripAll, trip(app, &self.reason));
        }
        row(Act::HoldAll, hold_all(app, &self.reason));
        for name in app.config.runbook.emergency.keys() {
            row(Act::Command { name: name.clone() }, emergency_step(&app.config, name));
        }
        row(Act::VerifyEvidence, verify(app));
        row(Act::PreserveLogs, preserve(app, now));
        let reason = self.reason.clone();
        let event = Event::Emergency(EmergencyEvent { reason: reason.clone(), rows: rows.clone() });
        app.say_operations(&|_| Ok(vec![event.clone()]))?;
        let failed = rows.iter().filter(|row| !row.done).count() as u64;
        let verdict = match failed {
            0 => "all of it is done".to_owned(),
            n => format!("{} FAILED; do those steps by hand", count(n, "act")),
        };
        let text = format!("{verdict}\nlead it from here: lastgood incident declare --level L3 --trigger …");
        app.screen.show("emergency", &json!({ "reason": reason, "acts": rows, "failed": failed }), &text);
        Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
    }
}

fn trip(app: &App, reason: &Reason) -> Result<String, Failure> {
    let all = switches::all();
    let said = switch::say(app, &|_, declared, _| switches::trip(declared, &all, reason));
    said.map(|_| "every switch counts as tripped, every flag is off".to_owned()).map_err(|trouble| trouble.failure)
}

fn hold_all(app: &App, reason: &Reason) -> Result<String, Failure> {
    let said = app.say_operations(&|state| {
        let wanted = hold::Wanted {
            kinds: HoldKind::ALL.into(),
            selector: Selector::default(),
            reason: reason.clone(),
            until: None,
            review: Some(app.now().after(app.config.holds.review_after.0)),
            in_flight: InFlight::Pause,
        };
        let set = hold::set(&state.holds, wanted)?;
        Ok(vec![Event::Hold(set)])
    });
    let (records, _) = said.map_err(|trouble| trouble.failure)?;
    let set = records.iter().find_map(|record| match record.event {
        Event::Hold(HoldEvent::Set { hold, .. }) => Some(hold),
        _ => None,
    });
    let hold = set.expect("a hold was set");
    // Nobody else may be there to ask those outside.
    enforce::in_emergency(app);
    let operations = app.operations().map_err(|trouble| trouble.failure)?;
    let open = lastgood_engine::enforce::unconfirmed(&app.config, &operations, app.now());
    let open: Vec<String> =
        open.into_iter().filter(|(_, holds)| holds.contains(&hold)).map(|(name, _)| name.to_string()).collect();
    let kinds = HoldKind::ALL.map(HoldKind::as_str).join(", ");
    match open.is_empty() {
        true => Ok(format!("{kinds} of every service are held")),
        false => {
            let what = format!(
                "{hold} stands, and is not confirmed by {}: close it there by hand, and ask again: lastgood hold sync",
                open.join(", ")
            );
            Err(Failure::new("emergency-not-held", what, Some("ask it again: lastgood hold sync")))
        }
    }
}

fn verify(app: &App) -> Result<String, Failure> {
    let run = evidence::verified(app).map_err(|trouble| trouble.failure)?;
    match run.findings.first() {
        None => Ok(format!("{} verified", count(run.records, "record"))),
        Some(finding) => {
            Err(Failure::new("evidence-broken", evidence::says(finding), Some("lastgood evidence verify")))
        }
    }
}

/// Copies every instance's log and every chain into a folder of its own, with a list of digests. Each is copied by itself:
/// in an emergency the evidence may be what is wrong, and then the logs are worth most.
///
/// Errors: what could not be kept; all else is there.
fn preserve(app: &App, now: Timestamp) -> Result<String, Failure> {
    let at = rfc3339(now).replace([':', '.'], "-");
    let folder = app.home.root().join("preserved").join(at);
    let hint = "check owner and free space of the state folder, and copy by hand what is missing";
    let failed = |error: io::Error| {
        let what = format!("{} can't be written: {error}", folder.display());
        Failure::new("emergency-preserve", what, Some(hint))
    };
    make_folder(&folder).map_err(failed)?;
    let mut kept = Kept { folder: folder.clone(), list: String::new(), files: 0, missing: Vec::new() };
    for (service, config) in &app.config.service {
        for instance in &config.instance {
            kept.log(service, instance.name.as_str(), &app.home.service(service).log(&instance.name));
        }
    }
    kept.chains(app);
    let mut out = File::create_new(folder.join("DIGESTS")).map_err(failed)?;
    out.write_all(kept.list.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)?;
    let digest = Digest::of(kept.list.as_bytes());
    let says = format!("{} in {}, the list is {digest}", count(kept.files, "file"), folder.display());
    match kept.missing.first() {
        None => Ok(says),
        Some(first) => {
            let missing = count(kept.missing.len() as u64, "thing");
            let what = format!("{missing} could not be kept, the first is {first}; the rest is there: {says}");
            Err(Failure::new("emergency-preserve", what, Some(hint)))
        }
    }
}

/// What is kept apart, and what could not be.
struct Kept {
    folder: PathBuf,
    /// A line a file, as `sha256sum` has them; what is missing is a line that it passes over.
    list: String,
    files: u64,
    missing: Vec<String>,
}

impl Kept {
    /// Keeps an instance's log. Beside it lies what was cut from it, which may be all that was said.
    fn log(&mut self, service: &ServiceName, instance: &str, log: &Path) {
        // Names may have dashes: only a folder keeps a-b/c and a/b-c apart.
        let folder = format!("logs/{service}");
        for suffix in ["", ".1"] {
            let mut log = log.to_path_buf().into_os_string();
            log.push(suffix);
            let name = format!("{folder}/{instance}.log{suffix}");
            // Logs of gigabytes must not fill the disk that a way back writes to.
            let copied = make_folder(&self.folder.join(&folder))
                .and_then(|()| room::copy_newest(log.as_ref(), &self.folder.join(&name), room::LOG_BYTES_MAX));
            match copied {
                // It never ran, or was never cut.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => self.take(name, copied.map(drop).map_err(|error| error.to_string())),
            }
        }
    }

    /// Keeps every chain, signed; the evidence file as it is where one can't be signed.
    fn chains(&mut self, app: &App) {
        let before = self.missing.len();
        match chains(app) {
            Err(failure) => self.missed("the list of chains", &failure.message),
            Ok(chains) => {
                for chain in chains {
                    let name = format!("{}.jsonl", chain.as_str().replace('/', "-"));
                    let exported = evidence::export_chain(app, &chain, &self.folder.join(&name));
                    self.take(name, exported.map(drop).map_err(|trouble| trouble.failure.to_string()));
                }
            }
        }
        if self.missing.len() == before {
            return;
        }
        for suffix in ["", "-wal"] {
            let name = format!("{EVIDENCE_FILE}{suffix}");
            match room::copy_newest(&app.home.root().join(&name), &self.folder.join(&name), u64::MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => self.take(name, copied.map(drop).map_err(|error| error.to_string())),
            }
        }
    }

    fn take(&mut self, name: String, kept: Result<(), String>) {
        let digest = kept.and_then(|()| digest(&self.folder.join(&name)).map_err(|error| error.to_string()));
        match digest {
            Ok(digest) => {
                self.list += &format!("{digest}  {name}\n");
                self.files += 1;
            }
            Err(why) => self.missed(&name, &why),
        }
    }

    fn missed(&mut self, name: &str, why: &str) {
        let line = one_line(&format!("{name}: {why}"));
        self.list += &format!("# missing: {line}\n");
        self.missing.push(line);
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn chains(app: &App) -> Result<Vec<ChainName>, Failure> {
    let store = app.store().map_err(|trouble| trouble.failure)?;
    let chains = store.chains().map_err(|error| Failure::of(&error))?;
    Ok(chains.into_iter().map(|chain| chain.name).collect())
}

fn digest(path: &Path) -> io::Result<Digest> {
    use sha2::Digest as _;
    let (mut file, mut hash, mut buffer) = (File::open(path)?, sha2::Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}
