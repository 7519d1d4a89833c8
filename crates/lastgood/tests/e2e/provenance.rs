//! Where releases come from: staging before production, signed tags, and tags that move.

use crate::kit::{Farm, Plan, Said, said};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

fn one() -> Plan {
    Plan { instances: vec![("alice", "probe")], ..Plan::default() }
}

/// A farm with a second service, `staging`, whose releases production takes after it.
fn staged() -> Farm {
    let farm = Farm::new(one());
    let config = farm.config();
    let (head, production) = config.split_at(config.find("[service.notebook]").unwrap());
    let staging = production
        .replace("service.notebook", "service.staging")
        .replace(&format!("port = {}", farm.port("alice")), &format!("port = {}", farm.port("nobody")))
        .replace("data/alice", "data/staging");
    farm.configure(&format!("{head}{production}\n{staging}\n[service.notebook.policy]\npassed_in = \"staging\"\n"));
    copy(&farm.data("alice"), &farm.data("staging"));
    farm
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn nothing_is_rejected(farm: &Farm) {
    let status = farm.json(&["status", "notebook"])["services"][0].clone();
    assert!(status["rejected"].as_array().is_none_or(Vec::is_empty), "{status}");
}

#[test]
fn production_takes_what_staging_has_promoted_and_nothing_before() {
    let farm = staged();
    farm.lastgood(&["plan", "notebook"]).ended(9).says("gate provenance cannot tell");
    farm.lastgood(&["run", "notebook"]).ended(9).says("nobody can tell whether 1.0.0 passed in staging");
    farm.lastgood(&["run", "staging"]).ended(0);
    farm.lastgood(&["run", "notebook"]).ended(0).says("1.0.0 passed in staging, by its");
    farm.publish("1.1.0");
    farm.lastgood(&["plan", "notebook"]).ended(9).says("gate provenance hold").says("these bytes were never there");
    farm.lastgood(&["run", "notebook"]).ended(9).says("1.1.0 has not passed in staging yet");
    farm.lastgood(&["run", "notebook", "--dry-run"]).ended(9).says("1.1.0 has not passed in staging yet");
    farm.lastgood(&["why", "notebook"]).says("a release must come from where the policy says");
    assert_eq!(farm.version("alice"), "1.0.0");
    farm.lastgood(&["run", "staging"]).ended(0);
    farm.lastgood(&["run", "notebook"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    farm.lastgood(&["run", "notebook"]).ended(0).says("up to date");
    // The same tag with other bytes is another release, which staging never saw.
    farm.republish("1.1.0");
    farm.lastgood(&["run", "notebook"]).ended(9).says("under the same tag");
    // What staging rejects is refused here for as long as it is rejected there.
    farm.publish("2.1.0");
    farm.lastgood(&["run", "staging"]).ended(9).says("2.1.0");
    farm.lastgood(&["run", "notebook"]).ended(9).says("2.1.0 was rejected in staging by");
    nothing_is_rejected(&farm);
    assert_eq!(farm.version("alice"), "1.1.0");
    // No policy stands in the way of a way back.
    farm.lastgood(&["rollback", "notebook", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn what_was_taken_back_in_staging_is_not_taken_in_production() {
    let farm = staged();
    for service in ["staging", "notebook"] {
        farm.lastgood(&["run", service]).ended(0);
    }
    farm.publish("1.1.0");
    farm.lastgood(&["run", "staging"]).ended(0);
    farm.lastgood(&["rollback", "staging", "--yes"]).ended(0);
    farm.lastgood(&["run", "notebook"]).ended(9).says("1.1.0 was rejected in staging by");
    farm.lastgood(&["waive", "staging", "1.1.0", "--reason", "it was not its fault"]).ended(0);
    farm.lastgood(&["run", "notebook"]).ended(9).says("1.1.0 has not passed in staging yet");
    farm.lastgood(&["run", "staging"]).ended(0);
    farm.lastgood(&["run", "notebook"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
}

#[test]
fn another_lastgoods_evidence_counts_as_far_as_it_is_signed_and_holds() {
    let staging = Farm::running(one());
    let farm = Farm::new(one());
    let state = staging.path("state");
    let policy = format!(
        "\n[service.notebook.policy]\npassed_in = {{ state_dir = \"{}\", service = \"notebook\" }}\n",
        state.display()
    );
    farm.configure(&(farm.config() + &policy));
    farm.lastgood(&["run"]).ended(0);
    farm.publish("1.1.0");
    staging.publish("1.1.0");
    let cannot_tell = || farm.lastgood(&["run"]).ended(9).says("nobody can tell whether 1.1.0 passed in notebook of");
    let evidence = state.join(lastgood_store::EVIDENCE_FILE);
    let database = || rusqlite::Connection::open(&evidence).unwrap();
    let old: (i64, String) =
        database().query_row("SELECT size, note FROM checkpoint", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    staging.lastgood(&["run"]).ended(0);
    let new: (i64, String) =
        database().query_row("SELECT size, note FROM checkpoint", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    // Whoever can write the file can put an old checkpoint there, or none; what it doesn't cover is not signed.
    let anchor = staging.path("state.checkpoints");
    let hidden = staging.path("hidden");
    fs::rename(&anchor, &hidden).unwrap();
    let keep = |(size, note): &(i64, String)| {
        database().execute("UPDATE checkpoint SET size = ?1, note = ?2", (size, note)).unwrap();
    };
    keep(&old);
    farm.lastgood(&["run"]).ended(9).says("it was promoted, but that is not signed yet");
    keep(&(new.0, new.1.replace("lastgood/", "lastgood/0")));
    cannot_tell();
    database().execute("DELETE FROM checkpoint", []).unwrap();
    cannot_tell().says("nothing of service/notebook is signed");
    database()
        .execute("INSERT INTO checkpoint (chain, size, at, note) SELECT id, ?1, 0, ?2 FROM chain", (new.0, &new.1))
        .unwrap();
    fs::rename(&hidden, &anchor).unwrap();
    // An edited record, and a file that is not there.
    let edit = |from: &str, to: &str| {
        let changed = database()
            .execute(
                "UPDATE record SET bytes = CAST(replace(CAST(bytes AS TEXT), ?1, ?2) AS BLOB) WHERE instr(bytes, ?3)",
                (from, to, "\"promoted\""),
            )
            .unwrap();
        assert!(changed > 0, "nothing was edited");
    };
    edit("\"behind\":[]", "\"behind\":[\"bob\"]");
    cannot_tell().says("payload");
    edit("\"behind\":[\"bob\"]", "\"behind\":[]");
    let moved = staging.path("moved.db");
    let shm = |file: &Path| ["-wal", "-shm"].map(|end| format!("{}{end}", file.display()));
    shm(&evidence).iter().for_each(|file| drop(fs::remove_file(file)));
    fs::rename(&evidence, &moved).unwrap();
    cannot_tell();
    fs::rename(&moved, &evidence).unwrap();
    assert_eq!(farm.version("alice"), "1.0.0");
    nothing_is_rejected(&farm);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
}

/// A repository whose tags are releases of the notebook, and people who sign them.
struct Repository<'a>(&'a Farm);

impl Repository<'_> {
    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(self.0.path("repo")).env("GNUPGHOME", self.0.path("gpg"));
        command.args(["-c", "user.name=test", "-c", "user.email=test@test", "-c", "init.defaultBranch=main"]);
        said(command.args(arguments)).ended(0).out.trim().to_owned()
    }

    /// Commits a release's files; gives the commit.
    fn commit(&self, version: &str) -> String {
        self.0.publish(version);
        let repo = self.0.path("repo");
        if !repo.exists() {
            fs::create_dir(&repo).unwrap();
            self.git(&["init", "--quiet"]);
        }
        let releases = fs::read_dir(self.0.path("releases")).unwrap().map(|entry| entry.unwrap().path());
        let release = releases.filter(|path| path.ends_with(version)).collect::<Vec<_>>();
        copy(&release[0], &repo);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", version]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn sign(&self, who: &str, tag: &str, commit: &str) {
        let key = format!("user.signingkey={}", self.0.path(who).display());
        self.git(&["-c", "gpg.format=ssh", "-c", &key, "tag", "--force", "-s", "-m", "signed", tag, commit]);
    }
}

/// Runs `lastgood` as a user whose own settings would believe any signature.
fn trusting(farm: &Farm, arguments: &[&str]) -> Said {
    let believes = farm.path("believes-all");
    let says = "[GNUPG:] GOODSIG 0 anybody\\n[GNUPG:] VALIDSIG 0 0 0 0 0 0 0 0 0 0\\n[GNUPG:] TRUST_ULTIMATE 0 pgp\\n";
    fs::write(&believes, format!("#!/bin/sh\nprintf '\\n{says}'\nexit 0\n")).unwrap();
    fs::set_permissions(&believes, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = format!(
        "[gpg]\nprogram = {0}\n[gpg \"openpgp\"]\nprogram = {0}\n[gpg \"ssh\"]\nprogram = {0}\nallowedSignersFile = {1}\n",
        believes.display(),
        farm.path("all-signers").display(),
    );
    fs::write(farm.path(".gitconfig"), settings).unwrap();
    let mut command = farm.command(arguments);
    command.env("HOME", farm.path(".")).env("GIT_CONFIG_GLOBAL", farm.path(".gitconfig"));
    command.env("GNUPGHOME", farm.path("gpg")).env("GIT_CONFIG_COUNT", "1");
    command.env("GIT_CONFIG_KEY_0", "gpg.program").env("GIT_CONFIG_VALUE_0", &believes);
    said(&mut command)
}

#[test]
fn only_a_tag_that_an_allowed_key_has_signed_and_that_has_not_moved_is_taken() {
    use std::os::unix::fs::DirBuilderExt as _;
    let farm = Farm::new(one());
    let repository = Repository(&farm);
    for who in ["alice", "mallory"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", who, "-f"])
            .arg(farm.path(who))
            .status();
        assert!(made.unwrap().success());
    }
    let key = |who: &str| fs::read_to_string(farm.path(&format!("{who}.pub"))).unwrap();
    fs::write(farm.path("signers"), format!("alice {}", key("alice"))).unwrap();
    fs::write(farm.path("all-signers"), format!("alice {}mallory {}", key("alice"), key("mallory"))).unwrap();
    fs::DirBuilder::new().mode(0o700).create(farm.path("gpg")).unwrap();
    let gpg = |arguments: &[&str]| {
        said(Command::new("gpg").env("GNUPGHOME", farm.path("gpg")).arg("--batch").args(arguments)).ended(0)
    };
    for who in ["carol@example.test", "mallory@example.test"] {
        gpg(&["--passphrase", "", "--quick-generate-key", who, "ed25519", "sign", "1d"]);
    }
    fs::write(farm.path("keys.asc"), gpg(&["--armor", "--export", "carol@example.test"]).out).unwrap();
    let config = farm.config().replace("directory = \"releases\"", "git = \"repo\"")
        + "\n[service.notebook.policy]\nsigned_by = { ssh = \"signers\", openpgp = \"keys.asc\" }\n";
    farm.configure(&config);
    let run = || trusting(&farm, &["run"]);

    let first = repository.commit("1.0.0");
    repository.git(&["tag", "1.0.0", &first]);
    run().ended(9).says("1.0.0 is a lightweight git tag: it has no signature");
    repository.git(&["tag", "--force", "-a", "-m", "not signed", "1.0.0", &first]);
    run().ended(9).says("the git tag 1.0.0 is not signed");
    repository.sign("mallory", "1.0.0", &first);
    run().ended(9).says("the signature of the git tag 1.0.0 is refused");
    let mallory =
        ["-c", "user.signingkey=mallory@example.test", "tag", "--force", "-s", "-m", "signed", "1.0.0", &first];
    repository.git(&mallory);
    run().ended(9).says("the signature of the git tag 1.0.0 is refused: its key is not in");
    // Nothing is rejected: the same commit, signed by the right person, is taken.
    nothing_is_rejected(&farm);
    repository.sign("alice", "1.0.0", &first);
    run().ended(0).says("1.0.0 is signed by alice (SHA256:");
    assert_eq!(farm.version("alice"), "1.0.0");

    let second = repository.commit("1.1.0");
    // A tag that moves, however well it is signed, back and forth.
    repository.git(&["tag", "1.1.0", &second]);
    run().ended(9).says("1.1.0 is a lightweight git tag");
    // Another commit, though of the same files: what was reviewed was not this one.
    repository.git(&["commit", "--quiet", "--allow-empty", "-m", "another"]);
    let third = repository.git(&["rev-parse", "HEAD"]);
    for _ in 0..2 {
        repository.sign("alice", "1.1.0", &third);
        run().ended(9).says("refused by the digest gate").says("under the same tag");
    }
    repository.sign("alice", "1.1.0", &second);
    run().ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    repository.sign("alice", "1.1.0", &third);
    run().ended(9).says("refused by the digest gate");
    assert_eq!(farm.version("alice"), "1.1.0");
    drop(Command::new("gpgconf").env("GNUPGHOME", farm.path("gpg")).args(["--kill", "all"]).status());
}
