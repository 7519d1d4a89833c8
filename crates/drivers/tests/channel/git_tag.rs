//! Who made a git tag: real repositories, real signatures, by keys that are made here and thrown away.

use crate::{
    git::{git, repository},
    world::{World, channel, code, tag},
};
use lastgood_domain::provenance::{GitTag, Provenance, Signature};
use lastgood_drivers::channel::{ChannelError, PolicyConfig};
use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

/// A time long ago, as its users' programs write it.
const LONG_AGO: &str = "2019-06-01T12:00:00Z";

fn policy(keys: &str) -> PolicyConfig {
    toml::from_str(keys).unwrap()
}

fn by_ssh() -> PolicyConfig {
    policy("signed_by = { ssh = \"allowed\" }")
}

fn by_openpgp() -> PolicyConfig {
    policy("signed_by = { openpgp = \"keys.asc\" }")
}

/// A repository, and people with keys who may sign tags in it.
struct Signing {
    world: World,
}

impl Drop for Signing {
    fn drop(&mut self) {
        for home in ["alice-gpg", "mallory-gpg", "old-gpg"].map(|home| self.world.path(home)) {
            if home.exists() {
                // The agent that gpg started ends with the folder's keys.
                drop(Command::new("gpgconf").env("GNUPGHOME", home).args(["--kill", "all"]).status());
            }
        }
    }
}

impl Signing {
    fn new() -> Self {
        Self { world: repository() }
    }

