//! `lastgood plan`: what would happen now, and why; nothing is changed.

use super::{Ended, expect, rollback};
use crate::{app::App, drive, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    self as domain,
    effect::Answer,
    event::{Aim, End, Expected, Gate, Verdict},
    facts::{Offer, Standing},
    failure::Failure,
    rollout::{self, Begin, Checked, Foreseen, Next},
    service::Service,
    terms::{Digest, InstanceName, Release, ReleaseTag, ServiceName},
    words,
};
use lastgood_drivers::channel::{self, ChannelError};
use lastgood_engine::{
    config::ServiceConfig,
    doctor,
    letter::rfc3339,
    preflight::{self, Asker},
    provenance, setup,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Show what a run would do now, and why; change nothing.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The service [default: all].
    service: Option<String>,
}

/// One line of a plan: a gate and what it says now.
struct Line {
    gate: &'static str,
    verdict: Verdict,
    because: String,
}

/// What the channel was asked, as the run would ask it.
struct Asked<'a> {
    config: &'a ServiceConfig,
    context: &'a channel::Context,
    last_good: Option<ReleaseTag>,
    /// Each offer, in the order in which it came, and how it stands to last-good.
    offers: Vec<(Offer, Option<Standing>)>,
    failed: Option<ChannelError>,
}

/// What a run would come to, and the release that it would come to it with.
struct Looked {
    offer: Offer,
    standing: Option<Standing>,
    passed: Vec<(ReleaseTag, String)>,
    /// The gates that refuse: the one at which the run would end first.
    refused: Vec<Line>,
    exit: Exit,
    next: Next,
}

/// What a run of one service would come to now.
pub(super) struct Said {
    data: Value,
    text: String,
    exit: Exit,
    /// Digest over all that decides what would happen.
    pub(super) digest: Digest,
    /// The release that it is about.
    pub(super) expected: Expected,
}

impl Plan {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let mut exit = Exit::Done;
        let (mut all, mut text) = (Vec::new(), String::new());
        for service in app.services(self.service.as_deref())? {
            let said = plan(app, &service)?;
            all.push(said.data);
            text += &said.text;
            if exit == Exit::Done {
                exit = said.exit;
            }
        }
        app.screen.show("plan", &all, &text);
        Ok(exit)
    }
}

