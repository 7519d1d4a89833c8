//! Links by which a person answers one request for approval, from wherever they read what is sent to them.
//!
//! The token of a link is a keyed digest over the request, its plan and the person. It is made when the message is sent or
//! the link is printed, and stands nowhere else: what lies in the outbox names the request and the person only.

use hmac::{Hmac, KeyInit as _, Mac as _};
use lastgood_domain::{
    failure::Coded,
    operations::approval::Approval,
    terms::{Actor, ApprovalId, Digest, Timestamp},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The key's file in the state folder. Without it every link that was sent is worth nothing.
pub const LINK_KEY_FILE: &str = "approval-links.key";
/// Where the pages of links begin.
pub const LINK_PATH: &str = "/approval";
/// As long as the digest that it keys.
const KEY_BYTES: usize = 32;
/// What a token is for, so that a key used elsewhere by mistake makes no links.
const PURPOSE: &str = "lastgood approval link 1";

/// Why there are no links.
#[derive(Debug, thiserror::Error)]
pub enum LinkKeyError {
    /// The file can't be read or made.
    #[error("the key of links {} can't be used", path.display())]
    File {
        /// The key file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Others can read it.
    #[error("the key of links {} has mode {mode:o}: others can read it", path.display())]
    TooOpen {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not what we wrote. The content is not repeated here.
    #[error("the key of links {} is no key of {KEY_BYTES} bytes", path.display())]
    Damaged {
        /// The key file.
        path: PathBuf,
    },
}

impl Coded for LinkKeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooOpen { .. } => "key-too-open",
            Self::File { .. } | Self::Damaged { .. } => "key-unusable",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File { path, .. } => format!("check owner and mode: ls -l {}", path.display()),
            // Who could read it could have answered for anybody.
            Self::TooOpen { path, .. } | Self::Damaged { path } => {
                format!("remove it; links that were sent end with it: rm {}", path.display())
            }
        })
    }
}

/// What a link is for: everything that its token is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The request.
    pub approval: ApprovalId,
    /// Who answers.
    pub person: Actor,
    /// What is answered: another plan is another link.
    pub plan: Digest,
    /// When it was asked: a number that comes again after the evidence was put back is another request.
    pub asked_at: Timestamp,
}

impl Link {
    /// Gives the link by which `person` answers a request.
    pub fn of(approval: ApprovalId, one: &Approval, person: &Actor) -> Self {
        Self { approval, person: person.clone(), plan: one.request.plan, asked_at: one.at }
    }
}

/// Reads the last part of a link's address: request, person and token.
pub fn parse_ticket(ticket: &str) -> Option<(ApprovalId, Actor, &str)> {
    let (approval, rest) = ticket.split_once('.')?;
    // A person's name may have dots, a token never.
    let (person, token) = rest.rsplit_once('.')?;
    Some((approval.parse().ok()?, crate::config::actor_of(person).ok()?, token))
}

