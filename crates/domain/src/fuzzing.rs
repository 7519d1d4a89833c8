//! Fuzz targets for the readers of this crate; see `cargo xtask fuzz`. Not a part of what is shipped.
//!
//! Each takes any bytes and panics if what it promises does not hold.
#![expect(clippy::unwrap_used, reason = "what can't be unwrapped is what the fuzzer looks for")]

use crate::{
    evidence::{
        ChainCheck, ChainId, Checkpoint, ConsistencyBundle, ExportCheck, ExportLine, Note, NoteKey, RecordBundle,
        SignedCheckpoint, VerifierKey, leaf,
    },
    proof::{Critical, Language, Outcome, Report, defines, mentions},
    switches::{Definition, FlagKind, Serve, typed},
    terms::{
        ApprovalId, ChainName, Digest, FlagKey, IncidentId, InstanceName, ReleaseTag, ServiceName, SnapshotId, Span,
        Timestamp,
    },
    traffic::{RoutePattern, SEATS},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt::Display, str};

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("route_pattern", route_pattern),
    ("report", report),
    ("source_names", source_names),
    ("note", note),
    ("proof", proof),
    ("export", export),
    ("terms", terms),
    ("flag_rule", flag_rule),
];

/// The key whose notes are among the seeds.
fn key() -> NoteKey {
    NoteKey::from_seed("lastgood/4be1d06f93a7c521", &[7; 32]).unwrap()
}

/// A route comes back as it was written; no other spelling of a path that it covers passes it.
pub fn route_pattern(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (pattern, path) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(route) = pattern.parse::<RoutePattern>() else { return };
    let written = route.to_string();
    assert_eq!(written.parse::<RoutePattern>().as_ref(), Ok(&route), "{pattern:?} is written {written:?}");
    assert!(written == pattern || pattern.ends_with("/*"), "{pattern:?} is written {written:?}");
    let method = pattern.split_once(' ').map_or("GET", |(method, _)| method);
    let (own, star) = match written.rsplit(' ').next().unwrap() {
        "*" => ("/", true),
        path => path.strip_suffix("/*").map_or((path, false), |folder| (folder, true)),
    };
    assert!(route.covers(method, own), "{pattern:?} does not cover itself");
    assert!(!star || route.covers(method, &format!("{own}/x")), "{pattern:?} does not cover what is below it");
    let covered = route.covers(method, path);
    let (path, query) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    // What is decoded once more than an eye would: only such a path may change by being encoded.
    if !path.contains('%') {
        let encoded: String = path.bytes().map(|b| if b == b'/' { "/".into() } else { format!("%{b:02x}") }).collect();
        assert_eq!(route.covers(method, &format!("{encoded}{query}")), covered, "{path:?} passes {pattern:?} encoded");
    }
    // One that steps out of a folder is covered by each of its readings; put behind another it is another path.
    if !path.contains("..") && !path.contains('%') {
        let spelled = format!("/./x/..{}{path}{query}", if path.starts_with('/') { "" } else { "/" });
        assert_eq!(route.covers(method, &spelled), covered, "{spelled:?} passes {pattern:?}");
    }
    assert_eq!(route.covers(method, &path.to_ascii_uppercase()), covered, "capitals pass {pattern:?}");
}

/// A report says as much however its lines end, is no larger than its text, and a failed test is never lost in a cut one.
pub fn report(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(read) = Report::read(text, "stem") else { return };
    assert!(read.cases.len() <= text.len());
    let all: u64 = [Outcome::Passed, Outcome::Failed, Outcome::Skipped].into_iter().map(|one| read.count(one)).sum();
    assert_eq!(all, read.cases.len() as u64);
    if !text.starts_with('\u{feff}') {
        assert_eq!(Report::read(&format!("\u{feff}{text}"), "stem").as_ref(), Ok(&read));
    }
    if !text.contains('\r') && !text.trim_start().starts_with('<') {
        assert_eq!(Report::read(&text.replace('\n', "\r\n"), "stem").as_ref(), Ok(&read), "its lines end otherwise");
    }
    // XML that is cut before its last element ends is none.
    if let Some(end) = text.rfind("</").filter(|_| text.trim_start().starts_with('<')) {
        assert!(Report::read(&text[..end], "stem").is_err(), "cut, and read all the same");
    }
}

/// A name is found where it is code and not where it is a comment, and looking always ends.
pub fn source_names(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (first, text) = text.split_once('\n').unwrap_or(("rs", text));
    let Some(language) = Language::of(first) else { return };
    let _ = (mentions(text, language, "transfer"), defines(text, language, "transfer", None));
    let _ = defines(text, language, "transfer", Some("int transfer("));
    if defines(text, language, "transfer", None) {
        assert!(mentions(text, language, "transfer"), "defined and not mentioned");
    }
    assert!(mentions(&format!("transfer\n{text}"), language, "transfer"));
    let name = Critical::name(text);
    assert!(text.ends_with(name) && !name.contains([':', '.', '/', '#']));
}