/// Looks what a run of `service` would do now.
///
/// Errors: the channel does not answer, or the log can't be read.
pub(super) fn plan(app: &App, service: &ServiceName) -> Result<Said, Trouble> {
    let folded = app.look(service)?.service;
    let config = &app.config.service[service];
    // Before anything that may take long: a registry may answer after many seconds.
    let checks = if app.config.preflight.is_empty() { "" } else { "[preflight] and " };
    app.screen.tell(&format!("{service}: asking {checks}{} …", config.channel.name()));
    let preflight = preflight::before_deploy(&app.config, service, &Asker::default());
    let context = channel::Context { folder: app.config.folder.clone(), ..channel::Context::default() };
    let Looked { offer, standing, passed, mut refused, exit, next } =
        look(app, service, &folded, &preflight, &context)?;
    let mut lines = passing(&folded, &offer, standing, &mut refused);
    let goes_back = next == Next::GoesBack;
    // What is installed needs no channel, and no policy is asked about it again.
    lines.retain(|line| !goes_back || line.gate != words::gate_name(Gate::Channel));
    lines.extend(preflight.map(|Checked { verdict, because }| Line::of(Gate::Preflight, verdict, because)));
    if !goes_back {
        lines.extend(provenance_line(config, &folded, &offer, &context)?);
        lines.extend(way_back_line(app, service, &folded, &offer));
    }
    let (in_the_way, notes) = in_the_way(app, service, &folded)?;
    // A way back is started as it was, and looks for itself.
    lines.extend(in_the_way.into_iter().filter(|_| !goes_back));
    for line in &mut lines {
        if let Some(at) = refused.iter().position(|one| one.gate == line.gate) {
            *line = refused.remove(at);
        }
    }
    lines.splice(0..0, refused);
    let last_good = folded.name_of(folded.last_good.as_ref());
    let known = folded.tags.get(&offer.tag);
    let way_back = known
        .and_then(|digest| folded.installed.get(digest))
        .and_then(|known| known.way_back)
        .map_or("not rehearsed yet: the rehearsal decides", |way| way.says());
    let behind: Vec<_> = config
        .instance
        .iter()
        .map(|instance| instance.name.clone())
        .filter(|name| known.is_none() || folded.instances.get(name).and_then(|one| one.release) != known.copied())
        .collect();
    let up_to_date = next == Next::Ends(End::UpToDate);
    let offers = if folded.pin.is_some() { "it is pinned to" } else { "the channel offers" };
    let mut text = format!("{service}  last-good {last_good}, {offers} {}\n", offer.tag);
    let back = goes_back.then(|| rollback::pinned(app, service, &folded)).flatten();
    for (_, because) in &passed {
        text += &format!("  passed over    {}\n", words::one_line(because));
    }
    for Line { gate, verdict, because } in &lines {
        text += &format!("  gate {gate:<9} {:<11} {}\n", words::verdict_name(*verdict), words::one_line(because));
    }
    let apart = setup::apart(&app.config, service, &app.home.service(service), &folded);
    for one in &apart {
        text += &format!("  setup     {}\n", words::one_line(&one.says()));
    }
    if !apart.is_empty() {
        text += &match up_to_date {
            true => format!(
                "  setup     lastgood.toml is taken and rehearsed with the next release; now: lastgood config accept {service} --reason …\n"
            ),
            false => format!("  setup     {} is rehearsed and started with lastgood.toml as it is\n", offer.tag),
        };
    }
    for note in &notes {
        text += &format!("  note      {}\n", words::one_line(note));
    }
    let blocked = lines.iter().find(|line| line.verdict != Verdict::Pass);
    let (verdict, exit) = match (&next, blocked) {
        // Nothing would be moved, so nothing is asked about a release.
        (Next::Ends(End::UpToDate), _) => ("nothing to do: every instance runs it".to_owned(), Exit::Done),
        (_, Some(line)) => {
            let says = words::verdict_name(line.verdict);
            let exit = if exit == Exit::Done { Exit::Refused } else { exit };
            (format!("nothing would move: the {} gate says {says}", line.gate), exit)
        }
        (Next::Ends(end), None) => (format!("nothing would move: {}", words::end_words(end)), exit),
        (Next::GoesBack, None) => {
            for line in back.iter().flatten() {
                text += &format!("  back      {line}\n");
            }
            let shared = config.traffic.is_some();
            let who = if shared { "the traffic".into() } else { words::names(&behind) };
            let busy = if config.busy.is_some() && !shared { "; who is in use follows when idle" } else { "" };
            (format!("the pin takes {who} back to {}, all at once{busy}", offer.tag), Exit::Done)
        }
        (Next::Installs(_), None) => {
            text += &format!("  way back  {way_back}\n");
            text += &asks(config);
            text += "  then      install beside the others; snapshot every instance; rehearse control, candidate, restart, way back\n";
            text += &moves(config, &folded, &behind);
            let who = if config.traffic.is_some() { "the traffic".into() } else { words::names(&behind) };
            (format!("{who} would move to {}", offer.tag), Exit::Done)
        }
    };
    let gates: Vec<_> = lines.iter().map(|line| (line.gate, words::verdict_name(line.verdict))).collect();
    let digest = expect::digest(&json!({
        "format": "lastgood-run/1", "service": service, "last_good": folded.last_good, "pin": folded.pin,
        "tag": offer.tag, "mark": offer.mark, "release": known, "passed": passed, "gates": gates, "moves": behind,
        "goes_back": goes_back, "settings": config.settings(), "setups": apart,
        "instances": folded.instances.iter().map(|(name, one)| {
            (name, one.release, one.history.last().map(|moved| moved.snapshot))
        }).collect::<Vec<_>>(),
    }));
    if exit == Exit::Done && !up_to_date {
        text +=
            &format!("  digest    {}: this and nothing else is lastgood run {service} --expect {0}\n", digest.short());
    }
    text += &format!("{verdict}\n");
    text += &match exit {
        Exit::Done if back.is_some() => format!("leave it where it is: lastgood unpin {service} --reason …\n"),
        Exit::Done if !up_to_date => format!("try it without changing anything: lastgood run {service} --dry-run\n"),
        Exit::Done => format!("see it: lastgood status {service}\n"),
        _ => format!("why: lastgood why {service}\n"),
    };
    let data = json!({
        "service": service, "digest": digest, "last_good": last_good, "offer": offer, "verdict": verdict, "way_back": way_back,
        "passed_over": passed.iter().map(|(tag, because)| json!({ "tag": tag, "because": because })).collect::<Vec<_>>(),
        "moves": behind, "up_to_date": up_to_date, "back": back, "setups": apart, "notes": notes,
        "gates": lines.iter().map(|line| json!({
            "gate": line.gate, "verdict": words::verdict_name(line.verdict), "because": line.because,
        })).collect::<Vec<_>>(),
    });
    Ok(Said { data, text, exit, digest, expected: Expected { tag: offer.tag, mark: offer.mark } })
}

