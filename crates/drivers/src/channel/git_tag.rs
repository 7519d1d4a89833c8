//! What a git tag says of itself, and whose signature is on it.
//!
//! Verified by the real gpg and ssh-keygen, with nothing but the allowed keys: no setting of a user or of the machine
//! may add a key or a program. Both are asked about now, not about the date in the tag, which its signer chose.

use super::{
    ChannelError,
    client::{Call, said},
    deadline::Deadline,
    git::{Git, own, reference},
    policy::SignedBy,
    staging::Staging,
};
use lastgood_domain::{
    provenance::{GitTag, Signature},
    terms::ReleaseTag,
};
use std::{
    fs::{self, DirBuilder, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// Starts the signature in a tag's text, which goes on to its end.
const SSH: &str = "-----BEGIN SSH SIGNATURE-----";
const OPENPGP: [&str; 2] = ["-----BEGIN PGP SIGNATURE-----", "-----BEGIN PGP MESSAGE-----"];
const X509: &str = "-----BEGIN SIGNED MESSAGE-----";
/// Says to ssh-keygen what was signed, so that a signature made for something else is none for a tag.
const NAMESPACE: &str = "git";
/// Settings of gpg: the keys of the file count as they are, and nothing is asked of a network or an agent.
const GPG_SETTINGS: &str = "batch\nno-autostart\nno-auto-key-retrieve\nno-auto-key-locate\ntrust-model always\n";

impl Git {
    /// Fetches a tag anew and looks who made it; whether its signature is good is looked at if there are `signers`.
    pub(crate) fn attest(
        &self,
        tag: &ReleaseTag,
        signers: Option<&SignedBy>,
        staging: &Staging<'_>,
        deadline: &Deadline<'_>,
    ) -> Result<GitTag, ChannelError> {
        let commit = self.fetch_tag(tag, staging, deadline)?;
        let answer = own("rev-parse", staging, deadline).args(["rev-parse", "--verify", &reference(tag)]).run()?;
        let object = String::from_utf8_lossy(&answer).trim().to_owned();
        let missing = signers.map(|_| Signature::Missing);
        if object == commit {
            return Ok(GitTag { commit, named: None, signature: missing });
        }
        // By its number: what is verified is what was read.
        let text = own("cat-file", staging, deadline).args(["cat-file", "tag", &object]).run()?;
        let looking = Looking { object: &object, text: &text, staging, deadline };
        let signature = signers.map(|signers| looking.signature(signers)).transpose()?;
        Ok(GitTag { commit, named: Some(name(&text)), signature })
    }
}

/// A tag object, read whole.
struct Looking<'a> {
    object: &'a str,
    text: &'a [u8],
    staging: &'a Staging<'a>,
    deadline: &'a Deadline<'a>,
}

impl Looking<'_> {
    fn signature(&self, signers: &SignedBy) -> Result<Signature, ChannelError> {
        let bad = |why: &str| Ok(Signature::Bad { why: why.into() });
        let Some(begin) = signature_begins(self.text) else { return Ok(Signature::Missing) };
        let (payload, signature) = self.text.split_at(begin);
        let folder = &self.deadline.context().folder;
        let starts = |with: &str| signature.starts_with(with.as_bytes());
        if starts(SSH) {
            match signers.ssh(folder) {
                Some(allowed) => self.by_ssh(payload, signature, &allowed),
                None => bad("it is by SSH, and signed_by names no ssh file"),
            }
        } else if OPENPGP.into_iter().any(starts) {
            match signers.openpgp(folder) {
                Some(keys) => self.by_openpgp(&keys),
                None => bad("it is by OpenPGP, and signed_by names no openpgp file"),
            }
        } else {
            bad("it is by X.509, which is not looked at")
        }
    }

    fn by_ssh(&self, payload: &[u8], signature: &[u8], allowed: &Path) -> Result<Signature, ChannelError> {
        readable(allowed)?;
        let at = |name: &str| self.staging.fetched().join(name);
        write(&at("signature"), signature)?;
        write(&at("payload"), payload)?;
        let keygen = || {
            let folder = self.staging.fetched();
            Call::new("ssh-keygen", &folder, "ssh-keygen -Y verify".into(), self.deadline)
                .alone()
                .debian_package("openssh-client")
                .making(self.staging.folder())
        };
        let found = keygen().args(["-Y", "find-principals", "-s", "signature", "-f"]).arg(allowed).run();
        let found = match found {
            Ok(found) => String::from_utf8_lossy(&found).into_owned(),
            Err(ChannelError::ClientFailed { output, .. }) => {
                return Ok(Signature::Bad {
                    why: format!("its key is not in {}, or not valid now ({output})", allowed.display()),
                });
            }
            Err(error) => return Err(error),
        };
        let mut why = format!("its key is not in {}", allowed.display());
        // One line of the file may name several.
        for principal in found.split(['\n', ',']).map(str::trim).filter(|principal| !principal.is_empty()) {
            let verify = keygen()
                .args(["-Y", "verify", "-n", NAMESPACE, "-s", "signature", "-I", principal, "-f"])
                .arg(allowed)
                .reading(File::open(at("payload")).map_err(|error| ChannelError::io("read", &at("payload"), error))?);
            match verify.run() {
                // Good "git" signature for alice@example.org with ED25519 key SHA256:…
                Ok(says) => {
                    let says = said(&says);
                    let key = says.rsplit(' ').next().unwrap_or_default();
                    return Ok(Signature::Good { signer: format!("{principal} ({key})") });
                }
                Err(ChannelError::ClientFailed { output, .. }) => why = output,
                Err(error) => return Err(error),
            }
        }
        Ok(Signature::Bad { why })
    }

    fn by_openpgp(&self, keys: &Path) -> Result<Signature, ChannelError> {
        readable(keys)?;
        let home = self.gpg_home()?;
        let folder = self.staging.fetched();
        let alone = |program: &str, act: &str| {
            Call::new(program, &folder, act.into(), self.deadline)
                .alone()
                .making(self.staging.folder())
                .env("HOME", &home)
                .env("GNUPGHOME", &home)
        };
        let import = alone("gpg", "gpg --import").debian_package("gnupg").args(["--quiet", "--import"]).arg(keys).run();
        import.map_err(|error| match error {
            ChannelError::ClientFailed { output, .. } => {
                ChannelError::SignersUnusable { path: keys.into(), why: output }
            }
            other => other,
        })?;
        let verified = alone("git", "git verify-tag")
            .debian_package("git")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(["--git-dir", super::git::REPOSITORY, "-c", "gpg.program=gpg", "-c", "gpg.openpgp.program=gpg"])
            .args(["verify-tag", "--raw", self.object])
            .run_saying();
        match verified {
            Ok((_, status)) => Ok(Signature::Good { signer: signer(&String::from_utf8_lossy(&status)) }),
            Err(ChannelError::ClientFailed { output, .. }) => Ok(Signature::Bad { why: refusal(&output, keys) }),
            Err(error) => Err(error),
        }
    }

    /// Makes a home for gpg that has nothing in it yet.
    fn gpg_home(&self) -> Result<PathBuf, ChannelError> {
        let home = self.staging.fetched().join("gnupg");
        let made = DirBuilder::new().mode(0o700).create(&home);
        made.map_err(|error| ChannelError::io("make the folder", &home, error))?;
        write(&home.join("gpg.conf"), GPG_SETTINGS.as_bytes())?;
        // Without this file gpg writes one, and may keep keys in a daemon of its own.
        write(&home.join("common.conf"), b"")?;
        // gpg asks an agent even where no secret key is wanted, and fails if the socket's path is longer than about
        // 100 bytes, as ours can be: so it is told of another socket, where nobody is.
        write(&home.join("S.gpg-agent"), b"%Assuan%\nsocket=/dev/null/none\n")?;
        Ok(home)
    }
}

