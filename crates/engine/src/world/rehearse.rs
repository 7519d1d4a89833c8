//! One leg of a rehearsal: a throwaway instance on a copy, started as in production, probed, stopped.
//!
//! The work is done by lastgood itself in a process of its own behind a fence, so that the candidate can't
//! reach live data or the network, and nothing of it survives, however this process ends.

use super::{Site, act, data};
use crate::{config::InstanceConfig, doctor, room, setup::Setup};
use lastgood_domain::{
    effect::{Answer, Leg},
    facts::{ProbeFacts, RehearsalFacts},
    failure::{Failure, REPORT},
    service::Service,
    terms::{Digest, InstanceName, SnapshotId, Span},
};
use lastgood_drivers::{
    probe::{LogPatterns, ProbeConfig, ProbeTarget, SecretSource, Secrets, Step, wait_ready},
    runtime::{
        Launch, Runtime as _, RuntimeError,
        fence::{self, Fence},
        process::ProcessRuntime,
    },
    state::{self, StatePlace},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

/// Longest plan or report: both are a few KiB.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// The code of a program that could not be executed at all.
const START_REFUSED: &str = "start-refused";

/// What the worker is to do; it holds secrets, so it goes through a pipe and is never written down.
#[derive(Serialize, Deserialize)]
pub(super) struct Plan {
    /// What production would start, with the user it would run as.
    launch: Launch,
    /// Where the throwaway's record is kept: a runtime of its own, so that no other finds it.
    runtime: PathBuf,
    ready: Option<Step>,
    probe: Vec<Step>,
    base: String,
    vars: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretSource>,
    folder: PathBuf,
    ready_limit: Span,
    limit: Span,
    stop_limit: Span,
    fail_on_log: Vec<String>,
    /// What is hidden from the rehearsed program; `None` where the system has no namespaces.
    fence: Option<fence::Plan>,
}

/// What the worker saw.
#[derive(Serialize, Deserialize)]
enum Report {
    Passed {
        probe: ProbeFacts,
        ready_after: Span,
    },
    /// By the fault of what was rehearsed.
    Failed(Failure),
    /// By the machine's.
    Hindered(Failure),
}

/// Rehearses one leg and tells what came of it.
pub(super) fn rehearse(
    site: &Site,
    service: &Service,
    instance: &InstanceName,
    snapshot: SnapshotId,
    release: &Digest,
    leg: Leg,
) -> Result<Answer, Failure> {
    let began = Instant::now();
    let config = site.instance(instance)?;
    let scratch = site.home.scratch();
    let root = scratch.join(if leg == Leg::Control { "control" } else { "candidate" });
    let data = root.join("data");
    let mut setup = match leg {
        Leg::Candidate | Leg::Restart => site.todays(config),
        // Last-good as it runs, asked as lastgood.toml says now: checks that nothing can pass must not blame the candidate.
        Leg::Control => Setup { checks: site.todays(config).checks, ..site.setup_for(service, config, release)? },
        Leg::WayBack => site.setup_for(service, config, release)?,
    };
    let place = site.place(config, &setup.start, &data)?;
    if matches!(leg, Leg::Control | Leg::Candidate) {
        act::remove_tree(&root)?;
        make_folder(&root)?;
        copy(site, &data, &place, snapshot)?;
    } else if !data.exists() {
        return Err(Failure::new(
            "rehearsal-copy-missing",
            format!("the migrated copy {} is gone", data.display()),
            Some("run again: lastgood run"),
        ));
    }
    let known = service.installed.get(release).ok_or_else(|| {
        Failure::new(
            "installation-missing",
            format!("{} is not installed", service.name_of(Some(release))),
            Some("install it again: lastgood run"),
        )
    })?;
    setup.start.port = free_port(&setup.start.bind)?;
    let log = root.join(format!("{leg:?}.log").to_lowercase());
    let mut launch = site.launch(config, &setup.start, &known.installation, &data, log)?;
    launch.user = site.user(config, &setup.start)?;
    launch.groups = site.runtime.own_groups(&site.name, instance).map_err(|error| Failure::of(&error))?;
    let target = site.direct_target(config, &setup, &data);
    let fence = site.fence();
    // The copy lies over the folder, which takes one to lie over.
    if *fence == Fence::Namespaces
        && let Some(missing) = doctor::data(config)
    {
        return Err(missing);
    }
    let plan = Plan {
        launch,
        runtime: root.join("runtime"),
        ready: setup.checks.ready,
        probe: setup.checks.probe,
        base: target.base,
        vars: target.vars,
        secrets: site.secret_sources.clone(),
        folder: site.channel.folder.clone(),
        ready_limit: setup.checks.ready_timeout.0,
        limit: site.config.rehearsal.timeout.0,
        stop_limit: site.config.stop_timeout.0,
        fail_on_log: site.config.rehearsal.fail_on_log.clone(),
        fence: (*fence == Fence::Namespaces).then(|| fence_plan(site, instance, &root, &data)),
    };
    let report = send_to_worker(site, fence, &plan)?;
    let span = |duration: Duration| Span(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    Ok(match report {
        Report::Passed { probe, ready_after } => {
            let seen = state::facts(&place).map_err(|error| Failure::of(&error))?;
            Answer::RehearsalPassed {
                facts: RehearsalFacts {
                    probe,
                    schema: seen.schema,
                    ready_after,
                    took: span(began.elapsed()),
                    bytes: tree_bytes(&root),
                    fence: match fence {
                        Fence::Namespaces => "namespaces".into(),
                        Fence::Paths(_) => "paths".into(),
                    },
                },
            }
        }
        Report::Failed(failure)
            if failure.code == START_REFUSED && !act::last_good_has_program(site, service, config, release) =>
        {
            let command = match leg {
                Leg::Candidate | Leg::Restart => "correct `command` in lastgood.toml".to_owned(),
                Leg::Control | Leg::WayBack => format!(
                    "it is started with the `command` of its last good run; to take that of lastgood.toml: \
                     lastgood config accept {} --reason …",
                    site.name
                ),
            };
            let fix = format!("{command}; see what the installation holds: ls {}", known.installation.path);
            return Err(Failure::new("instance-program-missing", failure.message, Some(&fix)));
        }
        Report::Failed(failure) => Answer::RehearsalFailed { failure: act::scrubbed(site, failure) },
        Report::Hindered(failure) => return Err(failure),
    })
}

/// Hides all live data: the copy lies over the instance's own, the others' and lastgood's are covered.
fn fence_plan(site: &Site, instance: &InstanceName, root: &Path, data: &Path) -> fence::Plan {
    let live = |one: &InstanceConfig| one.data.clone();
    let mut cover: Vec<PathBuf> = site.config.instance.iter().filter(|one| one.name != *instance).map(live).collect();
    cover.push(site.state_dir.clone());
    cover.extend(fence::SOCKETS.iter().map(PathBuf::from));
    let own = site.config.instance(instance).map(live);
    fence::Plan {
        scratch: root.to_path_buf(),
        readable: vec![site.home.installations()],
        over: own.into_iter().map(|live| fence::Over { copy: data.to_path_buf(), live }).collect(),
        cover,
    }
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| {
        Failure::new(
            "state-dir-unusable",
            format!("{} can't be made: {error}", path.display()),
            Some("check owner and free space of state_dir in lastgood.toml"),
        )
    })
}

fn copy(site: &Site, data: &Path, place: &StatePlace, snapshot: SnapshotId) -> Result<(), Failure> {
    let from = data::folder_of(site, snapshot);
    // A single SQLite file needs its folder; a folder is made by the copy itself.
    if let state::Data::Sqlite(_) = place.data {
        make_folder(data)?;
        if let Some(owner) = &place.owner {
            std::os::unix::fs::chown(data, Some(owner.uid), Some(owner.gid)).map_err(|error| {
                Failure::new(
                    "owner-refused",
                    format!("{}: {error}", data.display()),
                    Some("run lastgood as root, or as the instance's user"),
                )
            })?;
        }
    }
    state::clone_to(&from, place).map(drop).map_err(|error| Failure::of(&error))?;
    // An instance that is new has no data yet: the candidate makes its own.
    if !data.exists() {
        make_folder(data)?;
        if let Some(owner) = &place.owner {
            std::os::unix::fs::chown(data, Some(owner.uid), Some(owner.gid)).map_err(|error| {
                Failure::new(
                    "owner-refused",
                    format!("{}: {error}", data.display()),
                    Some("run lastgood as root, or as the instance's user"),
                )
            })?;
        }
    }
    Ok(())
}

/// Finds a port that nobody listens on now.
fn free_port(bind: &str) -> Result<u16, Failure> {
    let listener = TcpListener::bind((bind, 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| {
        Failure::new(
            "no-free-port",
            format!("no port of {bind} can be taken for the rehearsal: {error}"),
            Some("check bind in lastgood.toml; see what listens: ss -ltn"),
        )
    })
}

fn tree_bytes(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| tree_bytes(&entry.path())).sum()
}

fn send_to_worker(site: &Site, fence: &Fence, plan: &Plan) -> Result<Report, Failure> {
    let broken = |what: String| Failure::new("rehearsal-broken", what, Some("see lastgood's own output"));
    let mut child = fence
        .command(&site.program, &["internal", "rehearse"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| broken(format!("the rehearsal's process can't be started: {error}")))?;
    let document = serde_json::to_vec(plan).map_err(|error| broken(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&document).map_err(|error| broken(format!("the plan can't be handed over: {error}")))?;
    }
    let mut report = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(DOCUMENT_BYTES_MAX)
            .read_to_end(&mut report)
            .map_err(|error| broken(format!("the report can't be read: {error}")))?;
    }
    let status = child.wait().map_err(|error| broken(format!("the rehearsal's end is unknown: {error}")))?;
    serde_json::from_slice(&report)
        .map_err(|_| broken(format!("the rehearsal's process ended with {status} and no report")))
}

/// Does what a plan on standard input says, in the process made for it; the report goes to standard output.
///
/// Gives the process's exit code.
pub fn worker_main() -> u8 {
    let mut document = Vec::new();
    let read = std::io::stdin().take(DOCUMENT_BYTES_MAX).read_to_end(&mut document);
    let plan: Result<Plan, String> = read
        .map_err(|error| error.to_string())
        .and_then(|_| serde_json::from_slice(&document).map_err(|error| error.to_string()));
    let report = match plan {
        Ok(plan) => work(&plan).unwrap_or_else(Report::Hindered),
        Err(why) => {
            Report::Hindered(Failure::new("rehearsal-broken", format!("the plan can't be read: {why}"), Some(REPORT)))
        }
    };
    let written = serde_json::to_vec(&report).is_ok_and(|bytes| std::io::stdout().write_all(&bytes).is_ok());
    u8::from(!written)
}

fn work(plan: &Plan) -> Result<Report, Failure> {
    let secrets = Secrets::load(&plan.secrets, &plan.folder).map_err(|error| Failure::of(&error))?;
    if let Some(fence) = &plan.fence {
        fence::enter(fence).map_err(|error| Failure::of(&error))?;
    }
    let patterns = LogPatterns::new(&plan.fail_on_log)
        .map_err(|why| Failure::new("config-unfit", why, Some("correct rehearsal.fail_on_log in lastgood.toml")))?;
    let target = ProbeTarget {
        base: plan.base.clone(),
        vars: plan.vars.clone(),
        secrets,
        folder: plan.folder.clone(),
        headers: Vec::new(),
    };
    let log = &plan.launch.log;
    let seen_before = fs::metadata(log).map_or(0, |meta| meta.len());
    let program = match Throwaway::start(plan)? {
        Ok(program) => program,
        Err(failure) => return Ok(Report::Failed(failure)),
    };
    let ready = wait_ready(plan.ready.as_ref(), &target, plan.ready_limit.duration(), &|| program.gone());
    let report = match ready {
        Err(error) => Report::Failed(with_reason(Failure::of(&error), &patterns, log, seen_before)),
        Ok(ready_after) => {
            let probe = ProbeConfig { steps: plan.probe.clone() };
            match probe.run(&target, plan.limit.duration()) {
                Ok(probe) => Report::Passed { probe, ready_after },
                Err(error) => Report::Failed(with_reason(Failure::of(&error), &patterns, log, seen_before)),
            }
        }
    };
    let died = program.gone();
    drop(program);
    if let (Report::Passed { .. }, Some(left)) = (&report, room::left_of_cut(log)) {
        return cut_short(left);
    }
    // A program may serve and have failed to migrate: its own words count.
    Ok(match (report, patterns.scan(log, seen_before), died) {
        (Report::Passed { .. }, Some(line), _) => Report::Failed(Failure::new(
            "rehearsal-log",
            format!("its output says: {line}"),
            Some("if this line is harmless, it must not be written by the release"),
        )),
        (Report::Passed { .. }, None, Some(why)) => Report::Failed(with_reason(
            Failure::new(
                "start-died",
                format!("it ended after its probe: {why}"),
                Some("read the last lines of its output in this message"),
            ),
            &patterns,
            log,
            seen_before,
        )),
        (report, _, _) => report,
    })
}

/// Judges a program that passed and whose output was cut: nobody knows what stood in the rest of it. One that prints
/// without end has lost its way; on a small or full disk it is not to blame.
fn cut_short(left: u64) -> Result<Report, Failure> {
    if left > room::LOG_BYTES_MAX {
        let what = format!("it printed more than {} MiB in one try", room::LOG_BYTES_MAX >> 20);
        return Ok(Report::Failed(Failure::new(
            "rehearsal-log",
            what,
            Some("let the release print less at its start"),
        )));
    }
    Err(Failure::new(
        "rehearsal-log-cut",
        "its output had to be cut because the disk of the state folder is small or full: nobody can tell whether it shows a \
         failed migration",
        Some("free space on the disk of the state folder, then: lastgood run"),
    ))
}

/// Adds what the program itself said of its failure.
fn with_reason(mut failure: Failure, patterns: &LogPatterns, log: &Path, from: u64) -> Failure {
    if let Some(reason) = patterns.reason(log, from) {
        failure.message = format!("{}; its output says: {reason}", failure.message);
    }
    failure
}

/// The throwaway program, started by the very code that starts instances; it never outlives its drop.
struct Throwaway<'a> {
    runtime: ProcessRuntime,
    launch: &'a Launch,
    limit: Span,
}

