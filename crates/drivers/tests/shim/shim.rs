//! The smallest binary that has lastgood's internal commands, so that the drivers' tests need not build all of it.
//!
//! It is also a driver that a test can kill, for the instance `notes/alice` with its state in `FOLDER/state`:
//! `start FOLDER PROGRAM TAG`, `stop FOLDER`, `systemd-move FOLDER TAG`, `detach LOG PROGRAM`,
//! `fence PLAN PROGRAM`, `install KEYS FOLDER`.

use lastgood_domain::{
    failure::Coded as _,
    terms::{Digest, InstanceName, Release, ReleaseTag, ServiceName, Span},
};
use lastgood_drivers::{
    channel::{ChannelConfig, Context},
    runtime::{
        Launch, Runtime as _, fence, launcher,
        process::ProcessRuntime,
        session,
        systemd::{Output, SystemdConfig, SystemdRuntime},
    },
};
use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::Path,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|word| word == "internal").is_some() {
        if arguments.next_if(|word| word == "query").is_some() {
            return ExitCode::from(lastgood_drivers::sql::worker_main());
        }
        let Err(_told) = launcher::main(arguments);
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = arguments.filter_map(|word| word.into_string().ok()).collect();
    match drive(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let said = format!("{error}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn drive(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let (service, instance) = (ServiceName::new("notes")?, InstanceName::new("alice")?);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["start", folder, program, tag] => {
            let folder = fs::canonicalize(folder)?;
            process_runtime(&folder)?.start(&launch(&folder, Path::new(program), tag, &folder)?)?;
        }
        // The newest release of `channel = { KEYS }`, into FOLDER/installations.
        ["install", keys, folder] => {
            let channel: BTreeMap<String, ChannelConfig> = toml::from_str(&format!("channel = {{ {keys} }}"))?;
            let context = Context { folder: folder.into(), ..Context::default() };
            let offer = channel["channel"].newest(&context)?;
            channel["channel"].install(&offer, &context.folder.join("installations"), &context)?;
        }
        ["stop", folder] => {
            let runtime = process_runtime(&fs::canonicalize(folder)?)?;
            let stopped = runtime.stop(&service, &instance, Span::seconds(5));
            stopped.map_err(|error| format!("{error} [{}]", error.code()))?;
        }
        ["systemd-move", folder, tag] => {
            let folder = fs::canonicalize(folder)?;
            let config = SystemdConfig {
                unit: "notes@{instance}.service".into(),
                drop_in_dir: "/etc/systemd/system".into(),
                output: Output::Journal,
                bus: None,
            };
            let runtime = SystemdRuntime::new(config, &folder.join("state"))?;
            runtime.stop(&service, &instance, Span::seconds(5))?;
            let installation = folder.join(format!("installed-{tag}"));
            runtime.start(&launch(&folder, &installation.join("run"), tag, &installation)?)?;
        }
        // As the worker of a rehearsal: `PLAN` as JSON, then the candidate.
        ["rehearse", plan, program] => {
            fence::enter(&serde_json::from_str(plan)?)?;
            let status = Command::new(program).status()?;
            if !status.success() {
                return Err(format!("{status}").into());
            }
        }
        // As the driver of a rehearsal.
        ["fence", plan, program] => {
            let exe = std::env::current_exe()?;
            let mut worker = fence::Fence::Namespaces.command(&exe, &["rehearse", plan, program]).spawn()?;
            let status = worker.wait()?;
            if !status.success() {
                return Err(format!("the worker: {status}").into());
            }
        }
        ["detach", log, program] => {
            let host = session::host().unwrap_or_else(|| "nobody".into());
            let argv = [(*program).to_owned()];
            let detached = session::detach(&std::env::current_exe()?, &argv, Path::new(log), None)?;
            let said = format!("hosted by {host}; {:?}\n", detached.place);
            std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes())?;
        }
        _ => return Err("not one of this shim's commands".into()),
    }
    Ok(())
}

fn process_runtime(folder: &Path) -> Result<ProcessRuntime, Box<dyn Error>> {
    Ok(ProcessRuntime::new(&folder.join("state"), &std::env::current_exe()?)?)
}

fn launch(folder: &Path, program: &Path, tag: &str, installation: &Path) -> Result<Launch, Box<dyn Error>> {
    Ok(Launch {
        service: ServiceName::new("notes")?,
        instance: InstanceName::new("alice")?,
        release: Release { tag: ReleaseTag::new(tag)?, digest: Digest::of(tag.as_bytes()), origin: "dir:test".into() },
        installation: installation.into(),
        argv: vec![program.display().to_string()],
        env: [("FOLDER".to_owned(), folder.display().to_string())].into(),
        workdir: folder.into(),
        user: None,
        groups: lastgood_drivers::runtime::Groups::default(),
        log: folder.join("log"),
    })
}