/// Gives what the tag calls itself, in the part that a signature covers.
pub(super) fn name(text: &[u8]) -> String {
    let mut headers = text.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let name = headers.find_map(|line| line.strip_prefix(b"tag "));
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

/// Finds the signature as git does: at the last line that starts one.
pub(super) fn signature_begins(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut found = None;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if OPENPGP.into_iter().chain([SSH, X509]).any(|start| line.starts_with(start.as_bytes())) {
            found = Some(at);
        }
        at += line.len();
    }
    found
}

fn write(at: &Path, bytes: &[u8]) -> Result<(), ChannelError> {
    fs::write(at, bytes).map_err(|error| ChannelError::io("write", at, error))
}

/// Refuses a file of keys that can't be read.
pub(crate) fn readable(file: &Path) -> Result<(), ChannelError> {
    let unusable = |error: std::io::Error| ChannelError::SignersUnusable { path: file.into(), why: error.to_string() };
    File::open(file).map(drop).map_err(unusable)
}

/// Names who signed, from gpg's status lines: the key's own user id and its fingerprint.
pub(super) fn signer(status: &str) -> String {
    let value = |word: &str| status.lines().find_map(|line| line.strip_prefix("[GNUPG:] ")?.strip_prefix(word));
    let name = value("GOODSIG ").and_then(|value| value.split_once(' ')).map_or("someone", |(_, name)| name);
    // The last field is the primary key's fingerprint, whichever of its keys signed.
    let key = value("VALIDSIG ").and_then(|value| value.split(' ').next_back()).unwrap_or("unknown key");
    format!("{name} ({key})")
}

/// Says what gpg's status lines mean.
fn refusal(output: &str, keys: &Path) -> String {
    let meanings = [
        ("REVKEYSIG", "its key was revoked".to_owned()),
        ("EXPKEYSIG", "its key has expired".to_owned()),
        ("EXPSIG", "it has expired".to_owned()),
        ("BADSIG", "the tag was changed after it was signed".to_owned()),
        ("NO_PUBKEY", format!("its key is not in {}", keys.display())),
    ];
    let meaning = meanings.into_iter().find(|(word, _)| output.contains(word));
    meaning.map_or_else(|| output.to_owned(), |(_, meaning)| meaning)
}