impl Line {
    fn of(gate: Gate, verdict: Verdict, because: String) -> Self {
        Self { gate: words::gate_name(gate), verdict, because }
    }

    /// The gate at which a run would end, if it ends at one.
    fn refusing(foreseen: &Foreseen) -> Option<Self> {
        let Next::Ends(end) = &foreseen.next else { return None };
        match end {
            End::Held { because, .. } => Some(Self::of(Gate::Hold, Verdict::Hold, because.clone())),
            End::Unproven { gate, because } => Some(Self::of(*gate, Verdict::CannotTell, because.clone())),
            End::Refused { gate, because } => {
                let said = foreseen.last_gate.filter(|(last, _)| last == gate);
                Some(Self::of(*gate, said.map_or(Verdict::Fail, |(_, verdict)| verdict), because.clone()))
            }
            _ => None,
        }
    }
}

/// Says which gates would be asked: most of them know nothing of a release before it is installed.
fn asks(config: &ServiceConfig) -> String {
    match config.gates.as_slice() {
        [] => String::new(),
        gates => {
            let names: Vec<String> = gates.iter().map(ToString::to_string).collect();
            format!(
                "  then      ask the gates {} about it; each must say yes before anything is copied\n",
                names.join(", ")
            )
        }
    }
}

/// Says how the release would be reached.
fn moves(config: &ServiceConfig, state: &Service, behind: &[InstanceName]) -> String {
    let Some(traffic) = &config.traffic else {
        let size = config.rollout.wave_size;
        return format!("  then      move {}: one first, then {size} at a time\n", words::names(behind));
    };
    if state.traffic.route.is_none() {
        return "  then      start it; it gets all the traffic once it answers, for there is no other\n".into();
    }
    let shares: Vec<String> =
        traffic.shares.iter().map(|share| format!("{} % for at least {}", share.percent, share.bake.0)).collect();
    let resume = match (&traffic.resume, &traffic.no_resume) {
        (Some(_), _) => "  then      above 25 %, prove that cut sessions are resumed, on it and back on last-good\n",
        (None, Some(_)) => {
            "  then      go above 25 % without a proof that cut sessions are resumed: traffic.no_resume says why\n"
        }
        (None, None) => "  then      go above 25 % only if nobody has a WebSocket: traffic.resume is not set\n",
    };
    let again = match config.gates.as_slice() {
        [] => "",
        _ => {
            "  then      before each share and the promotion, ask those gates again: a fail takes all back, cannot-tell waits\n"
        }
    };
    // Where the counts come from a Prometheus it has them; HAProxy has averages only.
    let untimed = traffic.proxy.is_none() && traffic.guard.prometheus.is_none() && traffic.guard.no_p95.is_none();
    let times = match untimed {
        true => {
            "  then      nobody measures times, so no share grows: name a Prometheus, or set traffic.guard.no_p95 to say why\n"
        }
        false => "",
    };
    format!(
        "  then      start it beside last-good on the same data; give it {}\n{resume}{again}{times}\
         \x20 then      each share grows only on evidence of health; cannot-tell goes back after another {}\n\
         \x20 then      what is left finishes its tunnels within {}, then they are closed with 1012; it stays warm for {}\n",
        shares.join(", "),
        traffic.guard.deadline.0,
        traffic.drain.0,
        traffic.warm.0
    )
}

