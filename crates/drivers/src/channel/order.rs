//! Which of two releases is newer, by the order of versions that their channel uses.
//!
//! Cannot-tell is never newer: two names without an order between them stay unordered.

use globset::{GlobBuilder, GlobMatcher};
use lastgood_domain::facts::Standing;
use std::{cmp::Ordering, str::FromStr};

/// Words that mark a build made before the release it is named after, oldest kind first.
const PRE_WORDS: [&str; 16] = [
    "dev",
    "snapshot",
    "nightly",
    "daily",
    "canary",
    "edge",
    "experimental",
    "insider",
    "a",
    "alpha",
    "b",
    "beta",
    "preview",
    "next",
    "pre",
    "rc",
];

/// The order of versions a channel uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Semantic versions, as npm reads them.
    Semver,
    /// Python's versions (PEP 440).
    Pep440,
    /// Numbers by size, known pre-release words before the release, all else unordered.
    Natural,
}

impl Order {
    /// Tells how `candidate` stands to `known`.
    pub(crate) fn standing(self, candidate: &str, known: &str) -> Standing {
        if candidate == known {
            return Standing::Same;
        }
        let order = match self {
            Self::Semver => semver_order(candidate, known),
            Self::Pep440 => pep440_order(candidate, known),
            Self::Natural => match semver_order(candidate, known) {
                Some(order) => Some(order),
                None => natural_order(candidate, known),
            },
        };
        match order {
            Some(Ordering::Greater) => Standing::Newer,
            Some(Ordering::Less) => Standing::Older,
            // Equal but not the same text (1.0 and 1.0.0, or another build label): nobody can say which is newer.
            Some(Ordering::Equal) | None => Standing::Unordered,
        }
    }

    /// Tells whether `version` is a build made before its release.
    pub(crate) fn is_pre_release(self, version: &str) -> bool {
        match self {
            Self::Semver => node_semver::Version::parse(version).is_ok_and(|version| version.is_prerelease()),
            Self::Pep440 => pep440_rs::Version::from_str(version).is_ok_and(|version| version.any_prerelease()),
            Self::Natural => match semver::Version::parse(bare(version)) {
                Ok(version) => !version.pre.is_empty(),
                Err(_) => Parts::of(version).is_some_and(|parts| parts.word.is_some_and(is_pre_word)),
            },
        }
    }

    /// Gives the newest of `versions`; the two that have no order if there is no newest.
    pub(crate) fn newest<'v>(self, versions: &[&'v str]) -> Result<Option<&'v str>, (&'v str, &'v str)> {
        let Some(&first) = versions.first() else { return Ok(None) };
        let best = versions
            .iter()
            .copied()
            .fold(first, |best, version| if self.standing(version, best) == Standing::Newer { version } else { best });
        match versions.iter().find(|version| self.standing(best, version) == Standing::Unordered) {
            Some(other) => Err((best, other)),
            None => Ok(Some(best)),
        }
    }
}

fn bare(version: &str) -> &str {
    version.strip_prefix('v').unwrap_or(version)
}

fn semver_order(one: &str, other: &str) -> Option<Ordering> {
    let one = semver::Version::parse(bare(one)).ok()?;
    let other = semver::Version::parse(bare(other)).ok()?;
    Some(one.cmp_precedence(&other))
}

fn pep440_order(one: &str, other: &str) -> Option<Ordering> {
    Some(pep440_rs::Version::from_str(one).ok()?.cmp(&pep440_rs::Version::from_str(other).ok()?))
}

fn is_pre_word(word: &str) -> bool {
    PRE_WORDS.contains(&word.to_ascii_lowercase().as_str())
}

/// A name such as `release-2024.10-rc2` in parts: `release-`, 2024 10, `rc`, 2.
struct Parts<'a> {
    head: &'a str,
    numbers: Vec<u64>,
    word: Option<&'a str>,
    word_numbers: Vec<u64>,
}

impl<'a> Parts<'a> {
    /// Splits `name`; none if it has no number or something after its pre-release word's numbers.
    fn of(name: &'a str) -> Option<Self> {
        let start = name.find(|c: char| c.is_ascii_digit())?;
        let (head, rest) = name.split_at(start);
        let (numbers, rest) = numbers(rest)?;
        let rest = rest.trim_start_matches(['-', '.', '_', '+']);
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        let (word_numbers, rest) = self::numbers(rest.trim_start_matches(['-', '.', '_']))?;
        rest.is_empty().then_some(Self { head, numbers, word: (!word.is_empty()).then_some(word), word_numbers })
    }
}

/// Reads numbers with single separators between them; none if one is too large to be a version.
fn numbers(text: &str) -> Option<(Vec<u64>, &str)> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if end == 0 {
            return Some((found, rest));
        }
        found.push(rest[..end].parse().ok()?);
        rest = &rest[end..];
        match rest.strip_prefix(['.', '-', '_']) {
            Some(more) if more.starts_with(|c: char| c.is_ascii_digit()) => rest = more,
            _ => return Some((found, rest)),
        }
    }
}

