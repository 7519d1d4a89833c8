//! Runs the fuzz targets in the ordinary tests: over their seeds and a fixed number of changed ones.
//!
//! `cargo xtask fuzz` lets a fuzzer look for inputs that break a target; what it needs nobody has at hand in each build.
//! Here the same functions get every seed of `fuzz/seeds`, every beginning of the short ones, and inputs made of them by
//! chance whose order is always the same.

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

/// A fuzz target: takes any bytes; a panic is what it has found.
pub type Target = (&'static str, fn(&[u8]));

/// Inputs made by chance for each target: some milliseconds for most, seconds in all.
const CHANGED: u32 = 3_000;
/// Targets that reach a disk or a socket, or read whole documents; they get a tenth.
const SLOW: [&str; 5] = ["archive", "config", "cron_times", "pages", "probe_answer"];
/// Longest input that is made; the readers' own limits are tried by seeds and by their tests.
const BYTES_MAX: usize = 4 << 10;
/// Bytes that mean something to one reader or another.
const TELLING: &[u8] = b"\0\t\n\r \"#%&'()*+,-./09:;<=>?@AZ[\\]_`az{|}~\x7f\x80\xc3\xff";

/// Runs each target over its seeds and what is made of them.
///
/// Panics, with the target's name and the input, if a target panics or has no seeds.
pub fn stand(targets: &[Target]) {
    for (name, run) in targets {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "fuzz/seeds/{name} has no seeds");
        let tenth = if SLOW.contains(name) { 10 } else { 1 };
        for seed in &seeds {
            one(name, *run, seed);
            for end in (0..seed.len().min(512)).step_by(tenth) {
                one(name, *run, &seed[..end]);
            }
        }
        let mut chance = Chance(name.bytes().fold(1, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte)));
        for _ in (0..CHANGED).step_by(tenth) {
            let mut input = chance.pick(&seeds).clone();
            for _ in 0..=chance.below(4) {
                chance.change(&mut input, &seeds);
            }
            input.truncate(BYTES_MAX);
            one(name, *run, &input);
        }
    }
}

/// Gives the folder of a target's seeds.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name)
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder(name)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

fn one(name: &str, run: fn(&[u8]), input: &[u8]) {
    if let Err(what) = panic::catch_unwind(AssertUnwindSafe(|| run(input))) {
        let text = what.downcast_ref::<String>().map(String::as_str).or_else(|| what.downcast_ref::<&str>().copied());
        panic!("{name} broke on \"{}\": {}", input.escape_ascii(), text.unwrap_or("a panic"));
    }
}

/// Chance that is the same each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 11).unwrap_or(0) % end.max(1)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn range(&mut self, of: &[u8]) -> std::ops::Range<usize> {
        let from = self.below(of.len() + 1);
        from..from + self.below((of.len() - from).min(64) + 1)
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        match self.below(7) {
            0 => input.insert(at, *self.pick(TELLING)),
            1 if at < input.len() => input[at] = *self.pick(TELLING),
            2 if at < input.len() => input[at] ^= 1 << self.below(8),
            3 => drop(input.drain(self.range(input))),
            4 => {
                let piece = input[self.range(input)].to_vec();
                drop(input.splice(at..at, piece));
            }
            5 => {
                let other = self.pick(seeds).clone();
                let piece = other[self.range(&other)].to_vec();
                drop(input.splice(at..at, piece));
            }
            _ => input.truncate(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_of_seeds_is_a_target_of_the_fuzzer_and_every_target_has_seeds() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        let mut named: Vec<&str> =
            manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).skip(1).collect();
        named.sort_unstable();
        let mut folders: Vec<String> = fs::read_dir(fuzz.join("seeds"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        folders.sort();
        assert_eq!(named, folders);
    }

    #[test]
    fn a_target_that_breaks_is_named_with_its_input() {
        let broken: Target = ("route_pattern", |input| assert!(!input.contains(&b'/'), "a slash"));
        let what = panic::catch_unwind(|| stand(&[broken])).unwrap_err();
        let text = what.downcast_ref::<String>().unwrap();
        assert!(text.starts_with("route_pattern broke on \"") && text.ends_with("a slash"), "{text}");
    }
}
