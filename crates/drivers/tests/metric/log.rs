//! Logs as they are written, rotated and cut in life.

use crate::{config, outcomes};
use lastgood_domain::failure::Coded as _;
use lastgood_drivers::metric::{Count, Watch};
use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
};
use tempfile::TempDir;

struct World {
    dir: TempDir,
    watch: Watch,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config("log = \"-\"\ngood = ' 2\\d\\d$'\ndegraded = 'fallback'\nbroken = ' 5\\d\\d$'");
        let watch = Watch::new(&config, vec![dir.path().join("access.log")]);
        Self { dir, watch }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("access.log")
    }

    fn write(&self, text: &str) {
        File::options().create(true).append(true).open(self.log()).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, to: &str) {
        fs::rename(self.log(), self.dir.path().join(to)).unwrap();
    }
}

#[test]
fn lines_from_before_are_not_counted_and_each_later_one_once_as_the_worst_it_is() {
    let world = World::new();
    world.write("/ 500\n/ 500\n");
    let mut count = world.watch.begin().unwrap();
    world.write("/a 200\n/b 204\n/c fallback 200\n/d fallback 502\n/e 404\nnoise\n");
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(2, 1, 1));
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(2, 1, 1));
    world.write("/f 200\n");
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(3, 1, 1));
}

#[test]
fn a_line_half_written_at_the_beginning_is_not_judged_by_its_second_half() {
    let world = World::new();
    world.write("/old 200\n/a fallback");
    let mut count = world.watch.begin().unwrap();
    world.write(" 200\n");
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(0, 1, 0));
}

#[test]
fn half_a_line_is_counted_when_it_is_whole() {
    let world = World::new();
    let mut count = world.watch.begin().unwrap();
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(0, 0, 0), "a log that is not there yet");
    world.write("/a 200\n/b 50");
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(1, 0, 0));
    world.write("0\n");
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(1, 0, 1));
}

#[test]
fn a_rotation_loses_nothing_and_a_restart_in_between_neither() {
    let world = World::new();
    world.write("/ 500\n");
    let mut count = world.watch.begin().unwrap();
    world.write("/a 200\n");
    world.watch.count(&mut count).unwrap();
    world.write("/b 200\n");
    world.rename("access.log.1");
    let kept = serde_json::to_string(&count).unwrap();
    let mut count: Count = serde_json::from_str(&kept).unwrap();
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(2, 0, 0), "before the new file is there");
    File::options().append(true).open(world.dir.path().join("access.log.1")).unwrap().write_all(b"/c 200\n").unwrap();
    world.write("/d 500\n");
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(3, 0, 1));
    world.rename("access-2025.log");
    world.write("/e 500\n");
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(3, 0, 2));
}

#[test]
fn a_log_that_was_cut_is_read_from_its_beginning_even_if_it_has_grown_past_the_place() {
    let world = World::new();
    world.write(&"/old 200\n".repeat(10));
    let mut count = world.watch.begin().unwrap();
    fs::write(world.log(), "/a 500\n").unwrap();
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(0, 0, 1));
    fs::write(world.log(), "/b 500\n".repeat(50)).unwrap();
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(0, 0, 51));
}

#[test]
fn a_line_without_end_and_bytes_that_are_no_text_do_no_harm() {
    let world = World::new();
    let mut count = world.watch.begin().unwrap();
    world.write("/a fallback ");
    world.write(&"x".repeat(300_000));
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(0, 0, 0));
    world.write("\n/b 200\n");
    File::options().append(true).open(world.log()).unwrap().write_all(b"\xff\xfe\0 200\n").unwrap();
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(2, 1, 0));
}

#[test]
fn what_is_no_readable_file_is_an_error_and_loses_no_place() {
    let world = World::new();
    let mut count = world.watch.begin().unwrap();
    world.write("/a 200\n");
    world.watch.count(&mut count).unwrap();
    world.rename("access.log.1");
    assert!(std::process::Command::new("mkfifo").arg(world.log()).status().unwrap().success());
    let before = count.clone();
    assert_eq!(world.watch.count(&mut count).unwrap_err().code(), "metric-log-unreadable");
    assert_eq!(count, before);
}

#[test]
fn a_log_that_was_copied_and_then_cut_loses_nothing() {
    let world = World::new();
    world.write("/old 200\n");
    let mut count = world.watch.begin().unwrap();
    world.write("/a 200\n");
    // What logrotate's copytruncate does.
    fs::copy(world.log(), world.dir.path().join("access.log.1")).unwrap();
    File::options().write(true).open(world.log()).unwrap().set_len(0).unwrap();
    world.write("/b 500\n");
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(1, 0, 1));
    // Grown beyond the place: its length alone tells nothing.
    fs::copy(world.log(), world.dir.path().join("access.log.1")).unwrap();
    fs::write(world.log(), "/c 500\n".repeat(50)).unwrap();
    assert_eq!(world.watch.count(&mut count).unwrap(), outcomes(1, 0, 51));
}
