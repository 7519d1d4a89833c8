//! The pretended guard: it knows how a release really does, says so late, and only when it has seen enough.

use super::{ENOUGH, TOO_MANY};
use crate::machine::Machine;
use lastgood_domain::{
    event::Verdict,
    rollout::Judging,
    service::{Phase, Service},
    terms::{Digest, Span, Timestamp},
    traffic::Share,
};
use lastgood_engine::drive::Happening;

/// Time between two looks, in milliseconds.
const ASK_EVERY: i64 = 4_000;

/// Longest time from a look to the driver, in milliseconds.
const LATE_MAX: u64 = 1_500;

/// What one driver's guard watches; it is gone with its driver.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    duty: Option<(Digest, Share)>,
    leaves: Option<Digest>,
    emptied: Option<Digest>,
    next: i64,
    said: Vec<(i64, Happening)>,
}

impl Guard {
    /// Hears how the service stands.
    pub(crate) fn note(&mut self, service: &Service, watch: Span, now: Timestamp) {
        let traffic = &service.traffic;
        let standby = traffic.standby.as_ref().filter(|one| !one.empty && now < one.until);
        self.leaves = standby.map(|one| one.side.release);
        let route = traffic.route.as_ref().filter(|_| traffic.confirmed);
        self.duty = route.and_then(|route| match service.run.as_ref().map(|run| &run.phase) {
            Some(Phase::Shifting { until: Some(_), .. }) => Some((route.candidate.as_ref()?.release, route.share)),
            Some(_) => None,
            None => {
                let promoted = service.promoted_at.filter(|_| service.previous_good.is_some())?;
                let release = route.last_good.as_ref()?.release;
                (now.since(promoted) < watch && service.last_good == Some(release)).then_some((release, Share::ALL))
            }
        });
    }

    /// Gives when it looks or says something next; never while there is nothing to look at.
    pub(crate) fn next(&self) -> Option<i64> {
        let looks = (self.duty.is_some() || self.leaves.is_some()).then_some(self.next);
        looks.into_iter().chain(self.said.iter().map(|(at, _)| *at)).min()
    }

    /// Looks if it is time to, and gives what has reached the driver.
    pub(crate) fn happenings(&mut self, machine: &mut Machine) -> Vec<Happening> {
        let now = machine.elapsed;
        if self.next <= now {
            self.next = now + ASK_EVERY;
            let late = now + i64::try_from(machine.chance.below(LATE_MAX)).unwrap_or(0);
            if let Some((release, share)) = self.duty {
                let verdict = verdict(machine, release, share);
                let because = format!("the pretended guard says {verdict:?}");
                let judged = Happening::Judged { on: Judging { release, share }, verdict, because };
                self.said.push((late, judged));
            }
            self.look_at_left(machine, late);
        }
        // In the order in which it was seen.
        self.said.sort_by_key(|(at, _)| *at);
        self.said.extract_if(.., |(at, _)| *at <= now).map(|(_, said)| said).collect()
    }

    fn look_at_left(&mut self, machine: &Machine, late: i64) {
        if self.leaves.is_none() {
            self.emptied = None;
        }
        let Some(release) = self.leaves.filter(|release| self.emptied != Some(*release)) else { return };
        if machine.shared.as_ref().and_then(|shared| shared.is_in_use(&release)) == Some(false) {
            self.emptied = Some(release);
            self.said.push((late, Happening::Emptied { release }));
        }
    }
}

/// Judges a stage: a wrong alarm is possible, a healthy verdict on nothing is not.
fn verdict(machine: &mut Machine, release: Digest, share: Share) -> Verdict {
    let (doubts, alarms) = (machine.chance.permille(30), machine.chance.permille(2));
    let (broken, now) = (machine.is_broken(&release), machine.elapsed);
    let Some(shared) = &mut machine.shared else { return Verdict::CannotTell };
    let on_trial = shared.router.trial() == Some((release, share));
    let Some((requests, failures)) = shared.router.counts().filter(|_| on_trial && !doubts) else {
        return Verdict::CannotTell;
    };
    if failures >= TOO_MANY || alarms {
        return Verdict::Fail;
    }
    if requests < ENOUGH || broken {
        return Verdict::CannotTell;
    }
    shared.healthy.push((release, share, now));
    Verdict::Pass
}
