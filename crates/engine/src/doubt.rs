//! Whether what was signed and is kept elsewhere speaks against a chain: then it may block, and opens nothing.
//!
//! Whoever drives refuses such a store before anything else. What is only read or said without a driver asks here: a
//! switch that was tripped, a hold that was set and a flag that was turned off may stand in the records that are gone.

use lastgood_domain::{failure::Failure, terms::ChainName};
use lastgood_store::{Anchor, AnchorError, KeyError, Reader, SignError, Signer, StoreError};
use std::{io::ErrorKind, path::Path};

/// Says what speaks against one chain of the store in `state_dir`. An anchor that is away, or older than the store, says
/// nothing against it.
///
/// Errors: the store can't be read.
pub fn doubt(
    reader: &Reader,
    (state_dir, anchor): (&Path, &Path),
    chain: &ChainName,
) -> Result<Option<Failure>, StoreError> {
    let key = match Signer::load(state_dir) {
        Ok(signer) => signer.verifier(),
        Err(KeyError::File { source, .. }) if source.kind() == ErrorKind::NotFound && anchor.exists() => {
            return Ok(Some(lost(anchor)));
        }
        // Nothing was ever signed here, or nobody can tell by what: `doctor` says so.
        Err(_) => return Ok(None),
    };
    match reader.check_chain(chain, &key, &Anchor::at(anchor)) {
        Ok(()) => Ok(None),
        // What can't be compared because it is damaged is in doubt; a store that can't be read at all is no answer.
        Err(SignError::Store(error)) if !matches!(error, StoreError::Damaged { .. } | StoreError::Corrupt { .. }) => {
            Err(error)
        }
        Err(SignError::Anchor(error)) if !speaks(&error) => Ok(None),
        Err(error) => Ok(Some(Failure::of(&error))),
    }
}

/// Says all that is wrong between the store and its anchor, soft or not: the next run is refused by each.
///
/// Errors: the store can't be read.
pub fn all(reader: &Reader, state_dir: &Path, anchor: &Path) -> Result<Vec<Failure>, StoreError> {
    let key = match Signer::load(state_dir) {
        Ok(signer) => signer.verifier(),
        Err(KeyError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(anchor.exists().then(|| lost(anchor)).into_iter().collect());
        }
        Err(error) => return Ok(vec![Failure::of(&error)]),
    };
    match reader.against_anchor(&key, &Anchor::at(anchor)) {
        Ok(found) => Ok(found.iter().map(|error| Failure::of(error)).collect()),
        Err(SignError::Store(error)) => Err(error),
        Err(error) => Ok(vec![Failure::of(&error)]),
    }
}

/// Says what speaks against the store, by the name of the chain, or `anchor` where it is all of them: records that are gone,
/// or are others than those that were signed. An anchor that is away, or older than the store, says nothing against it.
///
/// Errors: the store can't be read.
pub fn against(reader: &Reader, state_dir: &Path, anchor: &Path) -> Result<Vec<(String, Failure)>, StoreError> {
    let key = match Signer::load(state_dir) {
        Ok(signer) => signer.verifier(),
        Err(KeyError::File { source, .. }) if source.kind() == ErrorKind::NotFound && anchor.exists() => {
            return Ok(vec![(ANCHOR.into(), lost(anchor))]);
        }
        Err(_) => return Ok(Vec::new()),
    };
    let found = match reader.against_anchor(&key, &Anchor::at(anchor)) {
        Ok(found) => found,
        // Whoever reads a damaged chain says so.
        Err(SignError::Store(error)) if !matches!(error, StoreError::Damaged { .. } | StoreError::Corrupt { .. }) => {
            return Err(error);
        }
        Err(error) => vec![error],
    };
    let speaking = found.into_iter().filter_map(|error| match error {
        SignError::Anchor(error) if speaks(&error) => Some((chain_of(&error), Failure::of(&error))),
        _ => None,
    });
    Ok(speaking.collect())
}

/// What speaks against the store as a whole.
const ANCHOR: &str = "anchor";

fn chain_of(error: &AnchorError) -> String {
    match error {
        AnchorError::Rewound { chain, .. } | AnchorError::Forked { chain, .. } => chain.to_string(),
        AnchorError::Edited { chain, .. } => chain.clone(),
        _ => ANCHOR.into(),
    }
}

/// An anchor of another installation is what is left of ours once the state folder was lost.
const fn speaks(error: &AnchorError) -> bool {
    error.speaks_against_the_store() || matches!(error, AnchorError::Foreign { .. })
}

fn lost(anchor: &Path) -> Failure {
    let what = format!(
        "the anchor {} was signed with a key that is not in the state folder: that is another or a new one",
        anchor.display()
    );
    let hint = format!("give each installation an anchor path of its own; look at it: cat {}", anchor.display());
    Failure::new("anchor-foreign", what, Some(&hint))
}
