//! Asks where a release comes from: its channel for the tag, another environment's evidence for its digest.
//!
//! What that environment's log says counts only as far as it is signed, and only if every record leads there. All
//! else is cannot-tell, and so no yes.

use crate::{
    config::ServiceConfig,
    log::{chain_of, parse},
};
use lastgood_domain::{
    evidence::{ChainCheck, RecordView},
    facts::Offer,
    provenance::{self, Policy, Provenance},
    service::Service,
    terms::{Digest, ServiceName},
};
use lastgood_drivers::channel::{ChannelError, Context, PassedIn};
use lastgood_store::{Anchor, READ_RECORDS_MAX, Reader, Signer};
use std::path::{Path, PathBuf};

/// A service whose evidence says whether a release passed in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The service's name there.
    pub service: ServiceName,
    /// The folder with the evidence.
    pub state_dir: PathBuf,
    /// The checkpoint kept outside of that folder; `None` if nobody knows of one.
    pub anchor: Option<PathBuf>,
    /// What people call it.
    pub name: String,
}

impl Environment {
    /// Finds the environment that a file in `folder` names; `state_dir` and `anchor` are that file's own.
    pub fn of(passed_in: &PassedIn, folder: &Path, state_dir: &Path, anchor: &Path) -> Self {
        match passed_in {
            PassedIn::Here(service) => Self {
                service: service.clone(),
                state_dir: state_dir.into(),
                anchor: Some(anchor.into()),
                name: service.to_string(),
            },
            PassedIn::There { state_dir, service } => {
                let state_dir = folder.join(state_dir);
                // Where the anchor lies if nobody has put it elsewhere; where it lies elsewhere we can't know.
                let anchor = Some(state_dir.with_extension("checkpoints")).filter(|anchor| anchor.exists());
                let name = format!("{service} of {}", state_dir.display());
                Self { service: service.clone(), state_dir, anchor, name }
            }
        }
    }

    /// Asks whether `release` was promoted there and is neither taken back nor rejected.
    pub fn ask(&self, release: &Digest) -> provenance::Environment {
        self.read(release).unwrap_or_else(|because| provenance::Environment::CannotTell { because })
    }

    fn read(&self, release: &Digest) -> Result<provenance::Environment, String> {
        let dir = &self.state_dir;
        let key = Signer::load(dir).map_err(|error| because(&error))?.verifier();
        let reader = Reader::open(dir).map_err(|error| because(&error))?;
        let chain = chain_of(&self.service);
        // The signature first: what is appended while we read comes after it.
        let signed = reader.signed_head(&chain, &key).map_err(|error| because(&error))?;
        let signed = signed.ok_or_else(|| format!("nothing of {chain} is signed in {}", dir.display()))?;
        if let Some(anchor) = &self.anchor {
            reader.check_anchor(&key, &Anchor::at(anchor)).map_err(|error| because(&error))?;
        }
        let mut check = ChainCheck::new(&chain);
        let mut service = Service::default();
        let mut passed = false;
        loop {
            let records = reader.read(&chain, check.head().size, READ_RECORDS_MAX).map_err(|error| because(&error))?;
            if records.is_empty() {
                break;
            }
            for one in records {
                let view = RecordView { seq: one.seq, at: one.at, bytes: &one.bytes, leaf: None, link: one.link };
                check.next(&view).map_err(|error| because(&error))?;
                service.apply(&parse(&chain, one.seq, &one.bytes).map_err(|error| error.to_string())?);
                if check.head().size == signed.size {
                    if *check.head() != signed {
                        return Err(format!("the first {} records of {chain} are not those signed", signed.size));
                    }
                    passed = service.passed.contains(release);
                }
            }
        }
        if check.head().size < signed.size {
            return Err(format!("{chain} has {} records, and {} were signed", check.head().size, signed.size));
        }
        Ok(standing(&service, release, passed, signed.size))
    }
}

/// Says how a release stands in a service; `passed` is whether signed records say that it passed.
fn standing(service: &Service, release: &Digest, passed: bool, signed: u64) -> provenance::Environment {
    let not_yet = |because: &str| provenance::Environment::NotYet { because: because.into() };
    // Bad news count whether they are signed or not.
    if let Some(rejection) = service.rejected.get(release) {
        let because = format!("by {}: {}", rejection.by, rejection.reason);
        return provenance::Environment::Rejected { because };
    }
    match (service.passed.contains(release), passed) {
        (true, true) => provenance::Environment::Promoted { signed },
        (true, false) => not_yet("it was promoted, but that is not signed yet: lastgood evidence checkpoint"),
        (false, true) => not_yet("it was taken back"),
        (false, false) if service.tags.values().any(|seen| seen == release) => not_yet("it is known, but not promoted"),
        (false, false) => not_yet("these bytes were never there"),
    }
}

/// Says an error with all that caused it.
fn because(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", because(cause)),
        None => error.to_string(),
    }
}

/// Gives what a service demands, as its runs keep it.
pub fn policy(config: &ServiceConfig) -> Policy {
    Policy {
        tags: config.policy.tags().map(Into::into),
        annotated: config.policy.annotated(),
        signed: config.policy.signed_by().is_some(),
        digests: config.policy.digests(),
        passed_in: config.environment.as_ref().map(|environment| environment.name.clone()),
    }
}

/// Finds out what the policy asks of an offer; of its digest too, if it is known.
///
/// Errors: the channel can't be asked, or the file of allowed keys can't be used.
pub fn found(
    config: &ServiceConfig,
    offer: &Offer,
    digest: Option<&Digest>,
    installations: &Path,
    context: &Context,
) -> Result<Provenance, ChannelError> {
    let found = config.channel.attest(offer, &config.policy, installations, context)?;
    let environment = config.environment.as_ref().zip(digest).map(|(environment, digest)| environment.ask(digest));
    Ok(Provenance { environment, ..found })
}
