//! The notebook as a program of its own; see the library.

use lastgood_notebook::{Release, Seed, catalogue, run, seed, whole_story, write_release};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: notebook --release FILE
       notebook publish FOLDER [VERSION]...        lays out releases (default: all) as folders
       notebook seed DATA VERSION PASSWORD NOTES NAME...   fills an instance's data, as that release would";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((verb, rest)) if verb == "publish" => publish(rest),
        Some((verb, rest)) if verb == "seed" => fill(rest),
        _ => run(&arguments).map_err(|cause| whole_story(&cause)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let _gone = writeln!(std::io::stderr(), "notebook: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn publish(arguments: &[String]) -> Result<(), String> {
    let (folder, versions) = arguments.split_first().ok_or(USAGE)?;
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

fn fill(arguments: &[String]) -> Result<(), String> {
    let [data, version, password, notes, names @ ..] = arguments else {
        return Err(USAGE.to_owned());
    };
    let release = Release::of_catalogue(version).ok_or("there is no such release")?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let notes = notes.parse().map_err(|_| "NOTES is not a number")?;
    seed(Path::new(data), &Seed { release: &release, names: &names, accounts: 0, notes, password })
        .map_err(|cause| whole_story(&cause))
}
