//! Keeps chains and logs apart, as they are now: in an emergency, and as a step of an incident's plan.
//!
//! Each is copied by itself: the evidence may be what is wrong, and then the logs are worth most. What was copied is read
//! again before anybody is told that it is kept.

use crate::{app::App, cli::evidence};
use lastgood_domain::{
    evidence::{ExportCheck, ExportLine, NoteError, VerifierKey},
    failure::Failure,
    operations::incident,
    terms::{ChainName, Digest, IncidentId, ServiceName, Timestamp},
    words::{count, one_line},
};
use lastgood_engine::{letter::rfc3339, room};
use lastgood_store::EVIDENCE_FILE;
use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// The list of what a folder keeps, a line a file; a folder without it was not finished.
const LIST: &str = "DIGESTS";
/// Marks a folder as ours from its first moment until its list is there: only such a one is ever removed.
const UNFINISHED: &str = "UNFINISHED";
/// What can be done where something could not be kept.
const HINT: &str = "check owner and free space of the state folder, and copy by hand what is missing";

/// Keeps every instance's log and every chain in a folder of its own.
///
/// Errors: what could not be kept; all else is there.
pub(crate) fn apart(app: &App, now: Timestamp) -> Result<String, Failure> {
    keep(app, &shelf(app).join(when(now)))
}

/// Keeps the same for an incident, in a folder that bears its name and the time of its declaration: a state folder that
/// began anew has an incident of the same number. Repeated, it finds what is there already.
///
/// Errors: what could not be kept, or does not fit its digest; all else is there.
pub(crate) fn for_incident(app: &App, incident: IncidentId, now: Timestamp) -> Result<String, Failure> {
    let begin = begin(app, incident)?;
    for folder in begun(app, &begin) {
        match fits(&folder) {
            Ok(says) => return Ok(format!("kept already: {says}")),
            // Cut off before it was whole: it is made anew, and would only fill the disk.
            Err(_) if folder.join(UNFINISHED).exists() && !folder.join(LIST).exists() => {
                drop(fs::remove_dir_all(&folder));
            }
            Err(_) => {}
        }
    }
    keep(app, &shelf(app).join(begin + &when(now)))
}

/// Gives what the names of an incident's folders begin with.
fn begin(app: &App, incident: IncidentId) -> Result<String, Failure> {
    let operations = app.operations().map_err(|trouble| trouble.failure)?;
    let found = incident::find(&operations, incident).map_err(|error| Failure::of(&error))?;
    Ok(format!("{incident}-{}-", when(found.declared_at)))
}

fn begun(app: &App, begin: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(shelf(app)).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let ours = names.filter(|name| name.to_str().is_some_and(|name| name.starts_with(begin)));
    ours.map(|name| shelf(app).join(name)).collect()
}

/// Tells whether there is room for an incident's copies of all chains and logs, or they are there.
///
/// Errors: how much is missing.
pub(crate) fn room(app: &App, incident: IncidentId) -> Result<String, Failure> {
    let whole = begun(app, &begin(app, incident)?).into_iter().find_map(|folder| fits(&folder).ok());
    if let Some(says) = whole {
        return Ok(format!("kept already: {says}"));
    }
    let size = |path: &Path| fs::metadata(path).map_or(0, |facts| facts.len());
    let logs = app.config.service.iter().flat_map(|(service, config)| {
        let home = app.home.service(service);
        config.instance.iter().map(move |instance| home.log(&instance.name)).collect::<Vec<_>>()
    });
    let logs: u64 = logs.map(|log| (size(&log) + size(&older(&log))).min(2 * room::LOG_BYTES_MAX)).sum();
    // A record and its link are about twice as long in text.
    let chains = size(&app.home.root().join(EVIDENCE_FILE)).saturating_mul(2);
    let (needed, free) = (logs.saturating_add(chains), room::free(app.home.root()));
    // A way back must find room after it.
    if free / 2 < needed {
        let what = format!("the copies take about {needed} bytes, and {free} are free on the disk of the state folder");
        let hint = format!("make room for twice as much: df -h {}", app.home.root().display());
        return Err(Failure::new("preserve-no-room", what, Some(&hint)));
    }
    Ok(format!("about {needed} bytes of {free} that are free"))
}

fn shelf(app: &App) -> PathBuf {
    app.home.root().join("preserved")
}