/// A note is split as it is written, a checkpoint comes back as its text, and only what was signed is taken for signed.
pub fn note(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(read) = Note::parse(text) {
        assert!(text.starts_with(read.text()) && read.text().ends_with('\n'));
        assert_eq!(read.signers().count(), text[read.text().len() + 1..].lines().count());
    }
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text, "a key is written otherwise");
    }
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        let written = checkpoint.to_text();
        assert_eq!(Checkpoint::parse(&written).as_ref(), Ok(&checkpoint));
        assert_eq!(written.lines().take(3).collect::<Vec<_>>(), text.split('\n').take(3).collect::<Vec<_>>());
    }
    if let Ok(signed) = SignedCheckpoint::open(text, &key().verifier()) {
        assert_eq!(signed.checkpoint(), &known(), "something that was never signed is taken for signed");
    }
}

/// The one checkpoint that the seeds' key has signed.
fn known() -> Checkpoint {
    let chain = ChainName::new("service/actual").unwrap();
    let head = ChainCheck::new(&chain).head().then(&ChainId::of(&chain), Timestamp(1_795_780_800_000), &leaf(b"{}"));
    Checkpoint { origin: "lastgood/4be1d06f93a7c521/service/actual".into(), head, root: leaf(b"{}") }
}

/// No proof holds but of what was signed, and what is read is written the same.
pub fn proof(bytes: &[u8]) {
    if let Ok(bundle) = serde_json::from_slice::<RecordBundle>(bytes) {
        assert_eq!(serde_json::from_slice::<RecordBundle>(&serde_json::to_vec(&bundle).unwrap()).unwrap(), bundle);
        if bundle.check(&key().verifier()).is_ok() {
            assert_eq!((bundle.seq, &bundle.bytes.0[..]), (0, &b"{}"[..]), "a record that was never written is proven");
        }
    }
    if let Ok(bundle) = serde_json::from_slice::<ConsistencyBundle>(bytes)
        && let Ok((older, newer)) = bundle.check(&key().verifier())
    {
        assert_eq!((older.checkpoint(), newer.checkpoint()), (&known(), &known()));
    }
}

/// Lines of an export are checked to an end; only what was signed holds.
pub fn export(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(serde_json::from_slice::<ExportLine>);
    let Some(Ok(first)) = lines.next() else { return };
    let Ok(mut check) = ExportCheck::open(first, &key().verifier()) else { return };
    let mut records = Vec::new();
    for line in lines {
        match line {
            Ok(ExportLine::Record(record)) if check.record(&record).is_ok() => records.push(record.bytes.0),
            Ok(ExportLine::End(end)) => {
                if let Ok(verdict) = check.end(&end) {
                    assert_eq!(verdict.to - verdict.from, records.len() as u64);
                    assert!(records.iter().all(|record| record == b"{}"), "a record that was never written is proven");
                }
                return;
            }
            _ => return,
        }
    }
}

/// What is taken for a term is written as it was read.
pub fn terms(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    same::<ServiceName>(text);
    same::<InstanceName>(text);
    same::<ReleaseTag>(text);
    same::<ChainName>(text);
    same::<ApprovalId>(text);
    same::<IncidentId>(text);
    same::<SnapshotId>(text);
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text.to_ascii_lowercase(), "a digest is written otherwise");
    }
    if let Ok(span) = text.parse::<Span>() {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
        assert_eq!(format!("{}ms", span.0).parse(), Ok(span));
        assert!(Timestamp(0).after(span) >= Timestamp(0));
    }
}

/// A rule that a flag may have reads as it was typed when it is shown: the same words give the same rule again.
pub fn flag_rule(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(percent) = text.parse::<typed::Percent>() {
        let parts = typed::parts(&[percent], &Definition::boolean()).unwrap_or_default();
        assert!(parts.iter().all(|part| part.seats <= SEATS), "more than everybody");
    }
    for kind in [FlagKind::Boolean, FlagKind::String, FlagKind::Number, FlagKind::Object] {
        if let Ok(value) = typed::value(text, kind) {
            assert!(kind != FlagKind::String || value.kind() == kind, "a text is always one");
        }
    }
    let Ok(typed) = text.parse::<typed::RuleText>() else { return };
    let Ok(rule) = typed.against(&Definition::boolean()) else { return };
    let definition = Definition { rules: [rule.clone()].into(), ..Definition::boolean() };
    // A share is shown with its name behind it, and is typed the other way round.
    if definition.check(&FlagKey::new("f").unwrap()).is_ok() && matches!(rule.serve, Serve::Variant(_)) {
        let shown = typed::says(&rule);
        let again = shown.parse::<typed::RuleText>().and_then(|typed| typed.against(&Definition::boolean()));
        assert_eq!(again.as_ref(), Ok(&rule), "{text:?} is shown as {shown:?}");
    }
}

fn same<T: str::FromStr + Display>(text: &str) {
    if let Ok(term) = text.parse::<T>() {
        assert_eq!(term.to_string(), text, "a term is written otherwise");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_of_the_domain_stands_its_seeds_and_what_is_made_of_them() {
        lastgood_seeds::stand(TARGETS);
    }

    /// The seeds of signed things are what the key of the targets signs, or the targets would prove nothing.
    #[test]
    fn the_seeds_of_evidence_hold() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
        let signed = known().sign(&key()).unwrap();
        assert_eq!(read("note/signed"), signed.note());
        assert_eq!(read("note/key"), key().verifier().to_string());
        let bundle: RecordBundle = serde_json::from_str(&read("proof/record")).unwrap();
        assert!(bundle.check(&key().verifier()).is_ok());
        let bundle: ConsistencyBundle = serde_json::from_str(&read("proof/consistency")).unwrap();
        assert!(bundle.check(&key().verifier()).is_ok());
    }
}
