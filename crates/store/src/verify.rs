//! Verifies the store: reads every payload again, hashes it, and names the first place that does not follow.
//!
//! One thread reads rows, another hashes; both work on batches that go round. What can be proved only by
//! something outside (a cut tail with a fixed head, yesterday's file) needs the anchor: give it.

mod outbox;
mod stream;

use crate::{
    anchor::{Anchor, AnchorError},
    error::{StoreError, during},
    open::Reader,
    read::{count, digest},
    sign::{Anchored, SignError, compare},
};
use lastgood_domain::{
    evidence::{ChainBreak, ChainName, Frontier, Head, SignedCheckpoint, VerifierKey},
    terms::Digest,
};
use std::collections::BTreeMap;
use stream::Walk;

/// Most findings of one run: one per chain is usual, and a wrecked outbox must not fill the memory.
const FINDINGS_MAX: usize = 1_000;

/// One thing that is wrong, and where.
#[derive(Debug)]
pub struct Finding {
    /// The chain, where it is one's.
    pub chain: Option<String>,
    /// The first bad position in it, where there is one.
    pub seq: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A record does not follow.
    #[error(transparent)]
    Chain(#[from] ChainBreak),
    /// A row has values that lastgood does not write, or the file is damaged there.
    #[error("the row can't be read: {0}")]
    Unreadable(String),
    /// Records end before the head.
    #[error("the head says {head} records, but they end at {records}: the tail was cut")]
    TailCut {
        /// Size in the head.
        head: u64,
        /// Records found.
        records: u64,
    },
    /// There are records behind the head.
    #[error("the head says {head} records, but there are {records}: records were added by hand or the head was edited")]
    BehindHead {
        /// Size in the head.
        head: u64,
        /// Records found.
        records: u64,
    },
    /// The head's link is not the last record's.
    #[error("the head's link is not that of the last record: the head was edited")]
    HeadEdited,
    /// The stored peaks are not those of the records.
    #[error("the stored Merkle frontier is not that of the records: it was edited")]
    FrontierEdited,
    /// A stored subtree is not that of the records.
    #[error(
        "the stored Merkle node {number} of level {level} is not that of the records: it was edited, added or removed"
    )]
    NodeEdited {
        /// Its level.
        level: u32,
        /// Its number in the level.
        number: u64,
    },
    /// The checkpoint in the store does not hold.
    #[error("the checkpoint in the store does not hold: {0}")]
    CheckpointEdited(String),
    /// The chain is smaller than the store's own checkpoint.
    #[error("the checkpoint in the store was signed at {signed} records, the chain has {records}: the tail was cut")]
    ShorterThanSigned {
        /// Size of the checkpoint.
        signed: u64,
        /// Records found.
        records: u64,
    },
    /// The records follow from one another but are not those that were signed.
    #[error(
        "the records before {signed} follow from one another, but are not those that were signed: history was rewritten"
    )]
    NotAsSigned {
        /// Size of the checkpoint.
        signed: u64,
    },
    /// The store and the anchor disagree.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// Records without a chain's row.
    #[error("there are records of chain number {id}, which has no head: the head's row was removed")]
    NoHead {
        /// The chain's number in the file.
        id: i64,
    },
    /// A name that lastgood does not write.
    #[error("the chain's name was edited: it is none that lastgood writes")]
    NameEdited,
    /// A notice without its record.
    #[error("notice {id} names a record that does not exist")]
    NoticeWithoutRecord {
        /// The message.
        id: String,
    },
    /// A notice that is there more than once.
    #[error("notice {id} is in the outbox {rows} times: rows were copied")]
    NoticeCopied {
        /// The message.
        id: String,
        /// How often.
        rows: u64,
    },
    /// A notice that is not what was enqueued.
    #[error("notice {id} is not what its record caused: its address, kind or body was edited")]
    NoticeEdited {
        /// The message.
        id: String,
    },
}

/// A chain that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedChain {
    /// The chain.
    pub name: ChainName,
    /// Its head.
    pub head: Head,
    /// Its Merkle root.
    pub root: Digest,
    /// Size of the checkpoint that covers it; `None` if it was never signed or no key was given.
    pub signed: Option<u64>,
}

/// What a run has shown.
#[derive(Debug, Default)]
pub struct Verification {
    /// Chains that hold, by name.
    pub chains: Vec<VerifiedChain>,
    /// What is wrong; empty if everything holds.
    pub findings: Vec<Finding>,
    /// Records whose payload was hashed again.
    pub records: u64,
    /// Notices compared with their records.
    pub notices: u64,
}

