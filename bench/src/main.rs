//! Measures the rows of docs/reference/speed.md; `cargo xtask bench` starts it with release builds beside it.
//!
//! Nothing is asserted: rounds of the floor and of lastgood alternate on one machine, and ratios are printed.

mod appending;
mod delivering;
mod evaluating;
mod floor;
mod history;
mod notebook;
mod numbers;
mod peers;
mod proxying;
mod resting;
mod returning;
mod shifting;
mod snapshotting;
mod switchboard;
mod switching;
mod verifying;
mod writer;

use std::{
    env, fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

const USAGE: &str = "usage: lastgood-bench \
    [all | return | canary | snapshot | append | verify | outbox | rest | status | switches | flags | proxy | traffic | peers] [ROUNDS] [--peers]";
/// Measures the peers that pip can install as well.
const PEERS: &str = "--peers";
/// Instances of the row about a whole service.
const MANY: usize = 20;
/// Instances of the daemon at rest.
const RESTING: usize = 50;
/// Fewer rounds say nothing about the spread.
const ROUNDS: usize = 5;

/// Where the programs are and where this run keeps its data.
struct Bench {
    lastgood: PathBuf,
    notebook: PathBuf,
    scratch: PathBuf,
    rounds: usize,
    /// Whether peers are measured too.
    with_peers: bool,
}

impl Bench {
    fn from_arguments() -> Result<(Self, String), String> {
        let (flags, words): (Vec<String>, Vec<String>) = env::args().skip(1).partition(|word| word == PEERS);
        let mut arguments = words.into_iter();
        let row = arguments.next().unwrap_or_else(|| "all".into());
        let rounds = arguments.next().map_or(Ok(ROUNDS), |text| text.parse()).map_err(|_| USAGE)?;
        let own = env::current_exe().map_err(|error| error.to_string())?;
        let folder = own.parent().ok_or("this program is in no folder")?;
        let program = |name: &str| {
            let path = folder.join(name);
            if path.is_file() { Ok(path) } else { Err(format!("build {} first", path.display())) }
        };
        // Beside the programs, because the temporary folder may be in memory, where a sync costs nothing.
        let scratch = folder.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&scratch).map_err(|error| error.to_string())?;
        Ok((
            Self {
                lastgood: program("lastgood")?,
                notebook: program("notebook")?,
                scratch,
                rounds,
                with_peers: !flags.is_empty(),
            },
            row,
        ))
    }

    fn measure(&self, row: &str) -> Result<(), String> {
        match row {
            "all" => ["return", "canary", "snapshot", "append", "verify", "outbox", "rest", "switches", "flags"]
                .iter()
                .try_for_each(|row| self.measure(row)),
            "return" => returning::measure(self, MANY),
            "canary" => returning::measure(self, 1),
            "snapshot" => snapshotting::measure(self),
            "append" => appending::measure(self),
            "verify" => verifying::measure(self),
            "outbox" => delivering::measure(self),
            "switches" => switching::measure(self),
            "flags" => evaluating::measure(self),
            "peers" => peers::measure(self, MANY),
            "proxy" => proxying::measure(self),
            "traffic" => shifting::measure(self),
            "rest" | "status" => resting::measure(self, RESTING),
            _ => Err(USAGE.into()),
        }
    }
}

/// Prints a line of the result.
fn say(line: &str) {
    // Nobody reads on: there is nothing left to do for us either.
    let _ = writeln!(io::stdout(), "{line}");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // Not rows: the processes that write beside a snapshot, and that the row `outbox` kills.
    match arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some((writer::ARGUMENT, rest)) => return ended(writer::main(rest)),
        Some(("sender", _)) => return ended(delivering::send()),
        _ => {}
    }
    let done = Bench::from_arguments().and_then(|(bench, row)| {
        let peers = || if bench.with_peers { bench.measure("peers") } else { Ok(()) };
        let done = bench.measure(&row).and_then(|()| peers());
        if env::var_os("LASTGOOD_BENCH_KEEP").is_none() {
            let _ = fs::remove_dir_all(&bench.scratch);
        }
        done
    });
    ended(done)
}

fn ended(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "lastgood-bench: {why}");
            ExitCode::FAILURE
        }
    }
}
