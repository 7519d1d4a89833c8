//! Whether what a gate names still exists; nobody asks here whether it passes.

use super::{
    ask::{Asked, Subject, ask},
    config::{GateConfig, Kind},
};
use lastgood_domain::event::Verdict;
use std::path::Path;

/// Says what a gate names and is not there any more; none if all of it is there.
///
/// Programs are looked for, not started. Reports, manifests, checks and queries are asked about `subject`, whatever
/// their age: a test that failed exists. A probe is asked nothing: it names nothing that could vanish unseen.
pub fn standing(config: &GateConfig, subject: &Subject, asked: &Asked<'_>) -> Option<String> {
    match config.kind()? {
        Kind::Command(keys) => {
            let program = keys.argv.first()?;
            (!is_there(program, asked.folder)).then(|| format!("there is no program {program}"))
        }
        Kind::Probe(_) => None,
        Kind::Prometheus(_) | Kind::Report(_) | Kind::Github(_) | Kind::Gitea(_) | Kind::Manifest(_) => {
            let any_age = Asked { any_age: true, ..asked.clone() };
            match ask(config, subject, &any_age) {
                (Verdict::Pass | Verdict::Fail, _) => None,
                (Verdict::Hold | Verdict::CannotTell, because) => Some(because),
            }
        }
    }
}

fn is_there(program: &str, folder: &Path) -> bool {
    if program.contains('{') {
        // What lies in a release is known only with the release.
        return true;
    }
    if program.contains('/') {
        return folder.join(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
