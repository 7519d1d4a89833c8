//! Where people may be sent: forward only on what was proven, back only to who is up.

use super::{Around, PROVEN_ABOVE, Said, Shifts, TRIES, YES_LASTS};
use lastgood_domain::{
    event::Verdict,
    terms::{Digest, InstanceName, Timestamp},
    traffic::{Route, Share},
};

impl Shifts {
    pub(super) fn route_forward(&self, route: &Route, around: &Around<'_>, wrong: &mut Vec<String>) {
        let Some(moving) = self.moving else { return wrong.push("people were to be moved without a plan".into()) };
        if around.held {
            wrong.push("people were to be moved forward under a hold".into());
        }
        if around.rejected.contains(&moving) {
            wrong.push("people were to be sent to a rejected release".into());
        }
        let on_trial =
            self.route.as_ref().and_then(|route| route.candidate.as_ref()).is_some_and(|side| side.release == moving);
        let before = if on_trial { self.share() } else { Share::NONE };
        self.are_proven(around, wrong);
        let first = self.serving().is_none();
        if !first && before > Share::NONE {
            self.may_grow(before, around, wrong);
        }
        let Some(candidate) = &route.candidate else {
            // A promotion.
            let serves = route.last_good.as_ref();
            if serves.is_none_or(|side| side.release != moving) || route.share != Share::NONE {
                wrong.push("a promotion sends people elsewhere".into());
            }
            if !first && before != Share::ALL {
                wrong.push(format!("promoted at {before}"));
            }
            let leaves = |release: Digest| route.leaving.iter().any(|one| one.side.release == release);
            if self.serving().is_some_and(|release| !leaves(release)) {
                wrong.push("a promotion forgets who is left".into());
            }
            if first {
                self.all_are_up(&moving, serves.map(|side| &side.instances[..]).unwrap_or_default(), wrong);
            }
            return;
        };
        self.all_are_up(&moving, &candidate.instances, wrong);
        let steps: Vec<Share> = self.traffic.iter().flat_map(|traffic| &traffic.steps).map(|step| step.share).collect();
        if steps.iter().find(|share| **share > before) != Some(&route.share) {
            wrong.push(format!("after {before} came {}", route.share));
        }
        if candidate.release != moving || route.last_good.as_ref().map(|side| side.release) != self.serving() {
            wrong.push("a share was ordered for something else than the plan's release".into());
        }
        if on_trial && self.route.as_ref().is_some_and(|before| before.salt != route.salt) {
            wrong.push("people are seated anew in the middle of a rollout".into());
        }
        let asks = self.traffic.as_ref().is_some_and(|traffic| traffic.resume);
        if route.share > PROVEN_ABOVE && asks && !self.resumed {
            wrong.push(format!("{} before it was proven that sessions can be resumed", route.share));
        }
    }

    /// Each required gate has said yes about this share: asked after its bake time, and not long ago.
    fn are_proven(&self, around: &Around<'_>, wrong: &mut Vec<String>) {
        let since = self.stage.as_ref().map(|stage| stage.until);
        for gate in &self.required {
            match self.gates.get(gate) {
                Some((asked, Some(Said::Yes))) if since.is_none_or(|since| *asked >= since) => {
                    if around.at.since(*asked) > YES_LASTS {
                        wrong.push(format!("a share was given on a yes of the gate {gate} from {asked:?}"));
                    }
                }
                said => wrong.push(format!("a share was given, and the gate {gate} said {said:?}")),
            }
        }
    }

    pub(super) fn refused(&self) -> bool {
        self.gates.values().any(|(_, said)| *said == Some(Said::No))
    }

    pub(super) fn answered_all(&self) -> bool {
        !self.gates.is_empty() && self.gates.values().all(|(_, said)| said.is_some())
    }

    /// A share grows on a healthy verdict about itself, by a guard of this driver, after its bake time.
    fn may_grow(&self, before: Share, around: &Around<'_>, wrong: &mut Vec<String>) {
        let Some(stage) = self.stage.as_ref().filter(|stage| stage.share == before) else {
            return wrong.push(format!("{before} grew before it was watched"));
        };
        if around.at < stage.until {
            wrong.push(format!("{before} grew before its bake time was over"));
        }
        if stage.said != Some((Verdict::Pass, around.machine.crashes)) {
            wrong.push(format!("{before} grew on {:?}", stage.said));
        }
    }

    fn all_are_up(&self, release: &Digest, instances: &[InstanceName], wrong: &mut Vec<String>) {
        let sides = self.traffic.as_ref().map(|traffic| &traffic.sides);
        let whole = sides.is_some_and(|sides| sides.iter().any(|side| side.iter().eq(instances)));
        if !whole {
            wrong.push(format!("people were to be sent to a part of a side: {instances:?}"));
        }
        for name in instances {
            let ready = self.runs.get(name).is_some_and(|runs| runs.release == *release && runs.probed && !runs.dead);
            if !ready {
                wrong.push(format!("people were to be sent to {name}, which has not passed its probe"));
            }
        }
    }

    pub(super) fn route_back(&self, route: &Route, at: Timestamp, wrong: &mut Vec<String>) {
        let Some(back) = &self.back else { return };
        if route.candidate.is_some() || route.share != Share::NONE {
            wrong.push("a way back keeps a share".into());
        }
        if route.last_good.as_ref().map(|side| side.release) != back.to {
            wrong.push("a way back leads elsewhere than it says".into());
        }
        if route.last_good.as_ref().is_some_and(|side| side.release == back.left) {
            wrong.push("a way back sends people to what it leaves".into());
        }
        let had = self.runs.values().any(|runs| runs.release == back.left);
        if had && !route.leaving.iter().any(|one| one.side.release == back.left) {
            wrong.push("a way back forgets what it leaves".into());
        }
        let waits = back.waits.is_some_and(|(since, until)| since <= at && at < until);
        for (name, (failed, up)) in &back.raise {
            if back.to.is_some() && waits && !up && *failed < TRIES {
                wrong.push(format!("people go back before {name} is up"));
            }
        }
        let Some(side) = &route.last_good else { return };
        let up = |name: &InstanceName| {
            self.runs.get(name).is_some_and(|runs| runs.release == side.release && runs.started && !runs.dead)
        };
        if !side.instances.iter().any(up) {
            wrong.push("people go back to a release of which nothing is up".into());
        }
    }
}
