//! Secrets and the files they come from.

use crate::world::{target_with_secret, write};
use lastgood_domain::failure::{Coded as _, Failure};
use lastgood_drivers::probe::{SecretError, SecretSource, Secrets};
use std::{collections::BTreeMap, path::Path};

fn load(folder: &Path, file: &str) -> Result<Secrets, SecretError> {
    Secrets::load(&BTreeMap::from([("login".to_owned(), SecretSource::File(file.into()))]), folder)
}

#[test]
fn a_secret_is_read_without_its_last_line_break_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    for text in ["pass word", "pass word\n", "pass word\r\n"] {
        write(&folder.path().join("login"), text, 0o640);
        let secrets = load(folder.path(), "login").unwrap();
        assert_eq!(secrets.get("login"), Some("pass word"));
        assert_eq!(secrets.get("other"), None);
        assert_eq!(format!("{secrets:?}"), "{\"login\"}");
    }
}

#[test]
fn a_secret_that_others_can_read_or_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o644, 0o604, 0o602, 0o601] {
        write(&folder.path().join("login"), "hidden", mode);
        let error = load(folder.path(), "login").unwrap_err();
        assert_eq!(error.code(), "secret-exposed");
        assert!(error.hint().unwrap().starts_with("chmod 600 "));
        assert!(!format!("{error} {error:?}").contains("hidden"));
    }
}

#[test]
fn a_secret_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let code = |text: &[u8]| {
        std::fs::write(folder.path().join("login"), text).unwrap();
        write_mode(folder.path());
        load(folder.path(), "login").unwrap_err().code()
    };
    assert_eq!(code(b""), "secret-unfit");
    assert_eq!(code(b"\n"), "secret-unfit");
    assert_eq!(code(b"\xff\xfe"), "secret-unfit");
    assert_eq!(code(&vec![b'x'; (64 << 10) + 1]), "secret-unfit");
    assert_eq!(load(folder.path(), "missing").unwrap_err().code(), "secret-unreadable");
    assert_eq!(load(folder.path(), ".").unwrap_err().code(), "secret-unfit");
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert_eq!(load(folder.path(), "fifo").unwrap_err().code(), "secret-unfit");
}

fn write_mode(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.join("login"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_credential_without_systemd_says_what_to_do() {
    let sources = BTreeMap::from([("login".to_owned(), SecretSource::Credential("login".into()))]);
    let error = Secrets::load(&sources, Path::new("/")).unwrap_err();
    assert_eq!(Failure::of(&error).code, "secret-no-credentials");
    assert!(error.hint().unwrap().starts_with("LoadCredential=login:"));
}

#[test]
fn every_form_of_a_secret_is_taken_out() {
    let secrets = target_with_secret(1, "a&b \"ü/9").secrets;
    for (text, clean) in [
        ("x a&b \"ü/9 y", "x [secret login] y"),
        ("YSZiICLDvC85", "[secret login]"),
        ("user:a&b -> dXNlcjphJmIgIsO8Lzk=", "user:a&b -> dXNlcjp[secret login]k="),
        ("a%26b%20%22%C3%BC%2F9", "[secret login]"),
        ("a%26b+%22%C3%BC%2F9", "[secret login]"),
        ("a%26b%20%22%c3%bc%2f9", "[secret login]"),
        (r#"a&b \"ü/9"#, "[secret login]"),
        (r#"a&b \"\u00fc/9"#, "[secret login]"),
        (r#"a&b \"ü\/9"#, "[secret login]"),
        ("a&amp;b &quot;ü/9", "[secret login]"),
        ("nothing of it", "nothing of it"),
    ] {
        assert_eq!(secrets.scrub(text), clean, "{text}");
    }
    // The word put in its place is not looked at again.
    assert_eq!(target_with_secret(1, "secret").secrets.scrub("my secret"), "my [secret login]");
}

#[test]
fn a_secret_cut_in_the_middle_by_the_end_of_a_text_is_taken_out() {
    let secrets = target_with_secret(1, "correct/horse \"battery").secrets;
    for (text, clean) in [
        ("you said correct/hor", "you said [secret login]"),
        ("you said correct/hor…", "you said [secret login]…"),
        ("you said correct%2Fho", "you said [secret login]"),
        ("you said correct\\/horse \\", "you said [secret login]"),
        ("you said co", "you said co"),
        ("correct/horse \"battery and correct/horse \"b", "[secret login] and [secret login]"),
    ] {
        assert_eq!(secrets.scrub(text), clean, "{text}");
    }
    let hex: String = "correct/horse \"battery".bytes().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(secrets.scrub(&format!("0x{hex}!")), "0x[secret login]!");
}
