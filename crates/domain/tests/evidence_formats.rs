//! The formats' fixed points: if one of these changes, evidence that people hold can no longer be checked.
//!
//! Our own values were computed with another language's hash and signature libraries from the written layouts in
//! docs/design/evidence.md; the others are published test data of RFC 6962 logs and of the signed-note format.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    evidence::{
        ChainCheck, ChainId, ChainName, Checkpoint, Frontier, Head, Note, NoteError, NoteKey, RecordView,
        RewindAcknowledged, SignedCheckpoint, VerifierKey, check_consistency, check_inclusion, consistency_proof,
        empty_root, fold_subtree, inclusion_proof, leaf, origin_of, root_at,
    },
    terms::{Actor, Digest, Reason, Timestamp},
};

fn digest(hex: &str) -> Digest {
    format!("sha256:{hex}").parse().unwrap()
}

fn actual() -> ChainName {
    ChainName::new("service/actual").unwrap()
}

fn fixed_records() -> Vec<(i64, Vec<u8>)> {
    vec![
        (1_700_000_000_000, br#"{"kind":"opened"}"#.to_vec()),
        (1_700_000_000_001, Vec::new()),
        (-1, (0..=255).collect()),
    ]
}

const LINKS: [&str; 3] = [
    "ba1787bd0d5830c620363bcf89036942881f52473d88e9c35cb81e4c812a0535",
    "dcde8bfe9934ec4850a64a30be07f81707f22f42e7efcc34304f1355326c5c5b",
    "4cfd781b7a1c3d86d28d9f743237255b5f9369aa1871a4f439b1914018a569d3",
];
const ROOT: &str = "9f14491eca252b0154125f49a97c4f5d97e3626267773e1f1e9a4963f0ba01d6";
const SEED: [u8; 32] = {
    let mut seed = [0; 32];
    let mut at = 0;
    while at < 32 {
        seed[at] = at as u8;
        at += 1;
    }
    seed
};
const INSTALLATION: &str = "lastgood/4be1d06f93a7c521";
const VKEY: &str = "lastgood/4be1d06f93a7c521+57b4fbc8+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const CHECKPOINT: &str = concat!(
    "lastgood/4be1d06f93a7c521/service/actual\n",
    "3\n",
    "nxRJHsolKwFUEl9JqXxPXZfjYmJndz4fHppJY/C6AdY=\n",
    "lastgood-link TP14G3ocPYbSjZ90MjclW1+TaaoYcaT0ObGRQBiladM=\n",
    "\n",
    "\u{2014} lastgood/4be1d06f93a7c521/service/actual 7o3H4iQs8LzensDRtvy133BLPK53AqJq7E+v2/vVymv4QIgIztbHEkWImtjz8Hix1lzsjW9bdrtO0zX4cCcPbGOV9QI=\n",
);