impl<'a> Throwaway<'a> {
    /// Starts the program; the inner failure is the program's own.
    fn start(plan: &'a Plan) -> Result<Result<Self, Failure>, Failure> {
        // Whatever the fence has hidden, this process can execute itself.
        let runtime =
            ProcessRuntime::new(&plan.runtime, Path::new("/proc/self/exe")).map_err(|error| Failure::of(&error))?;
        let program = Self { runtime, launch: &plan.launch, limit: plan.stop_limit };
        match program.runtime.start(&plan.launch) {
            Ok(_) => Ok(Ok(program)),
            Err(error @ (RuntimeError::ProgramMissing { .. } | RuntimeError::ProgramNotExecutable { .. })) => {
                Ok(Err(Failure::new(START_REFUSED, error.to_string(), Some("check `command` in lastgood.toml"))))
            }
            Err(error) => Err(Failure::of(&error)),
        }
    }

    fn gone(&self) -> Option<String> {
        match self.runtime.post_mortem(&self.launch.service, &self.launch.instance) {
            // Its words are looked for in its log.
            Ok(Some(RuntimeError::Exited { why, .. } | RuntimeError::PortInUse { why, .. })) => Some(why),
            Ok(Some(other)) => Some(other.to_string()),
            Ok(None) | Err(_) => None,
        }
    }
}

impl Drop for Throwaway<'_> {
    fn drop(&mut self) {
        // What can't be ended dies with the fence, or is shown by whoever looks at the port.
        let _ended = self.runtime.stop(&self.launch.service, &self.launch.instance, self.limit);
    }
}