fn when(now: Timestamp) -> String {
    rfc3339(now).replace([':', '.'], "-")
}

fn older(log: &Path) -> PathBuf {
    let mut name = log.to_path_buf().into_os_string();
    name.push(".1");
    name.into()
}

fn keep(app: &App, folder: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| {
        let what = format!("{} can't be written: {error}", folder.display());
        Failure::new("emergency-preserve", what, Some(HINT))
    };
    make_folder(folder).map_err(failed)?;
    File::create_new(folder.join(UNFINISHED)).map_err(failed)?;
    let mut kept = Kept { folder: folder.to_path_buf(), list: String::new(), files: 0, missing: Vec::new() };
    for (service, config) in &app.config.service {
        for instance in &config.instance {
            kept.log(service, instance.name.as_str(), &app.home.service(service).log(&instance.name));
        }
    }
    kept.chains(app);
    finish(folder, &kept.list).map_err(failed)?;
    let (first, missing) = (kept.missing.first(), count(kept.missing.len() as u64, "thing"));
    match (fits(folder), first) {
        (Ok(says), _) => Ok(says),
        (Err(_), Some(first)) => {
            let digest = Digest::of(kept.list.as_bytes());
            let says = format!("{} in {}, the list is {digest}", count(kept.files, "file"), folder.display());
            let what = format!("{missing} could not be kept, the first is {first}; the rest is there: {says}");
            Err(Failure::new("emergency-preserve", what, Some(HINT)))
        }
        (Err(why), None) => {
            let what = format!("what was kept in {} does not fit: {why}", folder.display());
            Err(Failure::new("emergency-preserve", what, Some(HINT)))
        }
    }
}

/// Writes a folder's list once all that it names is on the disk: a list that is there is whole, and so is what it names.
fn finish(folder: &Path, list: &str) -> io::Result<()> {
    sync(folder)?;
    let new = folder.join(format!("{LIST}.new"));
    let mut out = File::create(&new)?;
    out.write_all(list.as_bytes())?;
    out.sync_all()?;
    fs::rename(new, folder.join(LIST))?;
    sync_one(folder)?;
    folder.parent().map_or(Ok(()), sync_one)?;
    fs::remove_file(folder.join(UNFINISHED))
}

/// Brings a folder and all that is in it to the disk.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { sync(&entry.path())? } else { sync_one(&entry.path())? }
    }
    sync_one(folder)
}

fn sync_one(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Reads what a folder keeps, and compares it with its list.
///
/// Errors: it has no list or one that names nothing, something is missing, or a file does not fit its digest.
fn fits(folder: &Path) -> Result<String, String> {
    let list = fs::read_to_string(folder.join(LIST)).map_err(|error| format!("{LIST}: {error}"))?;
    let mut files = 0;
    for line in list.lines() {
        let (listed, name) = line.split_once("  ").ok_or_else(|| line.to_owned())?;
        let is = digest(&folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        if is.to_string() != listed {
            return Err(format!("{name} is {is} and was {listed}"));
        }
        files += 1;
    }
    if files == 0 {
        return Err(format!("{LIST} names no file"));
    }
    Ok(format!("{} in {}, the list is {}", count(files, "file"), folder.display(), Digest::of(list.as_bytes())))
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
                    let read = exported.map_err(|trouble| trouble.failure.to_string());
                    self.take(name.clone(), read.and_then(|(_, key)| holds(&self.folder.join(&name), &key)));
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

/// Reads an exported chain again: its records, their links and the signed checkpoint over them.
fn holds(path: &Path, key: &str) -> Result<(), String> {
    let key: VerifierKey = key.parse().map_err(|error: NoteError| error.to_string())?;
    let mut lines = BufReader::new(File::open(path).map_err(|error| error.to_string())?).lines();
    let mut line = || -> Result<ExportLine, String> {
        let text = lines.next().ok_or("it was cut")?.map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    };
    let mut check = ExportCheck::open(line()?, &key).map_err(|error| error.to_string())?;
    loop {
        match line()? {
            ExportLine::Record(record) => check.record(&record).map_err(|error| error.to_string())?,
            ExportLine::End(end) => return check.end(&end).map(drop).map_err(|error| error.to_string()),
            ExportLine::Open(_) => return Err("a second export begins within it".into()),
        }
    }
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
