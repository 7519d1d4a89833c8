//! Releases are whole folders, and the same tag can come with other bytes.

use crate::instance::{program, release};
use lastgood_notebook::{Release, republish, write_releases};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_release_is_one_whole_folder() {
    let world = tempfile::tempdir().unwrap();
    let written = write_releases(world.path(), &program()).unwrap();
    assert_eq!(written.len(), 12);
    let versions =
        ["1.0.0", "1.1.0", "2.0.0", "2.1.0", "2.2.0", "2.3.0", "2.4.0", "2.5.0", "3.0.0", "3.1.0", "3.2.0", "3.3.0"];
    assert_eq!(names(world.path()), versions.map(str::to_owned).into(), "and nothing else lies beside them");
    for version in versions {
        let folder = world.path().join(version);
        assert_eq!(names(&folder), ["LICENSE", "VERSION", "notebook", "release.json"].map(str::to_owned).into());
        assert_eq!(fs::read_to_string(folder.join("VERSION")).unwrap(), format!("{version}\n"));
        assert_eq!(Release::read(&folder.join("release.json")).unwrap(), release(version));
    }
}

#[test]
fn a_second_publication_has_the_same_tag_and_other_bytes() {
    let world = tempfile::tempdir().unwrap();
    write_releases(world.path(), &program()).unwrap();
    let before = fs::read(world.path().join("2.5.0/LICENSE")).unwrap();
    write_releases(world.path(), &program()).unwrap();
    assert_eq!(fs::read(world.path().join("2.5.0/LICENSE")).unwrap(), before, "writing again changes nothing");
    let folder = republish(world.path(), &release("2.5.0"), &program()).unwrap();
    assert_eq!(folder, world.path().join("2.5.0"));
    assert_ne!(fs::read(folder.join("LICENSE")).unwrap(), before);
    assert_eq!(Release::read(&folder.join("release.json")).unwrap(), release("2.5.0"), "and the same behaviour");
}

#[test]
fn a_publication_that_was_killed_half_way_is_done_again() {
    let world = tempfile::tempdir().unwrap();
    let unfinished = world.path().join(".1.0.0.unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("release.json"), "{").unwrap();
    crate::instance::publish(&release("1.0.0"), world.path());
    assert_eq!(names(world.path()), BTreeSet::from(["1.0.0".to_owned()]));
}

#[test]
fn the_launcher_finds_its_release_from_anywhere_and_in_folders_with_spaces() {
    let world = tempfile::tempdir().unwrap();
    let releases = world.path().join("it's a folder");
    let data = world.path().join("data");
    fs::create_dir(&data).unwrap();
    let folder = crate::instance::publish(&release("1.1.0"), &releases);
    let notebook = crate::instance::Instance::start(&folder, &data);
    assert_eq!(notebook.get("/version", "").1["version"], "1.1.0");
}

#[test]
fn a_release_file_that_makes_no_sense_is_refused_by_name() {
    let world = tempfile::tempdir().unwrap();
    let data = world.path().join("data");
    fs::create_dir(&data).unwrap();
    let folder = crate::instance::publish(&release("1.0.0"), world.path());
    let file = folder.join("release.json");
    let long = " ".repeat(70_000);
    for text in ["", "{", r#"{"version":"1"}"#, r#"{"version":"1","migrations":[],"login_paths":[],"falt":1}"#, &long] {
        fs::write(&file, text).unwrap();
        let ended = crate::instance::refused_start(&folder, &data);
        assert!(!ended.success);
        assert!(ended.log.starts_with(&format!("notebook: the release file {} ", file.display())), "{}", ended.log);
    }
    fs::remove_file(&file).unwrap();
    let ended = crate::instance::refused_start(&folder, &data);
    assert!(ended.log.starts_with("notebook: can't read the release file"), "{}", ended.log);
}
