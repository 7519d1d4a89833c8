//! `watch` as people see it, on a real pseudo-terminal, and as a pipe gets it.

use crate::kit::{Farm, Plan, program, until};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

const ROWS: usize = 16;
const COLUMNS: usize = 60;

/// A program on a pseudo-terminal, and everything it wrote there.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    written: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts `lastgood` below a line that was there before.
    fn start(farm: &Farm, arguments: &str) -> Self {
        let config = farm.path("lastgood.toml");
        let line = format!(
            "stty rows {ROWS} cols {COLUMNS}; echo what was there before; exec {} --config {} {arguments}",
            program(),
            config.display()
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]).env("TERM", "xterm");
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script of util-linux");
        let (keys, mut out) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let written = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&written);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Self { script, keys, written, reader: Some(reader) }
    }

    /// Gives what stands on the screen and above it.
    fn lines(&self) -> Vec<String> {
        screen(&self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn shows(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }

    /// Waits for the program's end; gives its exit code.
    fn code(&mut self) -> Option<i32> {
        let status = self.script.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        status.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// Does what a terminal does with the bytes it gets, as far as `watch` needs one; panics on anything else.
fn screen(bytes: &[u8]) -> Vec<String> {
    // The last bytes may be half of a character or of a sequence.
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0, 0);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if row == lines.len() {
                    lines.push(Vec::new());
                }
            }
            '\x1b' => {
                if characters.next().is_none_or(|next| next != '[') {
                    break;
                }
                let mut number = String::new();
                let end = loop {
                    match characters.next() {
                        Some(digit) if digit.is_ascii_digit() => number.push(digit),
                        other => break other,
                    }
                };
                match end {
                    // Above the screen's first row there is only what has scrolled away.
                    Some('A') => {
                        let top = lines.len().saturating_sub(ROWS);
                        row = row.saturating_sub(number.parse().unwrap_or(1)).max(top);
                    }
                    Some('K') => lines[row].truncate(column),
                    Some('J') => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    Some(other) => panic!("an unknown sequence: {other:?} in {text:?}"),
                    None => break,
                }
            }
            character => {
                if column == COLUMNS {
                    (row, column) = (row + 1, 0);
                    if row == lines.len() {
                        lines.push(Vec::new());
                    }
                }
                if lines[row].len() <= column {
                    lines[row].resize(column + 1, ' ');
                }
                lines[row][column] = character;
                column += 1;
            }
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect()).collect()
}

#[test]
fn on_a_terminal_the_status_is_redrawn_in_place_below_what_was_there_before_until_ctrl_c() {
    let farm = Farm::running(Plan::default());
    let mut terminal = Terminal::start(&farm, "watch");
    until("the first drawing", || terminal.shows("Ctrl-C ends"));
    let reason = "a fair ".repeat(COLUMNS / 3);
    farm.lastgood(&["hold", "set", "--reason", &reason]).ended(0);
    until("the hold", || terminal.shows("hold h0 by"));
    farm.lastgood(&["hold", "lift", "notebook", "h0", "--reason", "it is over"]).ended(0);
    until("the hold's end", || !terminal.shows("hold h0 by"));
    terminal.keys.write_all(b"\x03").unwrap();
    assert_eq!(terminal.code(), Some(130), "{:#?}", terminal.lines());
    let lines = terminal.lines();
    assert_eq!(lines[0], "what was there before");
    for name in farm.names() {
        let of = lines.iter().filter(|line| line.starts_with(&format!("  {name} "))).count();
        assert_eq!(of, 1, "{name} in {lines:#?}");
    }
    assert!(lines.len() < ROWS, "{lines:#?}");
}

#[test]
fn on_a_terminal_watching_ends_when_the_state_is_reached_and_leaves_it_to_read() {
    let farm = Farm::running(Plan::default());
    let mut terminal = Terminal::start(&farm, "watch --until healthy");
    assert_eq!(terminal.code(), Some(0));
    assert!(terminal.shows("waiting until healthy"), "{:#?}", terminal.lines());
    assert!(terminal.shows("settled"), "{:#?}", terminal.lines());
}

#[test]
fn a_pipe_gets_one_line_for_each_change_and_hears_what_is_awaited() {
    let farm = Farm::running(Plan::default());
    let mut command = farm.command(&["watch", "--until", "paused"]);
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut before = Vec::new();
    while before.last().is_none_or(|line: &String| !line.contains("promoted")) {
        before.push(out.next().unwrap());
    }
    let settled = before.iter().filter(|line| line.ends_with("settled")).count();
    assert_eq!(settled, 3, "{before:#?}");
    farm.lastgood(&["hold", "set", "--reason", "a fair"]).ended(0);
    farm.lastgood(&["hold", "lift", "notebook", "h0", "--reason", "it is over"]).ended(0);
    let news = [out.next().unwrap(), out.next().unwrap()];
    assert!(news[0].contains(" notebook hold h0 set by ") && news[0].ends_with(": a fair"), "{news:?}");
    assert!(news[1].contains(" notebook hold h0 lifted by ") && news[1].ends_with(": it is over"), "{news:?}");
    let heartbeat = BufReader::new(watch.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(heartbeat, "… waiting until paused: no run is under way");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_program_gets_a_line_for_each_change_and_none_because_time_goes_by() {
    let farm = Farm::running(Plan::default());
    for name in farm.names() {
        farm.post(name, "/session/open", "", &serde_json::Value::Null);
    }
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(8);
    let said = farm.lastgood(&["--json", "watch", "--until", "paused", "--timeout", "3s"]).ended(7);
    let lines: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{}", said.out);
    assert_eq!((&lines[0]["seq"], &lines[0]["kind"]), (&0.into(), &"status".into()));
    assert_eq!(lines[0]["services"][0]["instances"][0]["condition"], "deferred");
}