/// Says what the policy says of the offer, if there is one; what its digest decides only if it is known already.
fn provenance_line(
    config: &ServiceConfig,
    service: &Service,
    offer: &Offer,
    context: &channel::Context,
) -> Result<Option<Line>, Trouble> {
    if config.policy.is_empty() {
        return Ok(None);
    }
    let cannot_tell = |failure| Trouble { exit: Exit::CannotTell, failure };
    let temporary = tempfile::tempdir().map_err(|error| {
        cannot_tell(Failure::new(
            "channel-io",
            format!("no temporary folder: {error}"),
            Some("check space: df -h /tmp"),
        ))
    })?;
    // Marks that are digests are those of the release itself.
    let digest = service.tags.get(&offer.tag).copied().or_else(|| offer.mark.as_deref()?.parse().ok());
    let found = provenance::found(config, offer, digest.as_ref(), temporary.path(), context)
        .map_err(|error| cannot_tell(Failure::of(&error)))?;
    let mut policy = provenance::policy(config);
    let later = digest.is_none() && (policy.passed_in.is_some() || !policy.digests.is_empty());
    if digest.is_none() {
        (policy.passed_in, policy.digests) = (None, BTreeMap::new());
    }
    let digest = digest.unwrap_or(Digest([0; 32]));
    let release = Release { tag: offer.tag.clone(), digest, origin: offer.origin.clone() };
    let (verdict, mut because) = domain::provenance::weigh(&policy, &release, Some(&found));
    if later {
        because += if because.is_empty() { "" } else { "; " };
        because += "what its digest decides is asked when it is installed";
    }
    Ok(Some(Line::of(Gate::Provenance, verdict, because)))
}

/// Says whether last-good could be started again, where the run would ask that before it moves.
fn way_back_line(app: &App, name: &ServiceName, service: &Service, offer: &Offer) -> Option<Line> {
    let last_good = service.last_good.filter(|last_good| service.tags.get(&offer.tag) != Some(last_good))?;
    let known = service.installed.get(&last_good)?;
    let error = channel::verify_fast(&app.home.service(name).found(&known.installation)).err()?;
    Some(Line::of(Gate::WayBack, Verdict::Fail, Failure::of(&error).message))
}

/// Gives a line for each thing on this machine that a run would be refused for, and what else there is to know: a run
/// goes on over that.
fn in_the_way(app: &App, name: &ServiceName, service: &Service) -> Result<(Vec<Line>, Vec<String>), Trouble> {
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    let config = &app.config.service[name];
    for instance in &config.instance {
        if let Some(failure) = doctor::user_unknown(config, instance) {
            let because = format!("{}: {}", instance.name, failure.message);
            lines.push(Line { gate: "user", verdict: Verdict::Fail, because });
        }
    }
    for finding in doctor::examine_running(&app.config, name, service, &drive::program()?) {
        let because = finding.failure.message;
        match finding.failure.code.as_str() {
            "instance-port-in-use" => lines.push(Line { gate: "port", verdict: Verdict::Fail, because }),
            "data-open-elsewhere" => lines.push(Line { gate: "data", verdict: Verdict::Fail, because }),
            "installation-damaged" | "installation-unsealed" | "installation-missing" | "restore-other-folder" => {
                notes.push(because);
            }
            _ => {}
        }
    }
    Ok((lines, notes))
}

impl Asked<'_> {
    /// Answers as a run's own question would be answered.
    fn answer(&mut self, tag: Option<&ReleaseTag>, except: &[ReleaseTag]) -> Answer {
        let channel = &self.config.channel;
        let offer = match tag {
            None => channel.newest_but(except, self.context),
            Some(tag) => channel.offer_of(tag, self.context).map(Some),
        };
        match offer {
            Ok(Some(offer)) => {
                let standing = self.last_good.as_ref().map(|last_good| channel.standing(&offer.tag, last_good));
                let foreign = channel.belongs(&offer.tag).err();
                self.offers.push((offer.clone(), standing));
                Answer::Offered { offer, standing, foreign }
            }
            Ok(None) => Answer::NothingElse,
            Err(error) => {
                let failure = Failure::of(&error);
                self.failed = Some(error);
                Answer::Hindered { failure }
            }
        }
    }
}

