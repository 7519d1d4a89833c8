//! The service as a program of its own; see the library.

use clap::Parser;
use last_layer::{Place, catalogue, serve, whole_story, write_release};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((verb, rest)) if verb == "publish" => publish(rest),
        _ => {
            let place = Place::parse();
            place.release().and_then(|release| serve(&release, &place)).map_err(|cause| whole_story(&cause))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let _gone = writeln!(std::io::stderr(), "last-layer: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn publish(arguments: &[String]) -> Result<(), String> {
    let (folder, versions) = arguments.split_first().ok_or("usage: last-layer publish FOLDER [VERSION]...")?;
    let program = std::env::current_exe().map_err(|cause| cause.to_string())?;
    let program = program.to_str().ok_or("the program's path is not text")?.to_owned();
    for release in catalogue() {
        if versions.is_empty() || versions.contains(&release.version) {
            write_release(Path::new(folder), &release, std::slice::from_ref(&program))
                .map_err(|cause| whole_story(&cause))?;
        }
    }
    Ok(())
}