fn natural_order(one: &str, other: &str) -> Option<Ordering> {
    let (one, other) = (Parts::of(one)?, Parts::of(other)?);
    if bare_head(one.head) != bare_head(other.head) {
        return None;
    }
    let by_number = padded(&one.numbers, &other.numbers);
    let known = |word: Option<&str>| word.is_none_or(is_pre_word);
    if by_number != Ordering::Equal {
        // An unknown word (a commit's letters, a platform) may mean anything, so it must be the same in both.
        return (known(one.word) && known(other.word) || one.word == other.word).then_some(by_number);
    }
    match (one.word, other.word) {
        (Some(mine), Some(theirs)) if mine == theirs => Some(padded(&one.word_numbers, &other.word_numbers)),
        (Some(mine), Some(theirs)) => Some(rank(mine)?.cmp(&rank(theirs)?)),
        (Some(word), None) => rank(word).map(|_| Ordering::Less),
        (None, Some(word)) => rank(word).map(|_| Ordering::Greater),
        (None, None) => Some(Ordering::Equal),
    }
}

fn bare_head(head: &str) -> &str {
    if head == "v" { "" } else { head }
}

fn rank(word: &str) -> Option<usize> {
    let word = word.to_ascii_lowercase();
    PRE_WORDS.iter().position(|known| *known == word)
}

fn padded(one: &[u64], other: &[u64]) -> Ordering {
    let at = |numbers: &[u64], index: usize| numbers.get(index).copied().unwrap_or(0);
    (0..one.len().max(other.len()))
        .map(|index| at(one, index).cmp(&at(other, index)))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

/// A glob pattern over tags, such as `26.*` or `v*`.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    matcher: GlobMatcher,
    names_pre_releases: bool,
}

impl Pattern {
    /// Reads a pattern.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let matcher = GlobBuilder::new(text)
            .literal_separator(false)
            .build()
            .map_err(|error| format!("{text:?} is not a pattern: {error}; write it like \"26.*\""))?
            .compile_matcher();
        Ok(Self { matcher, names_pre_releases: names_pre_releases(text) })
    }

    /// Tells whether `tag` fits; a pre-release fits only a pattern that names pre-releases.
    pub(crate) fn fits(&self, tag: &str, order: Order) -> bool {
        self.matcher.is_match(tag) && (self.names_pre_releases || !order.is_pre_release(tag))
    }
}

/// Tells whether a pattern asks for pre-releases by itself: a known word, or a label after the number.
fn names_pre_releases(pattern: &str) -> bool {
    let mut words = pattern.split(|c: char| !c.is_ascii_alphabetic());
    let label =
        pattern.as_bytes().windows(2).any(|pair| pair[1] == b'-' && matches!(pair[0], b'0'..=b'9' | b'*' | b'?'));
    label || words.any(is_pre_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(order: Order, rows: &[(&str, &str, Standing)]) {
        for (candidate, known, expected) in rows {
            assert_eq!(order.standing(candidate, known), *expected, "{candidate} against {known}");
        }
    }

    #[test]
    fn semantic_versions_are_ordered_as_npm_orders_them() {
        say(
            Order::Semver,
            &[
                ("26.10.0", "26.9.0", Standing::Newer),
                ("26.9.0", "26.9.0", Standing::Same),
                ("26.9.0-rc.1", "26.9.0", Standing::Older),
                ("26.9.0-rc.10", "26.9.0-rc.9", Standing::Newer),
                ("26.9.0+build.2", "26.9.0+build.1", Standing::Unordered),
                ("latest", "26.9.0", Standing::Unordered),
            ],
        );
    }

    #[test]
    fn python_versions_are_ordered_by_pep_440() {
        say(
            Order::Pep440,
            &[
                ("0.12", "0.9", Standing::Newer),
                ("1.0rc1", "1.0", Standing::Older),
                ("1.0.post1", "1.0", Standing::Newer),
                ("1.0.dev3", "1.0a1", Standing::Older),
                ("2!0.1", "1!9.0", Standing::Newer),
                ("1.0", "1.0.0", Standing::Unordered),
            ],
        );
    }

    #[test]
    fn names_of_folders_and_tags_are_ordered_by_their_numbers_or_not_at_all() {
        say(
            Order::Natural,
            &[
                ("v10", "v9", Standing::Newer),
                ("v1.2.10", "v1.2.9", Standing::Newer),
                ("2024-10-01", "2024-09-30", Standing::Newer),
                ("release-3", "release-12", Standing::Older),
                ("v2.0-rc1", "v2.0", Standing::Older),
                ("v2.0-rc2", "v2.0-beta7", Standing::Newer),
                ("v2.1-beta", "v2.0", Standing::Newer),
                ("v2", "2", Standing::Unordered),
                ("3c4d99", "1a2b00", Standing::Unordered),
                ("release-3", "build-2", Standing::Unordered),
                ("main", "old", Standing::Unordered),
                ("99999999999999999999999", "1", Standing::Unordered),
            ],
        );
    }

    #[test]
    fn the_newest_is_unknown_when_two_have_no_order() {
        assert_eq!(Order::Natural.newest(&["v1", "v3", "v2"]), Ok(Some("v3")));
        assert_eq!(Order::Natural.newest(&["v1", "stable"]), Err(("v1", "stable")));
        assert_eq!(Order::Natural.newest(&[]), Ok(None));
    }

    #[test]
    fn a_pre_release_fits_only_a_pattern_that_names_it() {
        let fits = |pattern: &str, tag: &str| Pattern::new(pattern).unwrap().fits(tag, Order::Natural);
        assert!(fits("v*", "v2.0.0"));
        assert!(!fits("v*", "v2.0.0-rc.1"));
        assert!(!fits("v*", "v2.0-rc1"));
        assert!(fits("v*-rc*", "v2.0.0-rc.1"));
        assert!(fits("26.*-*", "26.1.0-nightly.4"));
        assert!(fits("nightly-*", "nightly-2024-10-01"));
        assert!(!fits("26.*", "260.1.0"));
        assert!(Pattern::new("[").is_err());
    }
}