/// A message as it is sent, with what must not be stored.
pub type Finish = Arc<dyn Fn(&str, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// Makes links and knows them again. Its `Debug` shows no key.
#[derive(Clone)]
pub struct Links {
    key: [u8; KEY_BYTES],
    url: String,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Links {
    /// Loads the key of the state folder `dir`, or makes one there, mode 0600; `url` is where people reach our pages.
    ///
    /// Errors: [`LinkKeyError`].
    pub fn open(dir: &Path, url: &str) -> Result<Self, LinkKeyError> {
        let path = dir.join(LINK_KEY_FILE);
        let failed = |source| LinkKeyError::File { path: path.clone(), source };
        if !path.exists() {
            create(dir, &path).map_err(failed)?;
        }
        let file = File::open(&path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(LinkKeyError::TooOpen { path, mode });
        }
        let mut bytes = Vec::new();
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        let key = <[u8; KEY_BYTES]>::try_from(bytes).map_err(|_| LinkKeyError::Damaged { path })?;
        Ok(Self { key, url: url.trim_end_matches('/').to_owned() })
    }

    fn mac(&self, link: &Link) -> Hmac<Sha256> {
        let Link { approval, person, plan, asked_at } = link;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of every length");
        // No part can have a line's end in it.
        mac.update(format!("{PURPOSE}\n{approval}\n{person}\n{plan}\n{}\n", asked_at.0).as_bytes());
        mac
    }

    /// Gives the address that the person opens.
    pub fn address(&self, link: &Link) -> String {
        let token: String = self.mac(link).finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let person = link.person.as_str().trim_start_matches("person:");
        format!("{}{LINK_PATH}/{}.{person}.{token}", self.url, link.approval)
    }

    /// Tells whether a token is the link's. Any wrong one takes as long as any other.
    pub fn is_genuine(&self, link: &Link, token: &str) -> bool {
        let digit = |at: usize| token.as_bytes().get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let byte = |at: usize| u8::try_from(digit(2 * at)? * 16 + digit(2 * at + 1)?).ok();
        let bytes: Option<Vec<u8>> = (0..token.len() / 2).map(byte).collect();
        // Upper case is another text, and one link has one address.
        let is_plain = token.len() == 2 * KEY_BYTES && !token.bytes().any(|byte| byte.is_ascii_uppercase());
        is_plain && bytes.is_some_and(|bytes| self.mac(link).verify_slice(&bytes).is_ok())
    }

    /// Writes the link into a message that one person gets, when it is sent; `None` leaves the message as it is.
    ///
    /// `is_theirs` tells whether an endpoint reaches this person and nobody else.
    pub fn finished(&self, body: &[u8], is_theirs: impl Fn(&Actor) -> bool) -> Option<Vec<u8>> {
        let mut event: Value = serde_json::from_slice(body).ok()?;
        let data = event.get_mut("data")?.as_object_mut()?;
        let link: Link = serde_json::from_value(data.remove("answer")?).ok()?;
        // The configuration may have changed since it was put down.
        if !is_theirs(&link.person) {
            return None;
        }
        data.insert("link".into(), self.address(&link).into());
        Some(event.to_string().into_bytes())
    }
}

/// Publishes a new key under its final name only when it is whole; a process that is faster wins.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    let mut random = [0; KEY_BYTES + 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let (key, name) = random.split_at(KEY_BYTES);
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = dir.join(format!(".{LINK_KEY_FILE}.{name}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(key).and_then(|()| file.sync_all())?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(dir)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn link() -> Link {
        let person = Actor::new("person:bob.b").unwrap();
        Link { approval: ApprovalId(3), person, plan: Digest::of(b"plan"), asked_at: Timestamp(7) }
    }

    fn token(address: &str) -> &str {
        parse_ticket(address.rsplit('/').next().unwrap()).unwrap().2
    }

    #[test]
    fn a_token_is_for_one_request_plan_person_and_key_and_nothing_else() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let links = Links::open(one.path(), "https://ops.example/").unwrap();
        let address = links.address(&link());
        assert!(address.starts_with("https://ops.example/approval/a3.bob.b."), "{address}");
        let (approval, person, token) = parse_ticket(address.rsplit('/').next().unwrap()).unwrap();
        assert_eq!((approval, &person), (link().approval, &link().person));
        // The key is the one in the folder, whoever opens it.
        assert!(Links::open(one.path(), "").unwrap().is_genuine(&link(), token));
        assert!(!Links::open(two.path(), "").unwrap().is_genuine(&link(), token));
        let others = [
            Link { approval: ApprovalId(4), ..link() },
            Link { person: Actor::new("person:carol").unwrap(), ..link() },
            Link { plan: Digest::of(b"another"), ..link() },
            Link { asked_at: Timestamp(8), ..link() },
        ];
        for other in others {
            assert!(!links.is_genuine(&other, token), "{other:?}");
        }
        let cut = [&token[..62], "", &format!("{token}00"), &token.to_uppercase(), &"ä".repeat(32), &"g".repeat(64)]
            .map(ToOwned::to_owned);
        for wrong in cut {
            assert!(!links.is_genuine(&link(), &wrong), "{wrong}");
        }
        for at in 0..64 {
            let mut other = token.to_owned();
            let digit = if &token[at..=at] == "0" { "1" } else { "0" };
            other.replace_range(at..=at, digit);
            assert!(!links.is_genuine(&link(), &other), "{other}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_or_that_was_cut_makes_no_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LINK_KEY_FILE);
        Links::open(dir.path(), "").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft is left");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Links::open(dir.path(), ""), Err(LinkKeyError::TooOpen { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [7; 31]).unwrap();
        assert!(matches!(Links::open(dir.path(), ""), Err(LinkKeyError::Damaged { .. })));
    }

    #[test]
    fn a_link_comes_into_a_message_only_where_it_reaches_its_person() {
        let dir = tempfile::tempdir().unwrap();
        let links = Links::open(dir.path(), "https://ops.example").unwrap();
        let stored = serde_json::json!({ "data": { "summary": "s", "answer": link() } }).to_string();
        let sent = links.finished(stored.as_bytes(), |person| *person == link().person).unwrap();
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let address = links.address(&link());
        assert_eq!(sent["data"], serde_json::json!({ "summary": "s", "link": address }));
        assert!(!stored.contains(token(&address)));
        assert_eq!(links.finished(stored.as_bytes(), |_| false), None);
        assert_eq!(links.finished(br#"{"data":{"summary":"s"}}"#, |_| true), None);
        assert_eq!(links.finished(b"no event", |_| true), None);
    }
}
