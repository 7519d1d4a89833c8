//! `lastgood-verify`: checks exported evidence with nothing but a file and a public key.
//!
//! It shares no code with the store that wrote the file except the formats, opens no database and no socket.
//! Exit code 0: all of it holds. 1: it does not, and the first bad position is said. 2: wrong usage.

mod check;

use check::{Bad, Verdict};
use lastgood_domain::evidence::VerifierKey;
use serde_json::json;
use std::{
    env,
    fs::File,
    io::{self, BufReader, Read, Write},
    process::ExitCode,
};

const USAGE: &str = "\
usage: lastgood-verify --vkey KEY [--json] FILE
       lastgood-verify --version

Checks an export, a record's proof or a consistency proof made by lastgood. FILE may be - for stdin.

  --vkey KEY   the public key you trust, NAME+HASH+BASE64; take it from the owner, never from FILE:
               `lastgood evidence export` names it
  --json       one JSON document on stdout, or a problem document on stderr
";

/// What the arguments ask for.
enum Asked {
    Check(Box<Request>),
    Usage,
    Version,
}

struct Request {
    key: VerifierKey,
    json: bool,
    path: String,
}

fn main() -> ExitCode {
    match parse(env::args().skip(1)) {
        Ok(Asked::Check(request)) => run(&request),
        Ok(Asked::Usage) => {
            say(&mut io::stdout(), USAGE.trim_end());
            ExitCode::SUCCESS
        }
        Ok(Asked::Version) => {
            say(&mut io::stdout(), concat!("lastgood-verify ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            say(&mut io::stderr(), &format!("error: {wrong}\n\n{}", USAGE.trim_end()));
            ExitCode::from(2)
        }
    }
}

/// Reads the arguments.
fn parse(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let (mut key, mut json, mut path) = (None, false, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => return Ok(Asked::Usage),
            "--version" | "-V" => return Ok(Asked::Version),
            "--json" => json = true,
            "--vkey" => {
                let text = words.next().ok_or("--vkey needs a key after it")?;
                key = Some(text.parse::<VerifierKey>().map_err(|wrong| wrong.to_string())?);
            }
            option if option.starts_with('-') && option != "-" => return Err(format!("unknown option {option}")),
            _ if path.is_some() => return Err("give one file".into()),
            _ => path = Some(word),
        }
    }
    let key = key.ok_or("--vkey is missing: without a key that you trust nothing can be checked")?;
    let path = path.ok_or("the file is missing")?;
    Ok(Asked::Check(Box::new(Request { key, json, path })))
}

fn run(asked: &Request) -> ExitCode {
    let input: Box<dyn Read> = if asked.path == "-" {
        Box::new(io::stdin().lock())
    } else {
        match File::open(&asked.path) {
            Ok(file) => Box::new(file),
            Err(wrong) => {
                say(&mut io::stderr(), &format!("error: {} cannot be opened: {wrong}", asked.path));
                return ExitCode::from(2);
            }
        }
    };
    match check::check(&mut BufReader::new(input), &asked.key) {
        Ok(verdict) => {
            tell(&verdict, asked.json);
            ExitCode::SUCCESS
        }
        Err(bad) => {
            complain(&bad, asked);
            ExitCode::from(1)
        }
    }
}

fn tell(verdict: &Verdict, as_json: bool) {
    let text = if as_json {
        json!({ "schema": "lastgood-verify/1", "kind": verdict.kind(), "data": verdict.data() }).to_string()
    } else {
        format!("ok: {verdict}")
    };
    say(&mut io::stdout(), &text);
}

fn complain(bad: &Bad, asked: &Request) {
    let text = if asked.json {
        let mut problem = json!({
            "type": "urn:lastgood:error:evidence-broken",
            "title": "evidence does not hold",
            "detail": bad.what,
            "code": "evidence-broken",
            "file": asked.path,
        });
        if let Some(seq) = bad.seq {
            problem["seq"] = seq.into();
        }
        problem.to_string()
    } else {
        let place = bad.seq.map(|seq| format!(" at record {seq}")).unwrap_or_default();
        format!(
            "BAD{place}: {}\nhint: keep {} as it is and ask its owner for the checkpoint and a new export",
            bad.what, asked.path
        )
    };
    say(&mut io::stderr(), &text);
}

/// Writes one answer. A closed pipe is the reader's choice, and the exit code still tells.
fn say(to: &mut dyn Write, text: &str) {
    let _ = writeln!(to, "{text}");
}
