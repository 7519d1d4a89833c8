//! Reads a file of ours line by line and hands it to the formats' own checks.

use lastgood_domain::evidence::{
    ConsistencyBundle, ExportCheck, ExportError, ExportLine, ExportVerdict, ProofError, RecordBundle, SignedCheckpoint,
    VerifierKey,
};
use lastgood_domain::terms::Digest;
use serde_json::{Value, json};
use std::{
    fmt,
    io::{BufRead, Read},
};

/// A record of 1 MiB in base64, its link and braces; also the largest proof document.
const LINE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// What a file that holds has shown.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// An export.
    Export(ExportVerdict),
    /// A record's proof.
    Record {
        /// Its number.
        seq: u64,
        /// Its bytes.
        bytes: Vec<u8>,
        /// The checkpoint that covers it.
        signed: SignedCheckpoint,
    },
    /// A consistency proof: older and newer.
    Consistency(SignedCheckpoint, SignedCheckpoint),
}

/// Why a file does not hold.
#[derive(Debug)]
pub(crate) struct Bad {
    /// The first bad position, where there is one.
    pub(crate) seq: Option<u64>,
    /// What is wrong there.
    pub(crate) what: String,
}

/// Checks one file with a key that the user trusts.
pub(crate) fn check(input: &mut dyn BufRead, key: &VerifierKey) -> Result<Verdict, Bad> {
    let Some(first) = line(input)? else { return Err(bad("the file is empty")) };
    match serde_json::from_slice::<ExportLine>(&first) {
        Ok(open) => export(open, input, key),
        Err(_) => document(first, input, key),
    }
}

fn export(open: ExportLine, input: &mut dyn BufRead, key: &VerifierKey) -> Result<Verdict, Bad> {
    let mut check = ExportCheck::open(open, key).map_err(of_export)?;
    let mut number = 1u64;
    while let Some(bytes) = line(input)? {
        number += 1;
        let parsed =
            serde_json::from_slice(&bytes).map_err(|wrong| bad(&format!("line {number} is none of ours: {wrong}")))?;
        match parsed {
            ExportLine::Record(record) => check.record(&record).map_err(of_export)?,
            ExportLine::End(end) => {
                if line(input)?.is_some() {
                    return Err(of_export(ExportError::Shape("there are lines behind the end")));
                }
                return check.end(&end).map(Verdict::Export).map_err(of_export);
            }
            ExportLine::Open(_) => return Err(of_export(ExportError::Shape("a second export is opened within"))),
        }
    }
    Err(of_export(ExportError::Shape("the last line is missing: the file was cut")))
}

fn document(first: Vec<u8>, input: &mut dyn BufRead, key: &VerifierKey) -> Result<Verdict, Bad> {
    let mut bytes = first;
    input.take(LINE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|wrong| bad(&wrong.to_string()))?;
    if bytes.len() as u64 > LINE_BYTES_MAX {
        return Err(bad("the document is longer than 2 MiB"));
    }
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|wrong| bad(&format!("it is no JSON of ours: {wrong}")))?;
    let misfit = |wrong: serde_json::Error| bad(&format!("the document is none of ours: {wrong}"));
    match value.get("schema").and_then(Value::as_str) {
        Some(RecordBundle::SCHEMA) => {
            let bundle: RecordBundle = serde_json::from_value(value).map_err(misfit)?;
            let signed = bundle.check(key).map_err(of_proof)?;
            Ok(Verdict::Record { seq: bundle.seq, bytes: bundle.bytes.0, signed })
        }
        Some(ConsistencyBundle::SCHEMA) => {
            let bundle: ConsistencyBundle = serde_json::from_value(value).map_err(misfit)?;
            bundle.check(key).map(|(older, newer)| Verdict::Consistency(older, newer)).map_err(of_proof)
        }
        Some(other) => Err(bad(&format!("schema {other} is not known to this program"))),
        None => Err(bad("it is no export and no proof of lastgood's")),
    }
}

/// Reads one line without its newline; `None` at the end.
fn line(input: &mut dyn BufRead) -> Result<Option<Vec<u8>>, Bad> {
    let mut bytes = Vec::new();
    input.take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes).map_err(|wrong| bad(&wrong.to_string()))?;
    if bytes.len() as u64 > LINE_BYTES_MAX {
        return Err(bad("a line is longer than 2 MiB"));
    }
    Ok((!bytes.is_empty()).then_some(bytes))
}

fn bad(what: &str) -> Bad {
    Bad { seq: None, what: what.into() }
}

fn of_export(error: ExportError) -> Bad {
    Bad { seq: error.seq(), what: with_causes(&error) }
}

fn of_proof(error: ProofError) -> Bad {
    let seq = if let ProofError::Record { seq, .. } = &error { Some(*seq) } else { None };
    Bad { seq, what: with_causes(&error) }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}

impl Verdict {
    /// Names the kind of file.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Export(_) => "export",
            Self::Record { .. } => "record-proof",
            Self::Consistency(..) => "consistency-proof",
        }
    }

    /// Gives the verdict for programs.
    pub(crate) fn data(&self) -> Value {
        match self {
            Self::Export(export) => json!(export),
            Self::Record { seq, bytes, signed } => json!({
                "origin": signed.checkpoint().origin,
                "seq": seq,
                "bytes": bytes.len(),
                "digest": Digest::of(bytes),
                "checkpoint_size": signed.checkpoint().head.size,
            }),
            Self::Consistency(older, newer) => json!({
                "origin": newer.checkpoint().origin,
                "older_size": older.checkpoint().head.size,
                "newer_size": newer.checkpoint().head.size,
            }),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Export(export) => {
                let times =
                    if export.times_are_signed { "payloads and times" } else { "payloads, but not their times," };
                let ExportVerdict { chain, from, to, checkpoint_size, .. } = export;
                write!(
                    f,
                    "{} records of {chain} ({from}..{to}): {times} are covered by the signed checkpoint of {checkpoint_size} records",
                    to - from
                )
            }
            Self::Record { seq, bytes, signed } => {
                let checkpoint = signed.checkpoint();
                let (origin, size) = (&checkpoint.origin, checkpoint.head.size);
                write!(
                    f,
                    "record {seq} ({} bytes, {}) is in {origin}, signed at {size} records",
                    bytes.len(),
                    Digest::of(bytes)
                )
            }
            Self::Consistency(older, newer) => {
                let (old, new) = (older.checkpoint().head.size, newer.checkpoint().head.size);
                write!(f, "{} only grew, from {old} to {new} records: nothing was rewritten", newer.checkpoint().origin)
            }
        }
    }
}
