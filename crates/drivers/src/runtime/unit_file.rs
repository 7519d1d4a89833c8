//! What is written for systemd: drop-ins and an environment file, with every special character disarmed.

use super::RuntimeError;
use std::{fmt::Write as _, path::Path};

/// What a drop-in is made of; all texts are already fully expanded.
pub(crate) struct Service<'a> {
    pub(crate) label: &'a str,
    pub(crate) argv: &'a [String],
    pub(crate) workdir: &'a str,
    pub(crate) environment_file: &'a Path,
    pub(crate) user: Option<&'a str>,
    pub(crate) log: Option<&'a Path>,
}

/// Writes the drop-in that keeps a closed instance from starting and switches off the start limit.
///
/// By default systemd refuses the sixth start within 10 s and leaves the unit down: a rollback would be refused.
pub(crate) fn closed_drop_in(label: &str, marker: &Path) -> Result<String, RuntimeError> {
    let marker = plain(label, "the state folder", &marker.to_string_lossy())?;
    Ok(format!(
        "# Written by lastgood, which writes it again when it changes.\n\
         [Unit]\n\
         # While this file exists, lastgood changes the data of the instance and nothing may start it.\n\
         ConditionPathExists=!{marker}\n\
         StartLimitIntervalSec=0\n"
    ))
}

/// Writes the drop-in that says what runs; it is the same for every release.
pub(crate) fn service_drop_in(service: &Service<'_>) -> Result<String, RuntimeError> {
    let mut line = String::new();
    for (index, word) in service.argv.iter().enumerate() {
        let word = quoted(service.label, &format!("argument {index}"), word)?;
        line.push_str(if index == 0 { "" } else { " " });
        line.push_str(&word);
    }
    let path = |what: &str, path: &str| plain(service.label, what, path);
    let mut text = format!(
        "# Written by lastgood, which writes it again when it changes.\n\
         [Service]\n\
         ExecStart=\n\
         ExecStart=:{line}\n\
         WorkingDirectory={}\n\
         Environment=\n\
         EnvironmentFile=\n\
         EnvironmentFile={}\n",
        path("the working directory", service.workdir)?,
        path("the state folder", &service.environment_file.to_string_lossy())?,
    );
    if let Some(user) = service.user {
        let _ = writeln!(text, "User={}", path("the user", user)?);
    }
    if let Some(log) = service.log {
        let log = path("the log", &log.to_string_lossy())?;
        let _ = write!(text, "StandardOutput=append:{log}\nStandardError=append:{log}\n");
    }
    Ok(text)
}

/// Writes an environment file; it, not the unit, holds the values, for units are readable by everyone.
pub(crate) fn environment<'a>(
    label: &str,
    entries: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<String, RuntimeError> {
    let mut text = String::new();
    for (name, value) in entries {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(letter) || !name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
            let what = format!("systemd takes no environment variable named {name:?}");
            return Err(RuntimeError::LaunchInvalid { instance: label.into(), what });
        }
        speakable(label, &format!("the value of {name}"), value)?;
        let mut escaped = String::new();
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$' | '`') {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        let _ = writeln!(text, "{name}=\"{escaped}\"");
    }
    Ok(text)
}

/// Quotes one word of a command. Variables are not expanded there, for the line starts with ':'.
fn quoted(label: &str, what: &str, word: &str) -> Result<String, RuntimeError> {
    speakable(label, what, word)?;
    Ok(format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")))
}

/// A value that reaches to the end of its line: only '%' is special there.
fn plain(label: &str, what: &str, text: &str) -> Result<String, RuntimeError> {
    speakable(label, what, text)?;
    if text.trim() != text || text.ends_with('\\') || text.contains('\u{fffd}') {
        let what = format!("{what} can't be written into a unit file: {text:?}");
        return Err(RuntimeError::LaunchInvalid { instance: label.into(), what });
    }
    Ok(text.replace('%', "%%"))
}

fn speakable(label: &str, what: &str, text: &str) -> Result<(), RuntimeError> {
    if text.chars().any(char::is_control) {
        return Err(RuntimeError::Unspeakable { instance: label.into(), what: what.into() });
    }
    Ok(())
}

/// Replaces the folder of an installation by the link that leads to it, wherever a text names it.
pub(crate) fn through_link(text: &str, installation: &str, link: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(installation) {
        let (before, found) = rest.split_at(at);
        let after = &found[installation.len()..];
        // `/opt/app-1` is not in `/opt/app-10`.
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
        out.push_str(before);
        out.push_str(if ends { link } else { installation });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_disarmed_and_line_breaks_refused() {
        let argv = ["/opt/my app/run", "100%", "$HOME", "a\"b\\c", "", ";"].map(str::to_owned);
        let mut service = Service {
            label: "notes/alice",
            argv: &argv,
            workdir: "/srv/50%",
            environment_file: Path::new("/state/env"),
            user: Some("alice"),
            log: Some(Path::new("/var/log/notes")),
        };
        let text = service_drop_in(&service).unwrap();
        let expected = "ExecStart=\nExecStart=:\"/opt/my app/run\" \"100%%\" \"$HOME\" \"a\\\"b\\\\c\" \"\" \";\"\n\
            WorkingDirectory=/srv/50%%\nEnvironment=\nEnvironmentFile=\nEnvironmentFile=/state/env\nUser=alice\n\
            StandardOutput=append:/var/log/notes\nStandardError=append:/var/log/notes\n";
        assert!(text.ends_with(expected), "{text}");
        let bad = ["/bin/echo".to_owned(), "a\nExecStartPre=/bin/evil".to_owned()];
        service.argv = &bad;
        assert!(matches!(service_drop_in(&service), Err(RuntimeError::Unspeakable { .. })));
        service.argv = &argv;
        service.user = Some("alice\nAmbientCapabilities=~");
        assert!(matches!(service_drop_in(&service), Err(RuntimeError::Unspeakable { .. })));
    }

    #[test]
    fn a_secret_value_is_refused_by_its_name_only() {
        let refused = environment("notes/alice", [("TOKEN", "hunter2\n")].into_iter()).unwrap_err();
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
        let text = environment("x", [("A", "50% $x `y` \"z\" \\")].into_iter()).unwrap();
        assert_eq!(text, "A=\"50% \\$x \\`y\\` \\\"z\\\" \\\\\"\n");
        for name in ["", "1A", "A B", "A-B", "Ä"] {
            assert!(environment("x", [(name, "")].into_iter()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_whole_names_of_the_installation_lead_through_the_link() {
        let through = |text| through_link(text, "/opt/app-1", "/now");
        assert_eq!(through("/opt/app-1/bin/run"), "/now/bin/run");
        assert_eq!(through("--root=/opt/app-1"), "--root=/now");
        assert_eq!(through("/opt/app-1/a:/opt/app-1/b"), "/now/a:/now/b");
        assert_eq!(through("/opt/app-10/bin /opt/app-1.2"), "/opt/app-10/bin /opt/app-1.2");
    }
}
