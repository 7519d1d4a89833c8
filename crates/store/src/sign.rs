//! Signs checkpoints, after comparing the store with what was signed before; the corrective entry is the way on.
//!
//! The anchor is written before the store's own copy. So the store's checkpoint is never newer than the
//! anchor's, unless somebody put an older anchor back.

use crate::{
    anchor::{Anchor, AnchorError, AnchorGuard},
    append::{AppendError, NewRecord},
    error::{StoreError, during},
    key::{KeyError, Signer},
    open::{Reader, Store},
    read::{ChainRow, chain_row, signed},
    tree::StoredTree,
};
use lastgood_domain::{
    evidence::{
        ChainName, Checkpoint, CheckpointError, Head, RewindAcknowledged, SignedCheckpoint, VerifierKey,
        check_consistency, consistency_proof, origin_of, root_at,
    },
    failure::Coded,
    terms::{Actor, Reason, Timestamp},
};
use rusqlite::OptionalExtension;
use std::collections::{BTreeMap, BTreeSet};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Store and anchor disagree, or the anchor can't be used.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// The key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The corrective entry could not be appended.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The checkpoint in the store was edited or signed with another key.
    #[error("the checkpoint of chain {chain} in the store does not hold under key {key}")]
    StoredCheckpoint {
        /// The chain.
        chain: ChainName,
        /// The installation's public key.
        key: String,
        /// How it fails.
        source: CheckpointError,
    },
    /// The stored Merkle tree contradicts itself.
    #[error("chain {chain}: the stored Merkle tree does not lead from {from} to {to} records")]
    Tree {
        /// The chain.
        chain: ChainName,
        /// Size that was signed.
        from: u64,
        /// Size now.
        to: u64,
    },
    /// There is nothing to acknowledge.
    #[error("chain {chain} continues what was signed: there is no rewind to acknowledge")]
    NothingToAcknowledge {
        /// The chain.
        chain: ChainName,
    },
}

impl Coded for SignError {
    fn code(&self) -> &'static str {
        match self {
            Self::Anchor(inner) => inner.code(),
            Self::Key(inner) => inner.code(),
            Self::Store(inner) => inner.code(),
            Self::Append(inner) => inner.code(),
            Self::StoredCheckpoint { .. } | Self::Tree { .. } => "evidence-broken",
            Self::NothingToAcknowledge { .. } => "nothing-to-acknowledge",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Anchor(inner) => inner.hint(),
            Self::Key(inner) => inner.hint(),
            Self::Store(inner) => inner.hint(),
            Self::Append(inner) => inner.hint(),
            Self::StoredCheckpoint { .. } | Self::Tree { .. } => {
                Some("find the first bad position: lastgood evidence verify".into())
            }
            Self::NothingToAcknowledge { .. } => Some("sign as usual: lastgood evidence checkpoint".into()),
        }
    }
}

/// What was signed before, as both places have it.
pub(crate) type Anchored = BTreeMap<ChainName, SignedCheckpoint>;

impl Store {
    /// Opens the store to drive with it: compares every chain with the anchor first and refuses where they disagree.
    pub fn open_for_driving(dir: &std::path::Path, signer: &Signer, anchor: &Anchor) -> Result<Self, SignError> {
        let store = Self::open(dir)?;
        store.check_anchor(&signer.verifier(), anchor)?;
        Ok(store)
    }

    /// Signs the head of `chain` and keeps the checkpoint in the anchor and in the store.
    pub fn checkpoint(
        &mut self,
        chain: &ChainName,
        signer: &Signer,
        anchor: &Anchor,
        now: Timestamp,
    ) -> Result<SignedCheckpoint, SignError> {
        let key = signer.verifier();
        let guard = anchor.lock()?;
        let anchored = guard.checkpoints(&key)?;
        compare(self, anchor, &key, &anchored, chain)?;
        let made = self.sign_head(chain, signer, anchored.get(chain))?;
        self.publish(guard, &key, anchored, chain, made, now)
    }

