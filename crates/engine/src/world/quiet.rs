//! Looks at instances that were left for later until they have been idle for the whole quiet period.

use super::{Host, Site};
use lastgood_domain::{
    facts::Busyness,
    quiet::Quiet,
    terms::{InstanceName, Span},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

/// What was seen since this process began: a period that began before it starts anew, for nobody looked in between.
#[derive(Debug)]
pub(super) struct Looks {
    began: Instant,
    seen: Mutex<BTreeMap<InstanceName, Quiet>>,
    /// The instances that are being asked: one that does not answer keeps no other from being asked again.
    under_way: Mutex<BTreeSet<InstanceName>>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { began: Instant::now(), seen: Mutex::default(), under_way: Mutex::default() }
    }
}

impl Looks {
    /// Begins a look at an instance; tells whether none was under way.
    fn begin(&self, name: &InstanceName) -> bool {
        self.under_way().insert(name.clone())
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeSet<InstanceName>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Span {
        Span(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl Site {
    /// Gives how long an instance must have been seen idle before a drain moves it; `None` if one idle answer is enough, or
    /// its log tells of the whole time.
    pub fn quiet(&self) -> Option<Span> {
        self.config.busy.as_ref()?.quiet()
    }

    /// Takes in an answer of now, and gives what it means where the quiet period counts.
    pub(super) fn heard(&self, name: &InstanceName, answer: Busyness) -> Busyness {
        let Some(quiet) = self.quiet() else { return answer };
        let now = self.looks.now();
        let mut seen = self.looks.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(name.clone()).or_default().hear(answer, now, quiet)
    }

    /// Tells whether an instance has been seen idle for the whole quiet period; asks nobody.
    pub fn was_quiet(&self, name: &InstanceName) -> bool {
        let Some(quiet) = self.quiet() else { return true };
        let seen = self.looks.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(name).is_some_and(|one| one.is_over(self.looks.now(), quiet))
    }
}

impl Host {
    /// Looks at some instances, all at once and beside everything else, but for those whose look before is still under way;
    /// what was seen of others is forgotten.
    pub fn look_for_quiet(&self, names: &[InstanceName]) {
        let site = &self.site;
        site.looks.seen.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name));
        for name in names.iter().filter(|name| site.looks.begin(name)) {
            let look = Look { site: Arc::clone(site), name: name.clone() };
            // Without a thread nobody looks, and the period starts anew: later is safe.
            let _ = thread::Builder::new().name("quiet".into()).spawn(move || {
                if let Some(answer) = look.site.busyness(&look.name) {
                    look.site.heard(&look.name, answer);
                }
            });
        }
    }
}

/// A look at one instance; it says that it has ended, however it did.
struct Look {
    site: Arc<Site>,
    name: InstanceName,
}

impl Drop for Look {
    fn drop(&mut self) {
        self.site.looks.under_way().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_hangs_keeps_no_other_instance_from_being_looked_at() {
        let looks = Looks::default();
        let [bob, carol] = ["bob", "carol"].map(|name| InstanceName::new(name).unwrap());
        assert!(looks.begin(&bob) && looks.begin(&carol));
        assert!(!looks.begin(&bob), "it is asked once at a time");
        looks.under_way().remove(&carol);
        assert!(!looks.begin(&bob) && looks.begin(&carol));
    }
}
