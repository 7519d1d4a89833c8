//! Looks at instances that were left for later until they have been idle for the whole quiet period.

use super::{Host, Site};
use lastgood_domain::{
    facts::Busyness,
    quiet::Quiet,
    terms::{InstanceName, Span},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

/// What was seen since this process began: a period that began before it starts anew, for nobody looked in between.
#[derive(Debug)]
pub(super) struct Looks {
    began: Instant,
    seen: Mutex<BTreeMap<InstanceName, Quiet>>,
    under_way: AtomicBool,
}

impl Default for Looks {
    fn default() -> Self {
        Self { began: Instant::now(), seen: Mutex::default(), under_way: AtomicBool::new(false) }
    }
}

impl Looks {
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
    /// Looks at some instances, all at once and beside everything else, unless the look before is still under way; what was
    /// seen of others is forgotten.
    pub fn look_for_quiet(&self, names: Vec<InstanceName>) {
        let site = Arc::clone(&self.site);
        if site.looks.under_way.swap(true, Ordering::SeqCst) {
            return;
        }
        site.looks.seen.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name));
        let ends = Ends(Arc::clone(&site));
        // Without a thread nobody looks, and the period starts anew: later is safe.
        let _ = thread::Builder::new().name("quiet".into()).spawn(move || {
            let _ends = ends;
            thread::scope(|scope| {
                for name in &names {
                    let site = &site;
                    scope.spawn(move || {
                        if let Some(answer) = site.busyness(name) {
                            site.heard(name, answer);
                        }
                    });
                }
            });
        });
    }
}

/// Says that a look has ended, however it did.
struct Ends(Arc<Site>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.looks.under_way.store(false, Ordering::SeqCst);
    }
}