    /// Goes on after store and anchor disagreed: appends a signed corrective entry to `chain`, which keeps what was
    /// signed before, and signs and anchors the chain as it is now. An anchor that can't be read is put aside.
    pub fn acknowledge_rewind(
        &mut self,
        chain: &ChainName,
        (signer, anchor): (&Signer, &Anchor),
        (actor, reason): (Actor, Reason),
        now: Timestamp,
    ) -> Result<SignedCheckpoint, SignError> {
        let key = signer.verifier();
        let mut guard = anchor.lock()?;
        let (mut anchored, speaks_for_us) = match guard.checkpoints(&key) {
            Ok(anchored) => (anchored, true),
            Err(AnchorError::Unreadable { .. } | AnchorError::Foreign { .. } | AnchorError::Edited { .. }) => {
                (BTreeMap::new(), false)
            }
            Err(other) => return Err(other.into()),
        };
        match compare(self, anchor, &key, &anchored, chain) {
            Ok(()) if speaks_for_us => return Err(SignError::NothingToAcknowledge { chain: chain.clone() }),
            // That the anchor says nothing for this store is what is acknowledged.
            Ok(())
            | Err(
                SignError::Anchor(_)
                | SignError::StoredCheckpoint { .. }
                | SignError::Store(StoreError::Corrupt { .. } | StoreError::Damaged { .. }),
            ) => {}
            Err(other) => return Err(other),
        }
        if !speaks_for_us {
            guard.put_aside(now.0)?;
        }
        let abandoned = anchored.remove(chain).map(|signed| signed.note().to_owned());
        let abandoned = match abandoned {
            None => self.checkpoint_note(chain)?,
            some => some,
        };
        let found = self.head(chain)?;
        let entry = RewindAcknowledged::sign(&signer.for_chain(chain)?, (actor, reason, now), found, abandoned)
            .map_err(KeyError::Name)?;
        let bytes = serde_json::to_vec(&entry).expect("a struct of texts and numbers always has a JSON form");
        self.append(chain, &found, &[NewRecord { at: now, bytes }], &[])?;
        let made = self.sign_head(chain, signer, None)?;
        self.publish(guard, &key, anchored, chain, made, now)
    }

    fn sign_head(
        &self,
        chain: &ChainName,
        signer: &Signer,
        anchored: Option<&SignedCheckpoint>,
    ) -> Result<SignedCheckpoint, SignError> {
        let transaction = self.connection.unchecked_transaction().map_err(during("read a chain"))?;
        let row = chain_row(&transaction, chain).map_err(during("read a chain's head"))?;
        let row = row.unwrap_or(ChainRow { id: 0, head: Head::EMPTY, frontier: Vec::new() });
        let tree = StoredTree { connection: &transaction, chain, id: row.id };
        let root = row.frontier(chain)?.root();
        let broken = |from| SignError::Tree { chain: chain.clone(), from, to: row.head.size };
        // The peaks must be those of the stored leaves, and those must continue what was signed.
        if root_at(&tree, row.head.size)? != root {
            return Err(broken(0));
        }
        if let Some(before) = anchored.map(SignedCheckpoint::checkpoint) {
            let proof = consistency_proof(&tree, before.head.size, row.head.size)?;
            check_consistency((before.head.size, &before.root), (row.head.size, &root), &proof)
                .map_err(|_| broken(before.head.size))?;
        }
        let checkpoint = Checkpoint { origin: origin_of(signer.installation(), chain), head: row.head, root };
        checkpoint.sign(&signer.for_chain(chain)?).map_err(|source| SignError::StoredCheckpoint {
            chain: chain.clone(),
            key: signer.verifier().to_string(),
            source,
        })
    }

    fn publish(
        &mut self,
        guard: AnchorGuard<'_>,
        key: &VerifierKey,
        mut anchored: Anchored,
        chain: &ChainName,
        made: SignedCheckpoint,
        now: Timestamp,
    ) -> Result<SignedCheckpoint, SignError> {
        // Ed25519 signatures are determined by key and text: the same head gives the same note, nothing to write.
        if anchored.get(chain) != Some(&made) {
            anchored.insert(chain.clone(), made.clone());
            guard.replace(key, &anchored)?;
        }
        if made.checkpoint().head.size > 0 {
            self.connection_mut()
                .execute(
                    "INSERT INTO checkpoint (chain, size, at, note) SELECT id, ?2, ?3, ?4 FROM chain WHERE name = ?1
                     ON CONFLICT (chain) DO UPDATE SET size = excluded.size, at = excluded.at, note = excluded.note",
                    (chain.as_str(), signed(made.checkpoint().head.size), now.0, made.note()),
                )
                .map_err(during("keep a checkpoint"))?;
        }
        Ok(made)
    }
}

impl Reader {
    /// Gives the last checkpoint of `chain` as the store has it, unchecked.
    pub fn checkpoint_note(&self, chain: &ChainName) -> Result<Option<String>, StoreError> {
        self.connection
            .prepare_cached("SELECT note FROM checkpoint JOIN chain ON chain.id = checkpoint.chain WHERE name = ?1")
            .and_then(|mut select| select.query_row([chain.as_str()], |row| row.get(0)).optional())
            .map_err(during("read a checkpoint"))
    }

    /// Gives the head of `chain` that its newest checkpoint in the store vouches for, after checking the signature;
    /// `None` if nothing of it was ever signed. Whether the records lead there is for whoever reads them to see.
    pub fn signed_head(&self, chain: &ChainName, key: &VerifierKey) -> Result<Option<Head>, SignError> {
        Ok(self.stored_checkpoint(chain, key)?.map(|signed| signed.checkpoint().head))
    }