#[test]
fn links_and_root_of_fixed_records_never_change() {
    let id = ChainId::of(&actual());
    let (mut head, mut frontier) = (Head::EMPTY, Frontier::default());
    for ((at, bytes), link) in fixed_records().iter().zip(LINKS) {
        head = head.then(&id, Timestamp(*at), &leaf(bytes));
        frontier.append(leaf(bytes));
        assert_eq!(head.link, digest(link));
    }
    assert_eq!(frontier.root(), digest(ROOT));
    assert_eq!(
        leaf(br#"{"kind":"opened"}"#),
        digest("9e1a11b721264fb1b3a97bc3a9e1965592bd2aa4ecad367b45e1c1e9fafaaf4e")
    );
}

#[test]
fn a_signed_checkpoint_of_fixed_records_never_changes() {
    let key = NoteKey::from_seed(INSTALLATION, &SEED).unwrap();
    assert_eq!(key.verifier().to_string(), VKEY);
    let head = Head { size: 3, link: digest(LINKS[2]) };
    let checkpoint = Checkpoint { origin: origin_of(INSTALLATION, &actual()), head, root: digest(ROOT) };
    assert_eq!(checkpoint.clone().sign(&key).unwrap().note(), CHECKPOINT);
    let opened = SignedCheckpoint::open(CHECKPOINT, &VKEY.parse().unwrap()).unwrap();
    assert_eq!(*opened.checkpoint(), checkpoint);
}

#[test]
fn published_signed_note_is_read_and_made_as_others_do() {
    let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    let note = format!(
        "{text}\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    );
    let key: VerifierKey = vkey.parse().unwrap();
    assert_eq!(key.to_string(), vkey);
    assert_eq!(key.verify(&Note::parse(&note).unwrap()), Ok(()));
    let edited = note.replace("your problem is", "your problem was");
    assert!(matches!(key.verify(&Note::parse(&edited).unwrap()), Err(NoteError::BadSignature { .. })));
}

#[test]
fn published_roots_of_the_eight_leaf_log_are_ours_too() {
    let inputs: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    assert_eq!(empty_root(), digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    let mut frontier = Frontier::default();
    let mut leaves = Vec::new();
    for (input, root) in inputs.iter().zip(roots) {
        leaves.push(leaf(input));
        frontier.append(leaf(input));
        assert_eq!(frontier.root(), digest(root), "at {} leaves", leaves.len());
        assert_eq!(root_at(leaves.as_slice(), leaves.len() as u64), Ok(digest(root)));
    }
    // The audit path of the first of eight leaves, as published with the same log.
    let path: Vec<_> = inclusion_proof(leaves.as_slice(), 0, 8).unwrap();
    let published = [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ];
    assert_eq!(path, published.map(digest));
}

#[test]
fn every_proof_of_every_small_tree_holds_and_no_other_does() {
    let leaves: Vec<_> = (0u8..40).map(|byte| leaf(&[byte])).collect();
    let tree = leaves.as_slice();
    for size in 1..=40u64 {
        let root = root_at(tree, size).unwrap();
        for index in 0..size {
            let proof = inclusion_proof(tree, index, size).unwrap();
            assert_eq!(check_inclusion(&leaves[index as usize], index, size, &proof, &root), Ok(()));
            let wrong_leaf = leaves[(index as usize + 1) % 40];
            assert!(check_inclusion(&wrong_leaf, index, size, &proof, &root).is_err());
            assert!(
                check_inclusion(&leaves[index as usize], index, size, &[&proof[..], &[root]].concat(), &root).is_err()
            );
            if let Some((_, shorter)) = proof.split_last() {
                assert!(check_inclusion(&leaves[index as usize], index, size, shorter, &root).is_err());
            }
            for other in (0..size).filter(|other| *other != index) {
                assert!(check_inclusion(&leaves[index as usize], other, size, &proof, &root).is_err());
            }
        }
        for old in 0..=size {
            let old_root = root_at(tree, old).unwrap();
            let proof = consistency_proof(tree, old, size).unwrap();
            assert_eq!(check_consistency((old, &old_root), (size, &root), &proof), Ok(()), "{old} to {size}");
            let other_root = leaf(b"other");
            assert!(check_consistency((old, &other_root), (size, &root), &proof).is_err(), "{old} to {size}");
            if old > 0 {
                assert!(check_consistency((old, &old_root), (size, &other_root), &proof).is_err());
                assert!(check_consistency((old, &old_root), (size, &root), &[&proof[..], &[root]].concat()).is_err());
            }
        }
    }
}

#[test]
fn one_record_of_a_million_is_proved_with_640_bytes() {
    let leaves: Vec<_> = (0u32..1_000_000).map(|number| leaf(&number.to_be_bytes())).collect();
    let tree = leaves.as_slice();
    let root = root_at(tree, 1_000_000).unwrap();
    let proof = inclusion_proof(tree, 123_456, 1_000_000).unwrap();
    assert_eq!(proof.len() * 32, 640);
    assert_eq!(check_inclusion(&leaves[123_456], 123_456, 1_000_000, &proof, &root), Ok(()));
    let half = root_at(tree, 500_001).unwrap();
    let proof = consistency_proof(tree, 500_001, 1_000_000).unwrap();
    assert!(proof.len() * 32 <= 672, "{} bytes", proof.len() * 32);
    assert_eq!(check_consistency((500_001, &half), (1_000_000, &root), &proof), Ok(()));
}

#[test]
fn a_payload_a_leaf_and_a_link_that_were_edited_are_told_apart() {
    let id = ChainId::of(&actual());
    let good = Head::EMPTY.then(&id, Timestamp(7), &leaf(b"a"));
    let view = RecordView { seq: 0, at: Timestamp(7), bytes: b"a", leaf: Some(leaf(b"a")), link: good.link };
    let said = |view: RecordView<'_>| ChainCheck::new(&actual()).next(&view).map_err(|broken| broken.to_string());
    assert_eq!(said(view), Ok(leaf(b"a")));
    assert!(said(RecordView { bytes: b"b", ..view }).unwrap_err().starts_with("the payload of record 0"));
    assert!(said(RecordView { leaf: Some(leaf(b"b")), ..view }).unwrap_err().starts_with("the leaf of record 0"));
    assert!(said(RecordView { link: leaf(b"b"), ..view }).unwrap_err().starts_with("the link of record 0"));
    assert!(said(RecordView { at: Timestamp(8), ..view }).unwrap_err().starts_with("the link of record 0"));
    assert!(said(RecordView { seq: 1, ..view }).unwrap_err().starts_with("record 0 is missing"));
    let other = ChainName::new("service/other").unwrap();
    assert!(ChainCheck::new(&other).next(&view).is_err(), "a record moved to another chain");
}

#[test]
fn records_checked_two_at_a_time_are_judged_as_one_by_one() {
    let name = actual();
    let id = ChainId::of(&name);
    let payloads: Vec<Vec<u8>> = (0..9usize).map(|number| vec![number as u8; number * 23]).collect();
    let mut head = Head::EMPTY;
    let stored: Vec<_> = (0i64..)
        .zip(&payloads)
        .map(|(at, bytes)| {
            let leaf = leaf(bytes);
            head = head.then(&id, Timestamp(at), &leaf);
            RecordView { seq: head.size - 1, at: Timestamp(at), bytes, leaf: Some(leaf), link: head.link }
        })
        .collect();
    let judge = |records: &[RecordView<'_>]| {
        let (mut one_by_one, mut in_pairs) = (ChainCheck::new(&name), ChainCheck::new(&name));
        let (mut wanted, mut leaves) = (Vec::new(), Vec::new());
        let verdict = records.iter().try_for_each(|record| one_by_one.next(record).map(|leaf| wanted.push(leaf)));
        assert_eq!(in_pairs.next_all(records.iter().copied(), &mut leaves), verdict);
        assert_eq!((&leaves, in_pairs.head()), (&wanted, one_by_one.head()));
        verdict.map_err(|broken| broken.seq())
    };
    assert_eq!(judge(&stored), Ok(()));
    assert_eq!(judge(&stored[..8]), Ok(()));
    for bad in 0..stored.len() {
        let edits: [fn(&mut RecordView<'_>); 5] = [
            |record| record.at.0 += 1,
            |record| record.bytes = b"forged",
            |record| record.leaf = Some(leaf(b"forged")),
            |record| record.link = leaf(b"forged"),
            |record| record.seq += 1,
        ];
        for edit in edits {
            let mut records = stored.clone();
            edit(&mut records[bad]);
            assert_eq!(judge(&records), Err(bad as u64));
        }
    }
}

#[test]
fn a_frontier_that_takes_whole_subtrees_is_that_of_the_leaves() {
    let leaves: Vec<Digest> = (0..700u32).map(|number| leaf(&number.to_be_bytes())).collect();
    let (mut plain, mut told_plain) = (Frontier::default(), Vec::new());
    for leaf in &leaves {
        plain.append_telling(*leaf, |level, number, root| told_plain.push((level, number, root)));
    }
    let (mut whole, mut told_whole) = (Frontier::default(), Vec::new());
    let (groups, rest) = leaves.as_chunks::<64>();
    for group in groups {
        let root = fold_subtree(group.to_vec()).unwrap();
        assert!(whole.append_subtree(6, root, |level, number, root| told_whole.push((level, number, root))));
    }
    for leaf in rest {
        whole.append(*leaf);
    }
    assert!(!whole.append_subtree(6, leaves[0], |_, _, _| panic!("it does not fit")));
    assert_eq!(whole, plain);
    told_plain.retain(|(level, ..)| *level >= 6);
    assert_eq!(told_whole, told_plain);
}

#[test]
fn hostile_notes_are_refused_within_limits() {
    let key = NoteKey::from_seed("a", &SEED).unwrap();
    let good = key.sign("text\n").unwrap();
    let line = good.lines().last().unwrap();
    let sixteen = format!("text\n\n{}", format!("{line}\n").repeat(16));
    assert!(key.verifier().verify(&Note::parse(&sixteen).unwrap()).is_ok());
    for bad in [
        "".into(),
        "text\n".into(),
        format!("text\n{line}\n"),
        format!("text\n\n{line}"),
        format!("te\rxt\n\n{line}\n"),
        format!("text\n\n{line}\n{}\n", line.replace('\u{2014}', "-")),
        format!("text\n\n{}", format!("{line}\n").repeat(17)),
        format!("{}\n\n{line}\n", "x".repeat(128 * 1024)),
        "text\n\n\u{2014} a AAAA\n".into(),
        "text\n\n\u{2014} a+b AAAAAAAA\n".into(),
    ] {
        assert!(Note::parse(&bad).is_err(), "{:.60?} was accepted", bad);
    }
    // One bad line by the same key spoils the note, an unknown signer does not.
    let elsewhere = key.sign("another text\n").unwrap();
    let spoiled = format!("text\n\n{line}\n{}\n", elsewhere.lines().last().unwrap());
    assert!(key.verifier().verify(&Note::parse(&spoiled).unwrap()).is_err());
    let other = NoteKey::from_seed("b", &[9; 32]).unwrap().sign("text\n").unwrap();
    let both = format!("text\n\n{}\n{line}\n", other.lines().last().unwrap());
    assert!(key.verifier().verify(&Note::parse(&both).unwrap()).is_ok());
}

#[test]
fn keys_that_are_damaged_or_weak_are_refused() {
    for bad in [
        "",
        "a+b",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumanx+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "weak+00000000+AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert!(bad.parse::<VerifierKey>().is_err(), "{bad:?} was accepted");
    }
    let shown = format!("{:?}", NoteKey::from_seed("a", &SEED).unwrap());
    assert!(!shown.contains("000102") && !shown.contains("AAEC"), "{shown}");
}

#[test]
fn a_checkpoint_holds_only_under_its_own_installation_and_chain() {
    let vkey: VerifierKey = VKEY.parse().unwrap();
    let of = |name: &str| vkey.named(name).unwrap();
    assert!(SignedCheckpoint::open(CHECKPOINT, &vkey).is_ok());
    assert!(SignedCheckpoint::open(CHECKPOINT, &of("lastgood/4be1d06f93a7c521/service/actual")).is_ok());
    for other in
        ["lastgood/4be1d06f93a7c521/service/other", "lastgood/4be1", "lastgood/4be1d06f93a7c521/service/actual/x"]
    {
        assert!(SignedCheckpoint::open(CHECKPOINT, &of(other)).is_err(), "{other}");
    }
    let stranger = NoteKey::from_seed(INSTALLATION, &[1; 32]).unwrap().verifier();
    assert!(SignedCheckpoint::open(CHECKPOINT, &stranger).is_err());
    for at in 0..CHECKPOINT.len() {
        let mut bytes = CHECKPOINT.as_bytes().to_vec();
        bytes[at] ^= 1;
        let holds = String::from_utf8(bytes).is_ok_and(|note| SignedCheckpoint::open(&note, &vkey).is_ok());
        assert!(!holds, "byte {at} was edited and nobody saw it");
    }
}

#[test]
fn a_corrective_entry_holds_only_as_it_was_signed() {
    let key = NoteKey::from_seed("lastgood/4be1d06f93a7c521/service/actual", &SEED).unwrap();
    let who = (Actor::new("person:alice").unwrap(), Reason::new("disk restored").unwrap(), Timestamp(5));
    let entry = RewindAcknowledged::sign(&key, who, Head::EMPTY, Some(CHECKPOINT.into())).unwrap();
    assert_eq!(entry.check(&key.verifier()), Ok(()));
    assert_eq!(entry.abandoned_size(), Some(3));
    let edited = RewindAcknowledged { reason: Reason::new("disk stolen").unwrap(), ..entry.clone() };
    assert!(edited.check(&key.verifier()).is_err());
    let edited = RewindAcknowledged { abandoned: None, ..entry };
    assert!(edited.check(&key.verifier()).is_err());
}
