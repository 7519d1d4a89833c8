//! Real programs.

use crate::{enforcer, found, held};

const KEYS: &str = r#"
kinds = ["claim"]
timeout = "5s"
[command]
set = ["/bin/sh", "-c", 'printf "%s %s %s" "$LASTGOOD_HOLD_KINDS" "$LASTGOOD_HOLD_OWNER" "$LASTGOOD_HOLD_REASON" > "$0/$LASTGOOD_HOLD"', "FOLDER"]
lift = ["/bin/sh", "-c", 'rm -f "$0/$LASTGOOD_HOLD"', "FOLDER"]
read = ["/bin/ls", "FOLDER"]
"#;

#[test]
fn programs_get_the_hold_and_what_they_print_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let enforcer = enforcer(folder.path(), &KEYS.replace("FOLDER", folder.path().to_str().unwrap()));
    std::fs::write(folder.path().join("something-else"), "").unwrap();
    enforcer.set(&held("hold-3")).unwrap();
    let said = std::fs::read_to_string(folder.path().join("hold-3")).unwrap();
    assert_eq!(said, "merge person:alice orders are doubled");
    assert_eq!(found(&enforcer), ["hold-3"]);
    enforcer.lift("hold-3").unwrap();
    assert_eq!(found(&enforcer), [""; 0]);
}

#[test]
fn a_program_that_fails_or_hangs_is_an_error_with_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let keys = r#"
        kinds = ["claim"]
        timeout = "200ms"
        [command]
        set = ["/bin/sh", "-c", "echo the queue is closed >&2; exit 3"]
        lift = ["/bin/sleep", "60"]
        read = ["/does/not/exist"]
    "#;
    let enforcer = enforcer(folder.path(), keys);
    let set = enforcer.set(&held("hold-3")).unwrap_err().to_string();
    assert!(set.contains("status 3") && set.contains("the queue is closed"), "{set}");
    assert!(enforcer.lift("hold-3").unwrap_err().to_string().contains("was killed"));
    assert!(enforcer.read(&[]).unwrap_err().to_string().contains("can't be started"));
}
