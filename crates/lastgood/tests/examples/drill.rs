//! docs/guide/drill.md: each command of the page is typed again, and must say what stands there, whatever the times.
//!
//! `LASTGOOD_WRITE_DRILL=1` writes the page and the report as they come out.

use crate::kit::Example;
use std::{env, fs, path::PathBuf};

fn guide(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide").join(name)
}

/// Gives a text with what differs from run to run taken out: digests, numbers and the units of times.
fn masked(text: &str) -> String {
    let is_digest = |word: &str| word.len() >= 8 && word.chars().all(|one| one.is_ascii_hexdigit());
    let mut masked = String::new();
    for line in text.lines() {
        let words = line.split_inclusive(|one: char| !one.is_ascii_alphanumeric());
        let mut plain = String::new();
        for word in words {
            let end = word.trim_end_matches(|one: char| !one.is_ascii_alphanumeric());
            let rest = &word[end.len()..];
            let stamp = end.len() > 2 && end.starts_with(|one: char| one.is_ascii_digit());
            match end {
                "ms" | "s" | "min" | "h" => plain += "",
                _ if is_digest(end) || stamp => plain += "#",
                _ => plain.extend(end.chars().map(|one| if one.is_ascii_digit() { '#' } else { one })),
            }
            plain += rest;
        }
        // What is left of `12.5 ms` and `1 h 2 min` is the same as of `3 s`.
        let mut numbers = String::new();
        for one in plain.chars() {
            let repeated = numbers.ends_with('#') && matches!(one, '#' | '.' | ' ' | ':' | '-');
            if !repeated {
                numbers.push(one);
            }
        }
        masked += numbers.trim_end();
        masked.push('\n');
    }
    masked
}

/// Types each command of a page in its order; gives the page with what they said.
fn typed(example: &Example, page: &str) -> String {
    let (mut whole, mut in_console) = (String::new(), false);
    for line in page.lines() {
        let command = line.split_once("$ ").filter(|(who, _)| in_console && who.chars().all(char::is_alphabetic));
        if line.starts_with("```") {
            in_console = line == "```console";
        } else if in_console && command.is_none() {
            // What was said before: it is said anew.
            continue;
        }
        whole += line;
        whole.push('\n');
        let Some((who, command)) = command else { continue };
        let command = format!("exec env SUDO_USER={who} {} 2>&1", example.as_ours(command));
        let said = example.run(&["sh", "-c", &command]);
        whole += &example.as_shipped(&said.out);
        if said.code != 0 {
            whole += &format!("exit code {}\n", said.code);
        }
    }
    whole
}

#[test]
fn the_drill_of_the_guide_comes_out_as_it_stands_there_with_its_report() {
    let example = Example::start("failing-cycle", &[7455, 7499, 7400, 7401, 7402], Some("shop"));
    example.by("bob", "run|shop|--now").ended(0);
    example.does(&["./publish", "1.1.0"]);
    example.by("bob", "run|shop|--now").ended(0);
    let page = fs::read_to_string(guide("drill.md")).unwrap();
    let whole = typed(&example, &page);
    let report = example.as_shipped(&fs::read_to_string(example.path("run/report.md")).unwrap());
    if env::var_os("LASTGOOD_WRITE_DRILL").is_some() {
        fs::write(guide("drill.md"), &whole).unwrap();
        fs::write(guide("drill-report.md"), &report).unwrap();
    }
    let page = fs::read_to_string(guide("drill.md")).unwrap();
    let report_there = fs::read_to_string(guide("drill-report.md")).unwrap();
    let same = |there: &str, came: &str, what: &str| {
        let pairs = there.lines().map(Some).chain(std::iter::repeat(None));
        let differs =
            came.lines().zip(pairs).find(|(came, there)| there.is_none_or(|there| masked(there) != masked(came)));
        assert!(
            differs.is_none(),
            "{what} has other text than {differs:?}; LASTGOOD_WRITE_DRILL=1 writes it anew\n{came}"
        );
        assert_eq!(came.lines().count(), there.lines().count(), "{what} has more lines");
    };
    same(&page, &whole, "drill.md");
    same(&report_there, &report, "drill-report.md");
    example.by("alice", "evidence|verify").ended(0).says("the evidence holds");
    // Nothing was done: the tills run what they ran, and nobody outside heard of it.
    assert_eq!(example.releases("shop"), ["1.1.0", "1.1.0"]);
    assert!(example.inbox().iter().all(|one| !one.contains("DRILL")), "{:?}", example.inbox());
    let drills = fs::read_to_string(example.path("run/drills")).unwrap();
    assert!(drills.contains("DRILL:") && drills.contains("1.0.0 runs"), "{drills}");
}

#[test]
fn only_times_digests_and_numbers_are_masked() {
    assert_eq!(masked("it took 12.5 ms, a8"), masked("it took 1 h 2 min, a7"));
    assert_eq!(
        masked("at 2026-11-27T01:31:06.867Z by 5959e2342e52"),
        masked("at 2026-01-02T03:04:05.006Z by 0959e2342eff")
    );
    assert_ne!(masked("it passed"), masked("it failed"));
    assert_ne!(masked("  NO   messages"), masked("  yes  messages"));
}
