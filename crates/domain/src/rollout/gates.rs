//! From the beginning of a run to a candidate that is installed and allowed.

use super::{Checked, Deciding, IllegalStep, lanes, passing, rehearsal, required, returning, traffic};
use crate::{
    effect::{Answer, Effect},
    event::{Aim, End, Event, Gate, Settings, Verdict},
    facts::{Installation, Offer, Standing},
    failure::{Failure, REPORT},
    provenance::{self, Provenance},
    service::Phase,
    terms::{Digest, Release, ReleaseTag, RunId},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Display;

/// The code of what ends a run whose plan is no longer the one that was looked at.
pub const PLAN_MOVED: &str = "plan-moved";

pub(super) fn begin(
    deciding: &mut Deciding,
    aim: Aim,
    settings: Settings,
    frozen: Option<String>,
    preflight: Option<Checked>,
) -> Result<(), IllegalStep> {
    let taken_over = returning::taken_over(deciding);
    let traffic_found = traffic::returning::found(deciding);
    if let Some(run) = &deciding.service.run {
        let id = run.id;
        // Only a way back may take over: it is open from every state.
        if !matches!(aim, Aim::Back { .. }) {
            return Err(IllegalStep::RunUnderWay(id));
        }
        deciding.say(Event::RunEnded { run: id, end: End::Superseded });
    }
    let run = RunId(deciding.service.next.run);
    deciding.say(Event::RunStarted { run, aim: aim.clone(), settings });
    match aim {
        Aim::Back { to, instances, reason, .. } if traffic::moves_so(deciding) => {
            traffic::returning::asked(deciding, to, &instances, reason, traffic_found)
        }
        Aim::Cool => {
            traffic::cool(deciding);
            Ok(())
        }
        Aim::Back { to, instances, reason, .. } => returning::asked(deciding, to, &instances, reason, taken_over),
        // A dry run changes nothing, so no hold stands in its way.
        Aim::DryRun => {
            check(deciding, None);
            Ok(())
        }
        Aim::Track | Aim::Drain => {
            if let Some(failure) = traffic::strangers(deciding) {
                deciding.stop(failure);
                return Ok(());
            }
            match lanes::begin(deciding, frozen) {
                Err(because) => hold_back(deciding, because),
                Ok(lane) => match traffic::unfinished(deciding) {
                    Some(because) => hold_back(deciding, because),
                    None if !ready(deciding, preflight) => {}
                    None if aim == Aim::Drain => drain(deciding),
                    None => check(deciding, lane),
                },
            }
            Ok(())
        }
    }
}

/// Writes down what was seen before the move; ends the run if that is no yes. Nothing is rejected: it is no candidate's
/// fault.
fn ready(deciding: &mut Deciding, preflight: Option<Checked>) -> bool {
    let Some(Checked { verdict, because }) = preflight else { return true };
    match verdict {
        Verdict::Pass => gate(deciding, Gate::Preflight, verdict, because),
        Verdict::CannotTell => {
            gate(deciding, Gate::Preflight, verdict, because.clone());
            deciding.end(End::Unproven { gate: Gate::Preflight, because });
        }
        Verdict::Fail | Verdict::Hold => refuse(deciding, Gate::Preflight, verdict, because),
    }
    verdict == Verdict::Pass
}

/// Goes back to what the service is pinned to, where that ran here; tells whether it does. What is installed needs no
/// channel: neither one that answers nor one that still has it.
fn back_to_pin(deciding: &mut Deciding) -> bool {
    let Some(tag) = deciding.service.pin.as_ref().map(|pin| pin.tag.clone()) else { return false };
    passing::rejection(&deciding.service, &tag).is_none() && returning::pinned(deciding, &tag)
}

/// Takes last-good for the candidate: those left behind follow with the same care.
fn drain(deciding: &mut Deciding) {
    let late = deciding.service.late().next().is_some();
    if late && back_to_pin(deciding) {
        return;
    }
    let service = &deciding.service;
    let known = service.last_good.and_then(|last_good| service.installed.get(&last_good));
    let Some(known) = known else { return deciding.end(End::UpToDate) };
    let Installation { release, .. } = &known.installation;
    let offer =
        Offer { tag: release.tag.clone(), origin: release.origin.clone(), mark: known.mark.clone(), published: None };
    if let Some(pin) = service.pin.as_ref().filter(|pin| pin.tag != release.tag) {
        let because = format!("pinned to {}; last-good is {}", pin.tag, release.tag);
        return refuse(deciding, Gate::Pin, Verdict::Hold, because);
    }
    if !is_behind(deciding, release.digest) {
        return deciding.end(End::UpToDate);
    }
    deciding.say(Event::CandidateChosen { offer: offer.clone() });
    deciding.order(Effect::Install { offer });
}

/// Ends a run that a hold lets nothing do.
fn hold_back(deciding: &mut Deciding, because: String) {
    gate(deciding, Gate::Hold, Verdict::Hold, because.clone());
    deciding.end(End::Held { because, moved: Vec::new(), went_back: false });
}

/// Asks the channel: for what it is pinned to, or for the one release that may pass the holds, or for the newest.
fn check(deciding: &mut Deciding, lane: Option<ReleaseTag>) {
    if let Some(pin) = &deciding.service.pin
        && let Some(failure) = moved_on(deciding, &pin.tag)
    {
        return deciding.stop(failure);
    }
    if back_to_pin(deciding) {
        return;
    }
    let tag = deciding.service.pin.as_ref().map(|pin| pin.tag.clone()).or(lane);
    deciding.order(Effect::Check { tag, except: Vec::new() });
}

/// Notes what holds forward moves and stands nowhere in the log, and that it does so no longer.
pub(super) fn looked(deciding: &mut Deciding, because: Option<String>) {
    let Some(run) = deciding.service.run.as_ref().filter(|run| run.phase.moves_forward()) else { return };
    match because {
        because if because == run.held => {}
        Some(because) => gate(deciding, Gate::Hold, Verdict::Hold, because),
        None => gate(deciding, Gate::Hold, Verdict::Pass, "what held it is gone".into()),
    }
}

/// Says what stands against every forward move now, if anything does.
pub(super) fn holding(deciding: &Deciding, frozen: Option<String>) -> Option<String> {
    let seen = || deciding.service.run.as_ref().and_then(|run| run.held.clone());
    if let Some(frozen) = frozen.or_else(seen) {
        return Some(frozen);
    }
    let mut holds =
        deciding.service.standing_holds(deciding.now).filter(|(id, hold)| !lanes::passes(deciding, **id, hold));
    holds.next().map(|(id, hold)| format!("{} by {}: {}", hold.called(*id), hold.owner, hold.reason))
}

pub(super) fn gate(deciding: &mut Deciding, gate: Gate, verdict: Verdict, because: String) {
    deciding.say(Event::Gated { gate, verdict, because });
}

pub(super) fn refuse(deciding: &mut Deciding, which: Gate, verdict: Verdict, because: String) {
    gate(deciding, which, verdict, because.clone());
    deciding.end(End::Refused { gate: which, because });
}

pub(super) fn checked(deciding: &mut Deciding, effect: Effect, answer: Answer) {
    let Effect::Check { except, .. } = effect else { return };
    let (offer, standing, foreign) = match answer {
        Answer::Offered { offer, standing, foreign } => (offer, standing, foreign),
        Answer::NothingElse if !except.is_empty() => {
            return passing::nothing_newer(deciding, &except, "the channel offers nothing else");
        }
        Answer::Failed { failure } | Answer::Hindered { failure } => return deciding.stop(failure),
        _ => return deciding.stop(unexpected("check")),
    };
    let pinned = deciding.service.pin.is_some();
    if let Some(because) = foreign {
        return refuse(deciding, Gate::Channel, Verdict::Fail, because);
    }
    if passing::pass_over(deciding, except, &offer, standing) {
        return;
    }
    if let Some(because) = changed_mark(deciding, &offer) {
        return refuse(deciding, Gate::Digest, Verdict::Fail, because);
    }
    if pinned {
        // Whatever leads back to it was tried before the channel was asked.
        gate(deciding, Gate::Pin, Verdict::Pass, format!("pinned to {}", offer.tag));
    } else if let Some((verdict, because)) = not_newer(deciding, &offer, standing) {
        return refuse(deciding, Gate::Newer, verdict, because);
    }
    if let Some(because) = lanes::other_tag(deciding, &offer.tag) {
        return hold_back(deciding, because);
    }
    if let Some(digest) = deciding.service.tags.get(&offer.tag) {
        let digest = *digest;
        if deciding.service.last_good == Some(digest) && !is_behind(deciding, digest) && !deciding.is_dry() {
            // What may pass has passed: anything newer is held, and nobody asked the channel for it.
            return match lanes::standing(deciding) {
                Some(because) => hold_back(deciding, because),
                None => deciding.end(End::UpToDate),
            };
        }
    }
    if let Some(failure) = moved_on(deciding, &offer.tag).or_else(|| has_other_bytes(deciding, &offer)) {
        return deciding.stop(failure);
    }
    // After what goes back or stays where it is, and not in the way of a dry run: only a forward move is refused.
    if !deciding.is_dry()
        && let Some(because) = deciding.service.analysis.as_ref().and_then(|owed| owed.blocks(&offer.tag, deciding.now))
    {
        return refuse(deciding, Gate::Rca, Verdict::Hold, because);
    }
    deciding.say(Event::CandidateChosen { offer: offer.clone() });
    deciding.order(Effect::Install { offer });
}

/// Says that the run would move to another release than the one that whoever asked for it has looked at.
fn moved_on(deciding: &Deciding, tag: &ReleaseTag) -> Option<Failure> {
    let expected = deciding.settings()?.expects.as_ref().filter(|expected| expected.tag != *tag)?;
    Some(other_plan(format!("{} was looked at, and it would be {tag} now; nothing was done", expected.tag)))
}

/// Says that the release which was looked at is of other bytes now, by what the channel told then and tells now.
fn has_other_bytes(deciding: &Deciding, offer: &Offer) -> Option<Failure> {
    let seen = deciding.settings()?.expects.as_ref()?.mark.as_ref()?;
    if offer.mark.as_ref() == Some(seen) {
        return None;
    }
    let now = offer.mark.as_deref().unwrap_or("without a mark");
    Some(other_plan(format!("{} was looked at as {seen}, and is {now} now; nothing was done", offer.tag)))
}

fn other_plan(what: String) -> Failure {
    Failure::new(PLAN_MOVED, what, Some("look again: lastgood plan"))
}

/// Tells whether a configured instance runs something else; one that is no longer configured keeps nobody behind.
fn is_behind(deciding: &Deciding, release: Digest) -> bool {
    if traffic::settings(deciding).is_some() {
        return deciding.service.traffic.last_good().is_none_or(|side| side.release != release);
    }
    deciding.settings().is_some_and(|settings| passing::is_behind(&deciding.service, &settings.instances, release))
}

fn changed_mark(deciding: &Deciding, offer: &Offer) -> Option<String> {
    let (first, now) = (deciding.service.marks.get(&offer.tag)?, offer.mark.as_ref()?);
    (first != now).then(|| moved(&offer.tag, first, now))
}

fn moved(tag: &ReleaseTag, first: &dyn Display, now: &dyn Display) -> String {
    format!("{tag} was {first} and is {now} now under the same tag")
}

fn not_newer(deciding: &Deciding, offer: &Offer, standing: Option<Standing>) -> Option<(Verdict, String)> {
    let last_good = deciding.service.name_of(deciding.service.last_good.as_ref());
    match standing {
        None | Some(Standing::Newer | Standing::Same) => None,
        Some(Standing::Older) => Some((Verdict::Fail, format!("{} is older than last-good {last_good}", offer.tag))),
        Some(Standing::Unordered) => Some((
            Verdict::CannotTell,
            format!("the channel has no order between {} and last-good {last_good}", offer.tag),
        )),
    }
}

pub(super) fn installed(deciding: &mut Deciding, effect: Effect, answer: Answer) {
    match (effect, answer) {
        (Effect::Install { offer }, Answer::Installed { installation, provenance }) => {
            accept_installation(deciding, &offer, &installation, provenance.as_deref());
        }
        (Effect::Install { offer }, Answer::NotAsAnnounced { announced, fetched }) => {
            refuse(deciding, Gate::Digest, Verdict::Fail, moved(&offer.tag, &announced, &fetched));
        }
        (Effect::Verify { .. }, Answer::Verified) => {
            gate(deciding, Gate::WayBack, Verdict::Pass, "last-good's installation is whole".into());
            required::ask(deciding);
        }
        (Effect::AskGate { gate, .. }, answer) => required::answered(deciding, &gate, &answer),
        (Effect::Verify { .. }, Answer::Failed { failure } | Answer::Hindered { failure }) => {
            refuse(deciding, Gate::WayBack, Verdict::Fail, failure.to_string());
        }
        (_, Answer::Failed { failure } | Answer::Hindered { failure }) => deciding.stop(failure),
        _ => deciding.stop(unexpected("install")),
    }
}

fn accept_installation(
    deciding: &mut Deciding,
    offer: &Offer,
    installation: &Installation,
    provenance: Option<&Provenance>,
) {
    let release = &installation.release;
    let bare = |text: &str| text.trim_start_matches('v').to_string();
    if bare(&installation.version) != bare(release.tag.as_str()) {
        let because = format!("{} was asked for, but the program says {}", release.tag, installation.version);
        return refuse(deciding, Gate::Version, Verdict::Fail, because);
    }
    gate(deciding, Gate::Version, Verdict::Pass, installation.version.clone());
    if let Some(first) = deciding.service.tags.get(&offer.tag)
        && *first != release.digest
    {
        let because = moved(&offer.tag, first, &release.digest);
        return refuse(deciding, Gate::Digest, Verdict::Fail, because);
    }
    // What was vouched for must be what was installed, however often the tag moved in between.
    if let Some((announced, looked_at)) = offer.mark.as_ref().zip(provenance.and_then(Provenance::commit))
        && announced != looked_at
    {
        return refuse(deciding, Gate::Digest, Verdict::Fail, moved(&offer.tag, announced, &looked_at));
    }
    if let Some(rejection) = deciding.service.rejected.get(&release.digest) {
        let because = format!("these bytes were rejected as {}: {}", rejection.tag, rejection.reason);
        return refuse(deciding, Gate::Rejected, Verdict::Fail, because);
    }
    gate(deciding, Gate::Digest, Verdict::Pass, release.digest.to_string());
    match lanes::pass(deciding, release) {
        Err(because) => return hold_back(deciding, because),
        Ok(passed) => passed.into_iter().for_each(|because| gate(deciding, Gate::Hold, Verdict::Pass, because)),
    }
    if !comes_from_where_it_must(deciding, release, provenance) {
        return;
    }
    match deciding.service.last_good {
        Some(last_good) if last_good != release.digest => {
            deciding.order(Effect::Verify { release: last_good });
        }
        None => required::ask(deciding),
        // Those left behind follow to what has passed its gates.
        Some(_) => rehearsal::begin(deciding),
    }
}

/// Asks the policy, if there is one; ends the run if it does not say yes. Nothing is rejected: it may say yes later.
fn comes_from_where_it_must(deciding: &mut Deciding, release: &Release, found: Option<&Provenance>) -> bool {
    let run = deciding.service.run.as_ref();
    // Those left behind follow to what this service has promoted itself.
    let policy = run.filter(|run| run.aim != Aim::Drain).map(|run| run.settings.policy.clone()).unwrap_or_default();
    if policy.is_empty() {
        return true;
    }
    let (verdict, because) = provenance::weigh(&policy, release, found);
    match verdict {
        Verdict::Pass => gate(deciding, Gate::Provenance, verdict, because),
        _ => refuse(deciding, Gate::Provenance, verdict, because),
    }
    verdict == Verdict::Pass
}

/// Says why a forward effect of this run may not be ordered now, if something stands in its way.
pub(super) fn blocked(deciding: &Deciding) -> Option<String> {
    if let Some(because) = holding(deciding, None) {
        return Some(because);
    }
    let Some(Phase::Moving { release, .. }) = deciding.phase() else { return None };
    unwanted(deciding, release)
}

/// Says why a release that is on its way may not go on: somebody has rejected it, or pinned the service to another.
pub(super) fn unwanted(deciding: &Deciding, release: &Digest) -> Option<String> {
    let service = &deciding.service;
    if let Some(rejection) = service.rejected.get(release) {
        return Some(format!("{} was rejected by {}: {}", rejection.tag, rejection.by, rejection.reason));
    }
    let pin = service.pin.as_ref()?;
    let is_it = service.tags.get(&pin.tag) == Some(release);
    (!is_it).then(|| format!("pinned to {} by {}: {}", pin.tag, pin.by, pin.reason))
}

/// Makes the failure of a driver that answered something else than it was asked.
pub(super) fn unexpected(what: &str) -> Failure {
    Failure::new("answer-unexpected", format!("the answer to {what} is of another kind"), Some(REPORT))
}
