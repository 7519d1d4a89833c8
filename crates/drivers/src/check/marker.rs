//! A file that a job touches as its last act, after it has succeeded: the proof of a success where nobody else keeps one.

use super::{Wrong, file};
use jiff::Timestamp;
use lastgood_domain::terms::Span;
use std::path::Path;

/// Gives how long ago the marker was touched.
///
/// `job` is the job it belongs to. Errors: there is none, or its time can't be told.
pub(super) fn age(path: &Path, job: &str, now: Timestamp) -> Result<Span, Wrong> {
    let shown = path.display();
    let facts = match std::fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = format!("{job} has never succeeded: {shown} is not there");
            let fix = format!("let the job end with: && touch {shown}; then run it once");
            return Err(Wrong::fails("preflight-job-never", what, fix));
        }
        Err(error) => {
            let what = format!("{shown} can't be looked at: {error}");
            return Err(Wrong::unknown("preflight-job-unknown", what, format!("ls -l {shown}")));
        }
    };
    file::age(&facts, now).ok_or_else(|| {
        let what = format!("{shown} was touched in the future by this clock, so nothing is known of {job}");
        Wrong::unknown("preflight-job-unknown", what, format!("ls -l --full-time {shown}; date"))
    })
}
