//! What a rollback would do, said before anybody agrees to it.

use super::{NO_REASON, expect};
use crate::{app::App, drive, exit::Exit, screen::Trouble};
use lastgood_domain::{
    event::{Aim, Back},
    facts::{Busyness, Loss},
    failure::Failure,
    service::Service,
    terms::{Digest, InstanceName, ReleaseTag, ServiceName},
    traffic::TrafficEvent,
    words,
};
use lastgood_engine::{
    setup::{self, Apart},
    world::Site,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// 10 s: 20 GB at the measured half second a gigabyte; after that the answer is that nobody knows.
const COUNT_MAX: Duration = Duration::from_secs(10);

/// Says what a pin to a release that ran here does: each instance goes back to it as by hand, with the data that belongs
/// to it. `None` if that is no way back, and the release is offered like any other.
pub(crate) fn pinned(app: &App, service: &ServiceName, folded: &Service) -> Option<Vec<String>> {
    let to = folded.pin.as_ref().map(|pin| pin.tag.clone())?;
    let aim = Aim::Back { to: Some(to), instances: Vec::new(), accept_loss: Vec::new(), reason: NO_REASON.into() };
    let Preview { back, traffic } = preview(app, service, folded, &aim).ok()?;
    let lines: Vec<String> = back.iter().map(|one| says(app, service, folded, one, None)).chain(traffic).collect();
    (!lines.is_empty()).then_some(lines)
}

/// Says how far a way back to a release reaches now: which of the instances move, and which of those are in use.
pub(crate) fn reaches(app: &App, service: &ServiceName, folded: &Service, to: &ReleaseTag) -> String {
    let aim =
        Aim::Back { to: Some(to.clone()), instances: Vec::new(), accept_loss: Vec::new(), reason: NO_REASON.into() };
    let Preview { back, traffic } = match preview(app, service, folded, &aim) {
        Ok(preview) => preview,
        Err(trouble) => return format!("nobody can tell: {}", words::one_line(&trouble.failure.message)),
    };
    if let Some(traffic) = traffic {
        return traffic;
    }
    let all = app.config.service[service].instance.len();
    let names: Vec<InstanceName> = back.iter().map(|one| one.instance.clone()).collect();
    if names.is_empty() {
        return format!("none of {} moves", words::count(all as u64, "instance"));
    }
    let mut text =
        format!("moves {} of {}: {}", names.len(), words::count(all as u64, "instance"), words::names(&names));
    match in_use(app, service, names.iter()) {
        Ok(None) => {}
        Ok(Some(risks)) if risks.is_empty() => text += "; none is in use",
        Ok(Some(risks)) => {
            let list: Vec<String> = risks.iter().map(|(name, why)| format!("{name} ({why})")).collect();
            text += &format!("; in use: {}", list.join(", "));
        }
        Err(trouble) => text += &format!("; who uses it: {}", words::one_line(&trouble.failure.message)),
    }
    text
}

/// Gives those of some instances that are in use and why; `None` if the service is not asked for that.
pub(super) fn in_use<'n>(
    app: &App,
    service: &ServiceName,
    names: impl Iterator<Item = &'n InstanceName>,
) -> Result<Option<Vec<(InstanceName, String)>>, Trouble> {
    if app.config.service[service].busy.is_none() {
        return Ok(None);
    }
    let site = Site::open_for_return(&app.config, service, app.home.service(service), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let busy = names.filter_map(|name| match site.busyness(name) {
        Some(Busyness::Busy(why)) => Some((name.clone(), why)),
        _ => None,
    });
    Ok(Some(busy.collect()))
}

/// What a rollback would do.
pub(super) struct Preview {
    /// Instance by instance.
    pub(super) back: Vec<Back>,
    /// To shared traffic, in words.
    pub(super) traffic: Option<String>,
}

impl Preview {
    /// Digests it: what moves where, with which data, and which run it ends.
    pub(super) fn digest(&self, service: &ServiceName, folded: &Service) -> Digest {
        expect::digest(&json!({
            "format": "lastgood-rollback/1", "service": service, "back": self.back, "traffic": self.traffic,
            "ends": folded.run.as_ref().map(|run| run.id),
            "runs": folded.instances.iter().map(|(name, one)| (name, one.release)).collect::<Vec<_>>(),
        }))
    }
}

/// Tells what would go back, by deciding without writing.
pub(super) fn preview(app: &App, service: &ServiceName, folded: &Service, aim: &Aim) -> Result<Preview, Trouble> {
    use lastgood_domain::{event::Event, rollout};
    let settings = app.config.service[service].settings();
    let input = rollout::Input::Begin { aim: aim.clone(), settings, frozen: None, preflight: None };
    let records =
        rollout::step(folded, input, &app.actor, app.now()).map_err(|illegal| drive::drive_trouble(&illegal.into()))?;
    let mut preview = Preview { back: Vec::new(), traffic: None };
    for record in records {
        match record.event {
            Event::ReturnBegun { back, .. } => preview.back = back,
            Event::Traffic(TrafficEvent::ReturnBegun { left, to, raise, .. }) => {
                let [left, to] = [Some(left), to].map(|release| folded.name_of(release.as_ref()));
                let first = match raise.is_empty() {
                    true => String::new(),
                    false => format!("; {} first", words::names(&raise)),
                };
                preview.traffic = Some(format!("all traffic: {left} -> {to}, its data stays as it is{first}"));
            }
            _ => {}
        }
    }
    Ok(preview)
}

pub(super) fn says(
    app: &App,
    service: &ServiceName,
    folded: &Service,
    one: &Back,
    written: Option<&Written>,
) -> String {
    let runs = folded.instances.get(&one.instance).and_then(|state| state.release);
    let how = match (one.with_data, one.snapshot) {
        (true, Some(snapshot)) => {
            let age = one.since.map_or_else(String::new, |since| format!(", {} old", app.now().since(since)));
            let written = written.map_or_else(String::new, |written| match written {
                Ok(loss) => format!(", which drops {}", dropped(loss)),
                Err(failure) => format!(", what that drops was not counted: {}", words::one_line(&failure.message)),
            });
            format!("with its data of {snapshot}{age}{written}; newer data is kept aside")
        }
        _ => "its data stays as it is".into(),
    };
    let home = app.home.service(service);
    let apart = one.to.and_then(|to| setup::apart_as(&app.config, service, &home, folded, &one.instance, &to));
    let with = match apart {
        None => String::new(),
        Some(Apart { unusable: Some(failure), .. }) => {
            format!("; with lastgood.toml as it is: {}", words::one_line(&failure.message))
        }
        Some(Apart { keys, .. }) => {
            format!("; with the setup of its last good run; lastgood.toml differs in {}", keys.join(", "))
        }
    };
    let (runs, to) = (folded.name_of(runs.as_ref()), folded.name_of(one.to.as_ref()));
    format!("{}: {runs} -> {to}, {how}{with}", one.instance)
}

/// What was written since a snapshot, or why nobody counted it.
pub(super) type Written = Result<Loss, Failure>;

/// Says how much a restore would drop as of now; the instance goes on writing until it is stopped.
fn dropped(loss: &Loss) -> String {
    format!("{} and {} written so far", words::count(loss.rows, "row"), words::count(loss.files, "file"))
}

/// Counts what each instance that goes back with its data has written since, all within [`COUNT_MAX`]: whoever is asked
/// should know it, and a way back waits for no large disk.
pub(super) fn written_so_far(
    app: &App,
    service: &ServiceName,
    folded: &Service,
    back: &[Back],
) -> BTreeMap<InstanceName, Written> {
    let with_data: Vec<_> =
        back.iter().filter(|one| one.with_data).filter_map(|one| Some((&one.instance, one.snapshot?))).collect();
    if with_data.is_empty() {
        return BTreeMap::new();
    }
    app.screen.tell(&format!(
        "counting what {} wrote since, for at most {} s …",
        words::names(&with_data.iter().map(|(name, _)| (*name).clone()).collect::<Vec<_>>()),
        COUNT_MAX.as_secs()
    ));
    let began = Instant::now();
    let site = drive::program().and_then(|program| {
        Site::open_for_return(&app.config, service, app.home.service(service), program)
            .map_err(|error| Trouble::new(Exit::Failed, &error))
    });
    let count = |(name, snapshot): (&InstanceName, _)| {
        let written = match &site {
            Ok(site) => site.written_since(folded, name, snapshot, COUNT_MAX.saturating_sub(began.elapsed())),
            Err(trouble) => Err(trouble.failure.clone()),
        };
        (name.clone(), written)
    };
    with_data.into_iter().map(count).collect()
}