impl Verification {
    /// Tells whether everything holds.
    pub fn is_ok(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, chain: Option<&str>, seq: Option<u64>, problem: impl Into<Problem>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { chain: chain.map(Into::into), seq, problem: problem.into() });
        }
    }
}

/// A chain's row as it is stored, not yet believed.
struct Claim {
    id: i64,
    name: String,
    head: Head,
    frontier: Vec<u8>,
}

impl Reader {
    /// Verifies all chains and the outbox. With the installation's key also checkpoints; with the anchor also that
    /// nothing that was signed is gone. Findings are no errors: an error means that the run itself failed.
    pub fn verify(&self, key: Option<&VerifierKey>, anchor: Option<&Anchor>) -> Result<Verification, StoreError> {
        let _snapshot = self.connection.unchecked_transaction().map_err(during("verify the evidence"))?;
        let mut run = Verification::default();
        // Both as of one moment: what is signed in between is in one of them only, and would look like a loss. Who may not
        // lock the anchor reads it as it is.
        let nobody_signs = anchor.and_then(|anchor| anchor.lock().ok());
        let anchored = self.anchored(key, anchor, &mut run);
        let claims = self.claims(&mut run)?;
        drop(nobody_signs);
        self.find_headless(&claims, &mut run)?;
        for claim in &claims {
            self.verify_chain(claim, key, &anchored, &mut run)?;
        }
        if let (Some(key), Some(anchor)) = (key, anchor) {
            self.verify_anchor(&claims, key, anchor, &anchored, &mut run)?;
        }
        outbox::verify(&self.connection, &mut run)?;
        Ok(run)
    }

    fn anchored(&self, key: Option<&VerifierKey>, anchor: Option<&Anchor>, run: &mut Verification) -> Anchored {
        let (Some(key), Some(anchor)) = (key, anchor) else { return BTreeMap::new() };
        anchor.read(key).unwrap_or_else(|wrong| {
            run.find(None, None, wrong);
            BTreeMap::new()
        })
    }

