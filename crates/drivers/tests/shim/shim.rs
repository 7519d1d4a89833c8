//! The smallest binary that has lastgood's internal commands, so that the drivers' tests need not build all of it.
//!
//! It is also a driver that a test can kill: `start FOLDER PROGRAM TAG` and `stop FOLDER`, for the instance
//! `notes/alice` with its state in `FOLDER/state`.

use lastgood_domain::{
    failure::Coded as _,
    terms::{Digest, InstanceName, Release, ReleaseTag, ServiceName, Span},
};
use lastgood_drivers::runtime::{Launch, Runtime as _, launcher, process::ProcessRuntime};
use std::{error::Error, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|word| word == "internal").is_some() {
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
    let (["start", folder, ..] | ["stop", folder]) = words.as_slice() else {
        return Err("start FOLDER PROGRAM TAG, or stop FOLDER".into());
    };
    let folder = fs::canonicalize(folder)?;
    let runtime = ProcessRuntime::new(&folder.join("state"), &std::env::current_exe()?)?;
    if let ["start", _, program, tag] = words.as_slice() {
        let release = Release { tag: ReleaseTag::new(tag)?, digest: Digest::of(tag.as_bytes()), origin: "dir:test".into() };
        runtime.start(&Launch {
            service,
            instance,
            release,
            installation: folder.clone(),
            argv: vec![(*program).to_owned()],
            env: [("FOLDER".to_owned(), folder.display().to_string())].into(),
            workdir: folder.clone(),
            user: None,
            log: Path::new(&folder).join("log"),
        })?;
    } else {
        runtime.stop(&service, &instance, Span::seconds(5)).map_err(|error| format!("{error} [{}]", error.code()))?;
    }
    Ok(())
}