    fn run(&self, program: &str, home: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.current_dir(self.world.path(".")).args(arguments).env("GNUPGHOME", self.world.path(home));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes an SSH key; gives its public part.
    fn ssh_key(&self, name: &str) -> String {
        self.run("ssh-keygen", ".", &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", name]);
        fs::read_to_string(self.world.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    /// Makes an OpenPGP key in a home of its own; gives its fingerprint.
    fn openpgp_key(&self, name: &str) -> String {
        let home = format!("{name}-gpg");
        self.gpg_home(&home);
        self.run(
            "gpg",
            &home,
            &[
                "--batch",
                "--passphrase",
                "",
                "--quick-generate-key",
                &format!("{name}@example.test"),
                "ed25519",
                "sign",
                "1y",
            ],
        );
        let listed = self.run("gpg", &home, &["--batch", "--with-colons", "--list-keys"]);
        listed.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned()
    }

    fn gpg_home(&self, home: &str) {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().mode(0o700).create(self.world.path(home)).unwrap();
    }

    /// Puts the public keys of a home into the file that the policy names.
    fn allow_openpgp(&self, name: &str) {
        let keys = self.run("gpg", &format!("{name}-gpg"), &["--batch", "--armor", "--export"]);
        self.world.put("keys.asc", keys);
    }

    /// Makes a signed tag in the repository.
    fn sign(&self, format: &str, who: &str, name: &str, date: Option<&str>) {
        let key = match format {
            "ssh" => self.world.path(who).display().to_string(),
            _ => format!("{who}@example.test"),
        };
        let mut command = Command::new("git");
        command
            .current_dir(self.world.path("repo"))
            .env("GNUPGHOME", self.world.path(&format!("{who}-gpg")))
            .args(["-c", "user.name=test", "-c", "user.email=test@test", "-c", &format!("gpg.format={format}")])
            .args(["-c", &format!("user.signingkey={key}"), "tag", "-s", "-m", "signed", name]);
        if let Some(date) = date {
            command.env("GIT_COMMITTER_DATE", date);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Puts a tag object of another text under a name, as who can write to the repository can.
    fn forge(&self, name: &str, text: &str) {
        let repo = self.world.path("repo");
        let mut hash = Command::new("git")
            .current_dir(&repo)
            .args(["hash-object", "-t", "tag", "-w", "--stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        hash.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let object = String::from_utf8(hash.wait_with_output().unwrap().stdout).unwrap();
        git(&repo, &["update-ref", &format!("refs/tags/{name}"), object.trim()]);
    }

    fn text_of(&self, name: &str) -> String {
        let mut text = git(&self.world.path("repo"), &["cat-file", "tag", name]);
        text.push('\n');
        text
    }

    fn attest(&self, policy: &PolicyConfig, name: &str) -> Result<Provenance, ChannelError> {
        let channel = channel(r#"git = "repo""#);
        let offer = channel.offer_of(&tag(name), &self.world.context).unwrap();
        let found = channel.attest(&offer, policy, &self.world.installations(), &self.world.context);
        assert_eq!(self.world.left(), [""; 0], "something was left behind");
        found
    }

    fn look(&self, policy: &PolicyConfig, name: &str) -> GitTag {
        self.attest(policy, name).unwrap().git_tag.unwrap()
    }

    #[track_caller]
    fn refuses(&self, policy: &PolicyConfig, name: &str, because: &str) {
        match self.look(policy, name).signature {
            Some(Signature::Bad { why }) => assert!(why.contains(because), "{why}"),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[track_caller]
    fn accepts(&self, policy: &PolicyConfig, name: &str, who: &str, key: &str) {
        let found = self.look(policy, name);
        let commit = git(&self.world.path("repo"), &["rev-parse", &format!("{name}^{{commit}}")]);
        assert_eq!((found.commit, found.named.as_deref()), (commit, Some(name)));
        match found.signature {
            Some(Signature::Good { signer }) => assert!(signer.contains(who) && signer.contains(key), "{signer}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn an_ssh_signature_counts_if_its_key_is_allowed_and_no_other_does() {
    let all = Signing::new();
    let alice = all.ssh_key("alice");
    all.ssh_key("mallory");
    all.world.put("allowed", format!("alice@example.test,alice namespaces=\"git\" {alice}\n"));
    all.sign("ssh", "alice", "v3", None);
    all.sign("ssh", "mallory", "v4", None);
    all.accepts(&by_ssh(), "v3", "alice@example.test", "SHA256:");
    all.refuses(&by_ssh(), "v4", "its key is not in");
    // The same policy finds no signature where there is none.
    let annotated = all.look(&by_ssh(), "v1.10");
    assert_eq!((annotated.named.as_deref(), annotated.signature), (Some("v1.10"), Some(Signature::Missing)));
    let lightweight = all.look(&by_ssh(), "v1.9");
    assert_eq!((lightweight.named, lightweight.signature), (None, Some(Signature::Missing)));
    // A kind of signature for which there are no keys is refused.
    all.world.put("keys.asc", "no keys");
    all.refuses(&by_openpgp(), "v3", "it is by SSH, and signed_by names no ssh file");
}

#[test]
fn an_ssh_key_that_may_sign_no_longer_signs_no_tag_whatever_date_the_tag_has() {
    let all = Signing::new();
    let alice = all.ssh_key("alice");
    all.sign("ssh", "alice", "v3", Some(LONG_AGO));
    all.world.put("allowed", format!("alice valid-after=\"20190101\",valid-before=\"20200101\" {alice}\n"));
    all.refuses(&by_ssh(), "v3", "not valid now");
    all.world.put("allowed", format!("alice namespaces=\"file\" {alice}\n"));
    assert!(matches!(all.look(&by_ssh(), "v3").signature, Some(Signature::Bad { .. })));
    all.world.put("allowed", "");
    all.refuses(&by_ssh(), "v3", "its key is not in");
    fs::remove_file(all.world.path("allowed")).unwrap();
    assert_eq!(code(all.attest(&by_ssh(), "v3")), "signers-unusable");
    assert_eq!(code(by_ssh().check_files(&all.world.path("."))), "signers-unusable");
    all.world.put("allowed", "");
    assert!(by_ssh().check_files(&all.world.path(".")).is_ok());
}

#[test]
fn a_signed_tag_that_was_changed_or_renamed_is_not_what_was_signed() {
    let all = Signing::new();
    let alice = all.ssh_key("alice");
    all.world.put("allowed", format!("alice {alice}\n"));
    all.sign("ssh", "alice", "v3", None);
    let signed = all.text_of("v3");
    let other = git(&all.world.path("repo"), &["rev-parse", "v1.9^{commit}"]);
    let commit = git(&all.world.path("repo"), &["rev-parse", "v3^{commit}"]);
    all.forge("v4", &signed.replace("tag v3", "tag v4"));
    all.refuses(&by_ssh(), "v4", "incorrect signature");
    all.forge("v5", &signed.replace(&commit, &other));
    all.refuses(&by_ssh(), "v5", "incorrect signature");
    // Signed by the right key, but as another release: the name is a fact of its own.
    all.forge("v6", &signed);
    let renamed = all.look(&by_ssh(), "v6");
    assert_eq!(renamed.named.as_deref(), Some("v3"));
    assert!(matches!(renamed.signature, Some(Signature::Good { .. })));
    // A second signature behind the first does not lend it its own.
    let mallory = Signing::new();
    mallory.ssh_key("mallory");
    mallory.sign("ssh", "mallory", "v3", None);
    let theirs = mallory.text_of("v3");
    let second = &theirs[theirs.find("-----BEGIN").unwrap()..];
    all.forge("v7", &format!("{signed}{second}"));
    all.refuses(&by_ssh(), "v7", "its key is not in");
}

#[test]
fn an_openpgp_signature_counts_if_its_key_is_allowed_and_no_other_does() {
    let all = Signing::new();
    let alice = all.openpgp_key("alice");
    all.openpgp_key("mallory");
    all.allow_openpgp("alice");
    all.sign("openpgp", "alice", "v3", None);
    all.sign("openpgp", "mallory", "v4", None);
    all.accepts(&by_openpgp(), "v3", "alice@example.test", &alice);
    all.refuses(&by_openpgp(), "v4", "its key is not in");
    all.forge("v5", &all.text_of("v3").replace("\nsigned\n", "\nsigned by the chief\n"));
    all.refuses(&by_openpgp(), "v5", "was changed after it was signed");
    assert_eq!(all.look(&by_openpgp(), "v1.10").signature, Some(Signature::Missing));
    // Either kind is enough where both are named.
    let ssh = all.ssh_key("carol");
    all.world.put("allowed", format!("carol {ssh}\n"));
    all.sign("ssh", "carol", "v6", None);
    let both = policy("signed_by = { ssh = \"allowed\", openpgp = \"keys.asc\" }");
    all.accepts(&both, "v6", "carol", "SHA256:");
    all.accepts(&both, "v3", "alice@example.test", &alice);
    all.world.put("keys.asc", "no keys");
    assert_eq!(code(all.attest(&by_openpgp(), "v3")), "signers-unusable");
}

#[test]
fn an_openpgp_key_that_expired_or_was_revoked_signs_no_tag() {
    let all = Signing::new();
    // In the past, both the key and its signature were good.
    all.gpg_home("old-gpg");
    let settings = all.world.put("old-gpg/gpg.conf", "faked-system-time 20190601T120000!\n");
    all.run(
        "gpg",
        "old-gpg",
        &["--batch", "--passphrase", "", "--quick-generate-key", "old@example.test", "ed25519", "sign", "1y"],
    );
    all.sign("openpgp", "old", "v3", Some(LONG_AGO));
    fs::remove_file(settings).unwrap();
    all.allow_openpgp("old");
    all.refuses(&by_openpgp(), "v3", "its key has expired");
    let alice = all.openpgp_key("alice");
    all.sign("openpgp", "alice", "v4", None);
    all.allow_openpgp("alice");
    all.accepts(&by_openpgp(), "v4", "alice@example.test", &alice);
    // gpg makes a revocation with each key, and a colon before it so that nobody imports it by accident.
    let revocation: PathBuf = all.world.path(&format!("alice-gpg/openpgp-revocs.d/{alice}.rev"));
    let text = fs::read_to_string(&revocation).unwrap().replace(":-----BEGIN", "-----BEGIN");
    fs::write(&revocation, text).unwrap();
    all.run("gpg", "alice-gpg", &["--batch", "--import", revocation.to_str().unwrap()]);
    all.allow_openpgp("alice");
    all.refuses(&by_openpgp(), "v4", "its key was revoked");
}

#[test]
fn a_tag_fits_the_policys_pattern_whatever_the_channel_takes() {
    let all = Signing::new();
    let fits = |pattern: &str, name: &str| all.attest(&policy(&format!("tags = {pattern:?}")), name).unwrap();
    assert_eq!(fits("v1.*", "v1.9"), Provenance { fits: Some(true), ..Provenance::default() });
    assert_eq!(fits("v1.*", "v2.0-rc1").fits, Some(false));
    assert_eq!(fits("v*", "v2.0-rc1").fits, Some(false), "a pre-release that nobody named");
    assert_eq!(fits("v*-rc*", "v2.0-rc1").fits, Some(true));
}

#[test]
fn a_policy_that_can_hold_for_no_release_of_the_channel_is_refused() {
    let git = channel(r#"git = "repo""#);
    let directory = channel(r#"directory = "releases""#);
    let wrong = |keys: &str, channel| policy(keys).check(channel).map_err(|problem| problem.key);
    assert_eq!(wrong("annotated = true", &git), Ok(()));
    assert_eq!(wrong("annotated = true", &directory), Err("signed_by"));
    assert_eq!(wrong("signed_by = { ssh = \"allowed\" }", &directory), Err("signed_by"));
    assert_eq!(wrong("signed_by = {}", &git), Err("signed_by"));
    assert_eq!(wrong("tags = \"[\"", &directory), Err("tags"));
    let pin = |digest: &str| format!("[[digest]]\ntag = \"1.0\"\nsha256 = \"{digest}\"\n");
    assert_eq!(wrong(&pin("abc"), &directory), Err("digest"));
    assert_eq!(wrong(&pin(&"0A".repeat(32)), &directory), Ok(()));
    assert_eq!(wrong(&pin(&"0a".repeat(32)).repeat(2), &directory), Err("digest"));
    assert!(toml::from_str::<PolicyConfig>("signed = true").is_err());
}
