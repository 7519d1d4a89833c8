//! The only place that prints: data to stdout, everything else to stderr.

use crate::{exit::Exit, page};
use lastgood_domain::failure::{Coded, Failure};
use lastgood_engine::config::ConfigErrors;
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};

/// How the user wants to be spoken to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// One JSON document or JSON lines on stdout, and nothing else there.
    pub(crate) json: bool,
    /// Never ask.
    pub(crate) no_input: bool,
    /// Take the answer to a moderate question for yes.
    pub(crate) yes: bool,
}

/// A failure that ends a command: what failed, why, what to do now.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What is said.
    pub(crate) failure: Failure,
}

impl Trouble {
    /// Makes trouble of a coded error.
    pub(crate) fn new(exit: Exit, error: &dyn Coded) -> Self {
        Self { exit, failure: Failure::of(error) }
    }

    /// Says what comes first of what a file was refused for, and where the rest is told.
    pub(crate) fn of_config(ConfigErrors { first, others }: &ConfigErrors) -> Self {
        let mut trouble = Self::new(Exit::Usage, first.as_ref());
        if !others.is_empty() {
            let hint = trouble.failure.hint.take().unwrap_or_default();
            trouble.failure.hint = Some(format!("{hint}; {} more: lastgood config check", others.len()));
        }
        trouble
    }

    /// Makes trouble of words.
    pub(crate) fn say(exit: Exit, code: &str, message: impl Into<String>, hint: &str) -> Self {
        Self { exit, failure: Failure::new(code, message, Some(hint)) }
    }
}

/// One JSON document.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'static str,
    kind: &'a str,
    data: &'a T,
}

impl Screen {
    /// Shows a command's data: `text` to people, `data` to programs.
    pub(crate) fn show<T: Serialize>(&self, kind: &str, data: &T, text: &str) {
        if self.json {
            let document = Document { schema: "lastgood/1", kind, data };
            let line = serde_json::to_string(&document).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
            out(&line);
        } else {
            out(text.trim_end());
        }
    }

    /// Shows one entry of a stream: a JSON line, or a line of text.
    pub(crate) fn line<T: Serialize>(&self, entry: &T, text: Option<&str>) {
        if self.json {
            if let Ok(line) = serde_json::to_string(entry) {
                out(&line);
            }
        } else if let Some(text) = text {
            out(text);
        }
    }

    /// Tells people something that is not the command's data.
    pub(crate) fn tell(&self, text: &str) {
        if !self.json {
            err(text);
        }
    }

    /// Shows trouble: first the error, then the hint; as a problem document (RFC 9457) to programs.
    pub(crate) fn trouble(&self, trouble: &Trouble) {
        self.troubles(trouble, &[]);
    }

    /// Shows trouble of several causes: one after the other; to programs one document, with the others in `also`.
    pub(crate) fn troubles(&self, trouble: &Trouble, also: &[Failure]) {
        let hint = |failure: &Failure| failure.hint.clone().unwrap_or_else(|| page::command(&failure.code));
        if self.json {
            let problem = |failure: &Failure| {
                serde_json::json!({
                    "type": format!("urn:lastgood:error:{}", failure.code),
                    "title": failure.message,
                    "code": failure.code,
                    "hint": hint(failure),
                    "exit": trouble.exit as u8,
                })
            };
            let mut first = problem(&trouble.failure);
            if !also.is_empty() {
                first["also"] = also.iter().map(problem).collect();
            }
            err(&first.to_string());
            return;
        }
        for failure in std::iter::once(&trouble.failure).chain(also) {
            err(&format!("error: {} [{}]", failure.message, failure.code));
            err(&format!(" hint: {}", hint(failure)));
        }
    }

    /// Tells whether a question would be put to a person.
    pub(crate) fn asks(&self) -> bool {
        !self.yes && !self.no_input && !self.json && std::io::stdin().is_terminal()
    }

    /// Asks a question that stands before something moderate; `--yes` answers it, `--no-input` declines.
    pub(crate) fn confirm(&self, question: &str) -> bool {
        if self.yes {
            return true;
        }
        if !self.asks() {
            return false;
        }
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{question} [y/N] ");
        let _ = stderr.flush();
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "yes")
    }

    /// Asks before something severe: the name is typed, or was given by `--confirm`. `--yes` is no answer to it.
    pub(crate) fn confirm_name(&self, question: &str, name: &str, given: Option<&str>) -> bool {
        if let Some(given) = given {
            return given == name;
        }
        if self.yes || self.no_input || self.json || !std::io::stdin().is_terminal() {
            return false;
        }
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{question} Type {name} to go on: ");
        let _ = stderr.flush();
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == name
    }

    /// Tells whether a person watches stderr live.
    pub(crate) fn is_live(&self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }
}

/// Writes a line to stdout; a reader that has gone away ends the command quietly.
fn out(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(Exit::Done as i32);
    }
}

/// Writes a line to stderr.
pub(crate) fn err(text: &str) {
    // Nobody can be told that nobody can be told.
    let _ = writeln!(std::io::stderr(), "{text}");
}