    fn claims(&self, run: &mut Verification) -> Result<Vec<Claim>, StoreError> {
        let failed = during("read the chains' heads");
        let mut select = self
            .connection
            .prepare("SELECT id, name, size, link, frontier FROM chain ORDER BY name")
            .map_err(&failed)?;
        let mut rows = select.query([]).map_err(&failed)?;
        let mut claims = Vec::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            let name: String = row.get(1).map_err(&failed)?;
            let claim = (|| {
                let head = Head { size: count(row, 2)?, link: digest(row, 3)? };
                Ok::<_, rusqlite::Error>(Claim { id: row.get(0)?, name: name.clone(), head, frontier: row.get(4)? })
            })();
            match claim {
                Ok(claim) => claims.push(claim),
                Err(wrong) => run.find(Some(&name), None, Problem::Unreadable(wrong.to_string())),
            }
        }
        Ok(claims)
    }

    /// Finds records whose chain has no row, by skipping from chain to chain.
    fn find_headless(&self, claims: &[Claim], run: &mut Verification) -> Result<(), StoreError> {
        let failed = during("look for records without a head");
        let mut next = self.connection.prepare("SELECT min(chain) FROM record WHERE chain > ?1").map_err(&failed)?;
        let mut after = i64::MIN;
        while let Some(id) = next.query_row([after], |row| row.get::<_, Option<i64>>(0)).map_err(&failed)? {
            if !claims.iter().any(|claim| claim.id == id) {
                run.find(None, Some(0), Problem::NoHead { id });
            }
            after = id;
        }
        Ok(())
    }

    fn verify_chain(
        &self,
        claim: &Claim,
        key: Option<&VerifierKey>,
        anchored: &Anchored,
        run: &mut Verification,
    ) -> Result<(), StoreError> {
        let at = Some(claim.name.as_str());
        let Ok(name) = ChainName::new(&claim.name) else {
            run.find(at, None, Problem::NameEdited);
            return Ok(());
        };
        let stored = match key.map(|key| self.stored_checkpoint(&name, key)).transpose() {
            Ok(stored) => stored.flatten(),
            Err(SignError::Store(failed)) if !matches!(failed, StoreError::Damaged { .. }) => return Err(failed),
            Err(wrong) => {
                run.find(at, None, Problem::CheckpointEdited(with_cause(&wrong)));
                None
            }
        };
        let signed: Vec<&SignedCheckpoint> = stored.iter().chain(anchored.get(&name)).collect();
        let sizes = signed.iter().map(|signed| signed.checkpoint().head.size).collect();
        let walk = stream::walk(&self.connection, claim.id, &name, sizes)?;
        run.records += walk.head.size;
        if let Some((seq, problem)) = walk.broken {
            run.find(at, Some(seq), problem);
            return Ok(());
        }
        let before = run.findings.len();
        compare_head(claim, &walk, run);
        self.compare_nodes(claim, &walk, run)?;
        compare_signed(claim, &walk, &signed, run);
        if run.findings.len() == before {
            let signed = signed.iter().map(|signed| signed.checkpoint().head.size).max();
            run.chains.push(VerifiedChain { name, head: walk.head, root: walk.frontier.root(), signed });
        }
        Ok(())
    }

    fn compare_nodes(&self, claim: &Claim, walk: &Walk, run: &mut Verification) -> Result<(), StoreError> {
        let failed = during("read the Merkle tree");
        let mut select = self
            .connection
            .prepare("SELECT level, number, hash FROM node WHERE chain = ?1 ORDER BY level, number")
            .map_err(&failed)?;
        let mut stored = BTreeMap::new();
        let mut rows = select.query([claim.id]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let place: (u32, u64) = (row.get(0).unwrap_or(u32::MAX), count(row, 1).unwrap_or(u64::MAX));
            stored.insert(place, digest(row, 2).ok());
        }
        let wrong = |place: &(u32, u64)| stored.get(place).copied().flatten() != walk.nodes.get(place).copied();
        if let Some(&(level, number)) = stored.keys().chain(walk.nodes.keys()).find(|place| wrong(place)) {
            let first = number.checked_shl(level).unwrap_or(u64::MAX);
            run.find(Some(&claim.name), Some(first), Problem::NodeEdited { level, number });
        }
        Ok(())
    }

    fn verify_anchor(
        &self,
        claims: &[Claim],
        key: &VerifierKey,
        anchor: &Anchor,
        anchored: &Anchored,
        run: &mut Verification,
    ) -> Result<(), StoreError> {
        // Without a readable anchor one finding says so; a further one per chain would hide it.
        if run.findings.iter().any(|finding| finding.chain.is_none() && matches!(finding.problem, Problem::Anchor(_))) {
            return Ok(());
        }
        let names = claims.iter().filter_map(|claim| ChainName::new(&claim.name).ok());
        let names: std::collections::BTreeSet<_> = names.chain(anchored.keys().cloned()).collect();
        for chain in names {
            match compare(self, anchor, key, anchored, &chain) {
                Err(SignError::Anchor(wrong)) => {
                    let seq = match &wrong {
                        AnchorError::Rewound { stored, .. } => Some(*stored),
                        _ => None,
                    };
                    run.chains.retain(|verified| verified.name != chain);
                    run.find(Some(chain.as_str()), seq, wrong);
                }
                // Values of a wrong form were found by reading them.
                Err(SignError::Store(StoreError::Corrupt { .. } | StoreError::Damaged { .. })) | Ok(()) => {}
                Err(SignError::Store(failed)) => return Err(failed),
                // What else is wrong with this chain was found by reading it.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn compare_head(claim: &Claim, walk: &Walk, run: &mut Verification) {
    let at = Some(claim.name.as_str());
    let (head, records) = (claim.head.size, walk.head.size);
    if head > records {
        run.find(at, Some(records), Problem::TailCut { head, records });
    } else if head < records {
        run.find(at, Some(head), Problem::BehindHead { head, records });
    } else if claim.head != walk.head {
        run.find(at, Some(head.saturating_sub(1)), Problem::HeadEdited);
    } else if Frontier::from_bytes(head, &claim.frontier).ok().as_ref() != Some(&walk.frontier) {
        run.find(at, Some(head.saturating_sub(1)), Problem::FrontierEdited);
    }
}

fn compare_signed(claim: &Claim, walk: &Walk, signed: &[&SignedCheckpoint], run: &mut Verification) {
    let at = Some(claim.name.as_str());
    for checkpoint in signed.iter().map(|signed| signed.checkpoint()) {
        let size = checkpoint.head.size;
        if size > walk.head.size {
            run.find(at, Some(walk.head.size), Problem::ShorterThanSigned { signed: size, records: walk.head.size });
            return;
        }
        if walk.marks.get(&size) != Some(&(checkpoint.root, checkpoint.head.link)) {
            run.find(at, None, Problem::NotAsSigned { signed: size });
            return;
        }
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_cause(cause)),
        None => error.to_string(),
    }
}
