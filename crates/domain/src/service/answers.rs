//! Folding: what the answer to an order changes.

use super::{Begun, Known, MoveStep, Phase, ReturnStep, Service};
use crate::{
    effect::{Answer, Effect},
    event::GateFacts,
    facts::Offer,
    terms::{OrderId, Timestamp},
};

impl Service {
    pub(super) fn answer(&mut self, order: OrderId, answer: &Answer, at: Timestamp) {
        let Some(run) = &mut self.run else { return };
        let Some(effect) = run.orders.remove(&order) else { return };
        self.answered = effect.instance().cloned();
        self.rehearsed = match &effect {
            Effect::Rehearse { leg, .. } => Some(*leg),
            _ => None,
        };
        if let (Effect::Start { instance, release }, Answer::Started { setup, .. }) = (&effect, answer)
            && let Some(known) = self.instances.get_mut(instance)
        {
            known.begun = setup.map(|setup| Begun { release: *release, setup });
        }
        if let Effect::AskGate { gate, .. } = &effect {
            run.gates.insert(gate.clone(), GateFacts::of(answer));
            return self.gate_answered(at);
        }
        if matches!(run.phase, Phase::Shifting { .. } | Phase::Unshifting { .. } | Phase::Cooling { .. }) {
            return self.traffic_answered(&effect, answer);
        }
        match (effect, answer) {
            (Effect::Check { .. }, Answer::Offered { offer: Offer { tag, mark: Some(mark), .. }, .. }) => {
                self.marks.entry(tag.clone()).or_insert_with(|| mark.clone());
            }
            (Effect::Install { offer }, Answer::Installed { installation, .. }) => {
                let release = &installation.release;
                let first = *self.tags.entry(release.tag.clone()).or_insert(release.digest);
                // A log from before offers were remembered may have seen this tag under another mark first.
                if let Some(mark) = offer.mark.as_ref().filter(|_| first == release.digest) {
                    self.marks.insert(release.tag.clone(), mark.clone());
                }
                let way_back = self.installed.get(&release.digest).and_then(|known| known.way_back);
                let known = Known { installation: installation.clone(), mark: offer.mark, way_back };
                self.installed.insert(release.digest, known);
            }
            (Effect::Snapshot { instance, .. }, Answer::Snapshotted { facts }) => {
                if let Phase::Snapshotting { taken, .. } = &mut run.phase {
                    taken.insert(instance, facts.clone());
                }
            }
            (Effect::Probe { instance, .. }, Answer::ProbePassed { .. }) => {
                if let Phase::Moving { steps, .. } = &mut run.phase
                    && let Some(step @ MoveStep::Probing) = steps.get_mut(&instance)
                {
                    *step = MoveStep::Soaking;
                }
            }
            (Effect::Probe { instance, .. }, Answer::Failed { failure } | Answer::Hindered { failure }) => {
                if let Phase::Moving { steps, baseline_failure, .. } = &mut run.phase
                    && steps.get(&instance) == Some(&MoveStep::Baselining)
                {
                    *baseline_failure = Some(failure.clone());
                }
            }
            (Effect::Stop { .. }, Answer::NotStopped { failure }) => {
                if let Phase::Moving { unstartable, .. } = &mut run.phase {
                    *unstartable = Some(failure.clone());
                }
            }
            (Effect::Restore { instance, snapshot }, Answer::Restored { .. }) => {
                if let Some(known) = self.instances.get_mut(&instance) {
                    known.undo_moves(snapshot);
                }
            }
            (Effect::Restore { instance, .. }, answer) if answer.is_still_held() => {
                if let Phase::Returning { back, .. } = &mut run.phase
                    && let Some((_, step)) = back.get_mut(&instance)
                {
                    step.held(at);
                }
            }
            (Effect::Start { instance, .. }, _) => {
                if let Phase::Returning { back, .. } = &mut run.phase
                    && let Some((_, step)) = back.get_mut(&instance)
                {
                    match step {
                        ReturnStep::Reopening => *step = ReturnStep::Held,
                        ReturnStep::FailedReopening => *step = ReturnStep::Failed,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}