    /// Compares every chain with the anchor, in milliseconds: sizes, roots and links, not payloads.
    pub fn check_anchor(&self, key: &VerifierKey, anchor: &Anchor) -> Result<(), SignError> {
        // What is signed meanwhile is in one of them only; who may not lock the anchor reads it as it is.
        let _nobody_signs = anchor.lock().ok();
        let anchored = anchor.read(key)?;
        let stored = self.chains()?;
        let names = stored.iter().map(|info| &info.name).chain(anchored.keys());
        for chain in names {
            compare(self, anchor, key, &anchored, chain)?;
        }
        Ok(())
    }

    /// Gives all that is wrong between the chains and the anchor, one for each chain.
    ///
    /// Errors: why nothing could be compared.
    pub fn against_anchor(&self, key: &VerifierKey, anchor: &Anchor) -> Result<Vec<SignError>, SignError> {
        let look = || {
            let anchored = anchor.read(key)?;
            let stored = self.chains()?;
            let names: BTreeSet<&ChainName> = stored.iter().map(|info| &info.name).chain(anchored.keys()).collect();
            let compared = names.into_iter().map(|chain| compare(self, anchor, key, &anchored, chain));
            Ok::<_, SignError>(compared.filter_map(Result::err).collect::<Vec<_>>())
        };
        let found = look()?;
        if found.is_empty() {
            return Ok(found);
        }
        // What is signed meanwhile is in one of them only.
        let _nobody_signs = anchor.lock().ok();
        look()
    }

    /// Compares one chain with the anchor and looks at no other, so that it may be asked often; waits for nobody who signs.
    ///
    /// Errors: what is wrong with it, or why it could not be compared.
    pub fn check_chain(&self, of: &ChainName, key: &VerifierKey, anchor: &Anchor) -> Result<(), SignError> {
        compare(self, anchor, key, &anchor.read_of(key, of)?, of)
    }

    /// Compares one chain with the anchor, and then all the others; gives what is wrong with those.
    ///
    /// Errors: what is wrong with `of`, or why nothing could be compared.
    pub fn check_anchor_of(
        &self,
        of: &ChainName,
        key: &VerifierKey,
        anchor: &Anchor,
    ) -> Result<Option<SignError>, SignError> {
        let _nobody_signs = anchor.lock().ok();
        let anchored = anchor.read(key)?;
        compare(self, anchor, key, &anchored, of)?;
        let stored = match self.chains() {
            Ok(stored) => stored,
            Err(error) => return Ok(Some(error.into())),
        };
        let others = stored.iter().map(|info| &info.name).chain(anchored.keys()).filter(|chain| *chain != of);
        Ok(others.map(|chain| compare(self, anchor, key, &anchored, chain)).find_map(Result::err))
    }

    /// Gives the checkpoint of `chain` in the store after checking its signature and that it is of this chain.
    pub(crate) fn stored_checkpoint(
        &self,
        chain: &ChainName,
        key: &VerifierKey,
    ) -> Result<Option<SignedCheckpoint>, SignError> {
        let Some(note) = self.checkpoint_note(chain)? else { return Ok(None) };
        let failed = |source| SignError::StoredCheckpoint { chain: chain.clone(), key: key.to_string(), source };
        let of_chain = key.named(&origin_of(key.name(), chain)).map_err(|wrong| failed(wrong.into()))?;
        SignedCheckpoint::open(&note, &of_chain).map(Some).map_err(failed)
    }
}

/// Compares one chain of the store with what was signed of it.
pub(crate) fn compare(
    reader: &Reader,
    anchor: &Anchor,
    key: &VerifierKey,
    anchored: &Anchored,
    chain: &ChainName,
) -> Result<(), SignError> {
    let (path, name) = (|| anchor.path().to_owned(), || chain.clone());
    let stored = reader.stored_checkpoint(chain, key)?;
    let stored = stored.as_ref().map_or(0, |signed| signed.checkpoint().head.size);
    let Some(signed) = anchored.get(chain) else {
        if stored > 0 {
            return Err(AnchorError::Missing { path: path(), chain: name(), stored }.into());
        }
        return Ok(());
    };
    let checkpoint = signed.checkpoint();
    let size = checkpoint.head.size;
    let row = chain_row(&reader.connection, chain).map_err(during("read a chain's head"))?;
    let (id, here) = row.map_or((0, 0), |row| (row.id, row.head.size));
    if here < size {
        return Err(AnchorError::Rewound { path: path(), chain: name(), anchored: size, stored: here }.into());
    }
    if size == 0 {
        return Ok(());
    }
    let tree = StoredTree { connection: &reader.connection, chain, id };
    let same = tree.link_at(size - 1)? == Some(checkpoint.head.link) && root_at(&tree, size)? == checkpoint.root;
    if !same {
        return Err(AnchorError::Forked { path: path(), chain: name(), anchored: size }.into());
    }
    // Last, since after a rewind the store's own checkpoint is older anyway.
    if stored > size {
        return Err(AnchorError::Behind { path: path(), chain: name(), anchored: size, stored }.into());
    }
    Ok(())
}
