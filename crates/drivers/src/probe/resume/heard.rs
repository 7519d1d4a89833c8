//! What one client has heard: every message of this gate, how often, and in which order.

use std::collections::BTreeMap;

/// Deliveries of one client over all its connections.
#[derive(Debug)]
pub(super) struct Heard {
    /// What ids of this gate begin with.
    prefix: String,
    /// How often each id came.
    counts: BTreeMap<String, u32>,
    /// The highest number of each sender so far.
    newest: BTreeMap<u32, u32>,
    pub(super) disordered: Vec<String>,
}

impl Heard {
    /// Begins to count for a gate.
    pub(super) fn of(run: &str) -> Self {
        Self { prefix: format!("{run}-"), counts: BTreeMap::new(), newest: BTreeMap::new(), disordered: Vec::new() }
    }

    /// Counts one delivery; those of others don't matter.
    pub(super) fn note(&mut self, id: &str) {
        let Some((sender, number)) = self.parts(id) else { return };
        let count = self.counts.entry(id.to_owned()).or_default();
        *count += 1;
        let newest = self.newest.entry(sender).or_default();
        if *count == 1 && number < *newest {
            self.disordered.push(id.to_owned());
        }
        *newest = number.max(*newest);
    }

    fn parts(&self, id: &str) -> Option<(u32, u32)> {
        let (sender, number) = id.strip_prefix(&self.prefix)?.split_once('-')?;
        Some((sender.parse().ok()?, number.parse().ok()?))
    }

    /// Tells whether all of them came.
    pub(super) fn has_all(&self, ids: &[String]) -> bool {
        // From the end: what was sent last is what is usually awaited.
        ids.iter().rev().all(|id| self.counts.contains_key(id))
    }

    /// Gives those that did not come, in the order of `ids`.
    pub(super) fn missing(&self, ids: &[String]) -> Vec<String> {
        ids.iter().filter(|id| !self.counts.contains_key(*id)).cloned().collect()
    }

    /// Gives those that came more than once.
    pub(super) fn doubled(&self) -> Vec<String> {
        self.counts.iter().filter(|(_, count)| **count > 1).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_doubled_or_late_is_told_apart_and_others_messages_do_not_count() {
        let mut heard = Heard::of("run");
        for id in ["run-1-1", "other-1-1", "run-1-3", "run-1-3", "run-2-1", "run-1-2", "run-x-9", "hello", "run-1-1"] {
            heard.note(id);
        }
        let ids: Vec<String> = ["run-1-1", "run-1-2", "run-1-3", "run-1-4", "run-2-1"].map(Into::into).into();
        assert!(!heard.has_all(&ids));
        assert_eq!(heard.missing(&ids), ["run-1-4"]);
        assert_eq!(heard.doubled(), ["run-1-1", "run-1-3"]);
        // The second 1 is a repetition, and counted as that only.
        assert_eq!(heard.disordered, ["run-1-2"]);
    }
}