/// Plays the run that would come now; behind a hold, also what the channel offers and what its gates say.
fn look(
    app: &App,
    name: &ServiceName,
    service: &Service,
    preflight: &Option<Checked>,
    context: &channel::Context,
) -> Result<Looked, Trouble> {
    let config = &app.config.service[name];
    let last_good = service.last_good.as_ref().and_then(|last_good| service.tag(last_good)).cloned();
    let mut asked = Asked { config, context, last_good, offers: Vec::new(), failed: None };
    let begin = |aim| Begin {
        aim,
        settings: config.settings(),
        frozen: app.stopped(name, service),
        preflight: preflight.clone(),
    };
    let mut ask =
        |aim| rollout::foresee(service, begin(aim), &app.actor, app.now(), |tag, except| asked.answer(tag, except));
    let mut foreseen = ask(Aim::Track);
    let first = foreseen.next.clone();
    let mut refused = Vec::from_iter(Line::refusing(&foreseen));
    let is_held = matches!(&first, Next::Ends(end) if !matches!(end, End::UpToDate));
    if is_held && foreseen.passed.is_empty() {
        foreseen = ask(Aim::DryRun);
        let behind = Line::refusing(&foreseen).filter(|line| refused.iter().all(|one| one.gate != line.gate));
        refused.extend(behind);
    }
    if let Some(error) = asked.failed {
        return Err(Trouble { exit: Exit::CannotTell, failure: Failure::of(&error) });
    }
    let exit = match &first {
        Next::Ends(end) => Exit::of(end),
        _ => Exit::Done,
    };
    // Where nothing stands in its place, the newest is what the gates refuse.
    let is_last = matches!(&foreseen.next, Next::Ends(End::Refused { gate: Gate::Rejected, .. }));
    let passed = if is_last { Vec::new() } else { foreseen.passed };
    let offer = if is_last { asked.offers.into_iter().next() } else { asked.offers.pop() };
    let offer = offer.or_else(|| pinned(service));
    let (offer, standing) = offer.ok_or_else(|| {
        Trouble::say(Exit::CannotTell, "internal", "the channel was not asked".to_owned(), "lastgood doctor")
    })?;
    Ok(Looked { offer, standing, passed, refused, exit, next: first })
}

/// Gives what the service is pinned to as it was installed: a way back there asks no channel.
fn pinned(service: &Service) -> Option<(Offer, Option<Standing>)> {
    let known = service.installed.get(service.tags.get(&service.pin.as_ref()?.tag)?)?;
    let Release { tag, origin, .. } = known.installation.release.clone();
    Some((Offer { tag, origin, mark: known.mark.clone(), published: None }, None))
}

/// Says of each gate that it passes, and why, in the order in which a run asks them; what refuses stands in its place, and
/// nothing is said of those behind it.
fn passing(service: &Service, offer: &Offer, standing: Option<Standing>, refused: &mut Vec<Line>) -> Vec<Line> {
    let published = offer.published.map_or_else(String::new, |at| format!(", published {}", rfc3339(at)));
    let last_good = service.name_of(service.last_good.as_ref());
    let newer = match (&service.pin, standing) {
        (Some(pin), _) => format!("pinned to {} by {}", pin.tag, pin.by),
        (None, None) => "nothing runs yet".into(),
        (None, Some(Standing::Same)) => format!("it is {last_good}"),
        (None, Some(_)) => format!("newer than {last_good}"),
    };
    let gates = [
        (Gate::Hold, "no hold stands".into()),
        (Gate::Channel, format!("{}{published}", offer.origin)),
        (Gate::Rejected, "never rejected".into()),
        (Gate::Digest, "the tag has not moved".into()),
        (Gate::Newer, newer),
    ];
    let mut lines = Vec::new();
    for (gate, because) in gates {
        let refuses = refused.iter().position(|line| line.gate == words::gate_name(gate));
        lines.push(match refuses {
            Some(at) => refused.remove(at),
            None => Line::of(gate, Verdict::Pass, because),
        });
        // What lies behind a hold was asked all the same.
        if refuses.is_some() && gate != Gate::Hold {
            break;
        }
    }
    lines
}
