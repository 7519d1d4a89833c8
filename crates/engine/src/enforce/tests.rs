use super::*;
use crate::operations::facts;
use lastgood_domain::{
    operations::{
        approval,
        hold::{HoldKind, InFlight, MergeExemption, Selector, Wanted},
        incident::{self, Declaration, Level},
    },
    terms::{ApprovalId, CommitId, IncidentId, Reason, Span},
};
use lastgood_store::{Reader, Store};
use std::sync::Mutex;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// A place that does what it is told, says it does and does not, or can't be asked.
struct Fake {
    has: Mutex<BTreeSet<String>>,
    /// What passes each, where it knows of lanes.
    lanes: Mutex<Option<BTreeMap<String, BTreeSet<String>>>>,
    lies: bool,
    down: Mutex<Option<String>>,
    /// What it answers where it leaves the lanes of a hold as they are; no words are a success.
    stuck: Mutex<Option<&'static str>>,
}

impl Fake {
    fn new(lies: bool) -> Arc<Self> {
        Arc::new(Self {
            has: Mutex::default(),
            lanes: Mutex::default(),
            lies,
            down: Mutex::default(),
            stuck: Mutex::default(),
        })
    }

    fn up(&self) -> Result<(), String> {
        self.down.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

impl Place for Fake {
    fn read(&self, _: &[Held]) -> Result<Found, String> {
        self.up()?;
        let passes = self.lanes.lock().unwrap().clone();
        Ok(Found { holds: self.has.lock().unwrap().clone(), passes, ..Found::default() })
    }
    fn set(&self, hold: &Held) -> Result<(), String> {
        self.up()?;
        if let Some(why) = *self.stuck.lock().unwrap() {
            return if why.is_empty() { Ok(()) } else { Err(why.into()) };
        }
        if !self.lies {
            self.has.lock().unwrap().insert(hold.id.clone());
            if let Some(lanes) = &mut *self.lanes.lock().unwrap() {
                lanes.insert(hold.id.clone(), hold.passes.keys().cloned().collect());
            }
        }
        Ok(())
    }
    fn lift(&self, id: &str) -> Result<(), String> {
        self.up()?;
        if !self.lies {
            self.has.lock().unwrap().remove(id);
        }
        Ok(())
    }
}

struct World {
    folder: tempfile::TempDir,
    desk: Desk,
    enforcers: Enforcers,
    now: Timestamp,
}

fn alice() -> Actor {
    Actor::new("person:alice").unwrap()
}

impl World {
    fn with(place: &Arc<Fake>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let route = crate::log::Route { endpoint: "ops".into(), kinds: Vec::new() };
        let desk = Desk::new(Store::open(folder.path()).unwrap(), Scope::default(), vec![route]);
        let keys = "git = \"/srv/git/web.git\"\nkinds = [\"merge\"]";
        let config: EnforcerConfig = toml::from_str(keys).unwrap();
        let place: Arc<dyn Place> = Arc::<Fake>::clone(place);
        let enforcers = Enforcers([(EnforcerName::new("repository").unwrap(), (config, place))].into());
        Self { folder, desk, enforcers, now: NOW }
    }

    fn set(&mut self, kind: HoldKind) {
        let decide = |state: &Operations| {
            let wanted = Wanted {
                kinds: [kind].into(),
                selector: Selector::default(),
                reason: Reason::new("an audit").unwrap(),
                until: None,
                review: Some(Timestamp(i64::MAX)),
                in_flight: InFlight::Pause,
            };
            Ok(Event::Hold(hold::set(&state.holds, wanted)?))
        };
        self.desk.say_one(&alice(), self.now, &decide).unwrap();
    }

    fn pass(&mut self) {
        let now = self.now;
        let (enforcers, scope, by) = (&self.enforcers, Scope::default(), alice());
        let all =
            pass(&mut self.desk, self.folder.path(), (enforcers, &scope), (&by, &|| now), Duration::from_secs(60));
        assert!(all.unwrap());
    }

    fn due(&mut self) {
        let now = self.now;
        let week = Span::minutes(7 * 24 * 60);
        let decide = |state: &Operations| Ok(state.holds.due(now, week).into_iter().map(Event::Hold).collect());
        self.desk.say(&alice(), now, &decide).unwrap();
    }

    fn states(&mut self) -> Vec<(u64, &'static str)> {
        let holds = &self.desk.look().unwrap().state.holds;
        let each = holds.enforced.iter().flat_map(|(id, of)| of.values().map(|one| (id.0, one.state.as_str())));
        each.collect()
    }

    /// Counts the notices of it that stand in the outbox.
    fn notices(&self) -> usize {
        let reader = lastgood_store::Reader::open(self.folder.path()).unwrap();
        let rows = reader.notices(lastgood_store::NoticeState::Pending, 100).unwrap();
        rows.iter().filter(|row| row.kind == "hold-unconfirmed").count()
    }

    fn records(&mut self) -> u64 {
        self.desk.look().unwrap().head.size
    }
}

#[test]
fn a_place_that_says_done_and_reads_back_otherwise_is_red_and_told_of_once_and_again_while_it_lasts() {
    let mut world = World::with(&Fake::new(true));
    world.set(HoldKind::Merge);
    world.pass();
    assert_eq!(world.states(), [(0, "drifted")]);
    assert_eq!(world.desk.look().unwrap().state.holds.unconfirmed(NOW).len(), 1);
    assert_eq!(world.notices(), 1);
    let records = world.records();
    for _ in 0..5 {
        world.now = world.now.after(Span::minutes(1));
        world.pass();
        world.due();
    }
    assert_eq!((world.notices(), world.records()), (1, records), "not on each look");
    world.now = world.now.after(Span::minutes(30));
    world.due();
    assert_eq!(world.notices(), 2);
}

#[test]
fn an_honest_place_is_confirmed_and_lets_go_of_exactly_what_was_lifted() {
    let place = Fake::new(false);
    let mut world = World::with(&place);
    world.set(HoldKind::Merge);
    world.set(HoldKind::Merge);
    world.set(HoldKind::Deploy);
    world.pass();
    assert_eq!(world.states(), [(0, "confirmed"), (1, "confirmed")], "holds of its kind only");
    let lift =
        |state: &Operations| Ok(Event::Hold(hold::lift(&state.holds, WideHoldId(0), Reason::new("over").unwrap())?));
    world.desk.say_one(&alice(), NOW, &lift).unwrap();
    // Somebody else's is left alone.
    place.has.lock().unwrap().insert("hold-77".into());
    world.pass();
    assert_eq!(world.states(), [(1, "confirmed")]);
    assert_eq!(*place.has.lock().unwrap(), ["hold-1".to_owned(), "hold-77".into()].into());
    assert_eq!(world.notices(), 0);
}

#[test]
fn a_hold_that_somebody_takes_away_at_the_place_is_told_of_and_put_back() {
    let place = Fake::new(false);
    let mut world = World::with(&place);
    world.set(HoldKind::Merge);
    world.pass();
    place.has.lock().unwrap().clear();
    world.pass();
    assert_eq!((world.states(), world.notices()), (vec![(0, "confirmed")], 1));
    assert!(place.has.lock().unwrap().contains("hold-0"));
}

#[test]
fn a_place_that_is_down_fails_no_hold_and_is_asked_again() {
    let place = Fake::new(false);
    *place.down.lock().unwrap() = Some("no answer".into());
    let mut world = World::with(&place);
    world.set(HoldKind::Merge);
    world.pass();
    assert_eq!((world.states(), world.notices()), (vec![(0, "failed")], 1));
    *place.down.lock().unwrap() = None;
    world.pass();
    assert_eq!(world.states(), [(0, "confirmed")]);
    // What ends by itself or is lifted while it is down stays known, and is let go of later.
    *place.down.lock().unwrap() = Some("no answer".into());
    let lift =
        |state: &Operations| Ok(Event::Hold(hold::lift(&state.holds, WideHoldId(0), Reason::new("over").unwrap())?));
    world.desk.say_one(&alice(), NOW, &lift).unwrap();
    world.pass();
    assert_eq!(world.states(), [(0, "failed")]);
    *place.down.lock().unwrap() = None;
    world.pass();
    assert!(world.states().is_empty() && place.has.lock().unwrap().is_empty());
}

#[test]
fn an_enforcer_that_left_the_configuration_is_red_while_its_hold_stands() {
    let mut world = World::with(&Fake::new(false));
    world.set(HoldKind::Merge);
    world.pass();
    world.enforcers = Enforcers::default();
    world.pass();
    assert_eq!(world.states(), [(0, "failed")]);
}

#[test]
fn a_hold_that_nobody_asked_an_enforcer_for_is_not_confirmed_and_neither_is_what_was_heard_long_ago() {
    let mut world = World::with(&Fake::new(false));
    let keys = "[enforcer.repository]\ngit = \"/srv/git/web.git\"\n";
    let mut config = Config::parse(keys, Path::new("/lastgood.toml"), Path::new("/")).unwrap();
    config.state_dir = world.folder.path().into();
    let (level, trigger, services) = (Level::L1, Reason::new("orders are doubled").unwrap(), [].into());
    let declaration = Declaration { level, trigger, services, commander: alice(), drill: false };
    // As it is where who declares is killed before anything outside is asked.
    world.desk.say(&alice(), NOW, &|state| Ok(incident::declare(state, declaration.clone()))).unwrap();
    let unconfirmed = |world: &mut World, now| {
        let reader = Reader::open(world.folder.path()).unwrap();
        let state = world.desk.look().unwrap().state.clone();
        let id = IncidentId(0);
        facts(Some(&reader), &config, &state, id, &state.incidents.all[&id], now).unconfirmed
    };
    assert_eq!(unconfirmed(&mut world, NOW), ["repository has not confirmed hold-1"]);
    world.pass();
    assert!(unconfirmed(&mut world, NOW).is_empty());
    assert!(unconfirmed(&mut world, NOW.after(Span::minutes(30))).is_empty());
    let late = unconfirmed(&mut world, NOW.after(Span::minutes(31)));
    assert!(late.len() == 1 && late[0].starts_with("repository was not read back within"), "{late:?}");
    world.now = NOW.after(Span::minutes(31));
    world.pass();
    assert!(unconfirmed(&mut world, NOW.after(Span::minutes(31))).is_empty());
}

#[test]
fn a_commit_passes_once_a_second_person_agrees_for_its_time_and_what_was_slipped_in_is_drift() {
    let place = Fake::new(false);
    *place.lanes.lock().unwrap() = Some(BTreeMap::new());
    let mut world = World::with(&place);
    world.set(HoldKind::Merge);
    world.pass();
    let (fix, hold) = ("1c6e6c4c02e55178e85890fc9bbed4ce046415ec", WideHoldId(0));
    let until = NOW.after(Span::minutes(60));
    let exemption =
        MergeExemption { commit: CommitId::new(fix).unwrap(), reason: Reason::new("the fix").unwrap(), until };
    let ask = |state: &Operations| hold::ask_merge(state, &alice(), hold, exemption.clone(), NOW);
    world.desk.say(&alice(), NOW, &ask).unwrap();
    world.pass();
    let lanes = |place: &Fake| place.lanes.lock().unwrap().clone().unwrap()["hold-0"].clone();
    assert_eq!(lanes(&place), BTreeSet::new(), "nobody has agreed");
    let yes = |by: &'static str| {
        move |state: &Operations| {
            let by = Actor::new(by).unwrap();
            let plan = state.approvals.all[&ApprovalId(0)].request.plan;
            Ok(vec![Event::Approval(approval::approve(&state.approvals, &by, ApprovalId(0), plan, NOW)?)])
        }
    };
    assert!(world.desk.say(&alice(), NOW, &yes("person:alice")).is_err(), "never one's own");
    world.desk.say(&Actor::new("person:bob").unwrap(), NOW, &yes("person:bob")).unwrap();
    world.pass();
    assert_eq!(lanes(&place), [fix.to_owned()].into());
    assert_eq!(world.states(), [(0, "confirmed")]);
    // Somebody opens it for more.
    place.lanes.lock().unwrap().as_mut().unwrap().get_mut("hold-0").unwrap().insert("f".repeat(40));
    world.pass();
    assert_eq!(lanes(&place), [fix.to_owned()].into());
    let records = world.desk.look().unwrap().head.size;
    world.pass();
    assert_eq!(world.desk.look().unwrap().head.size, records, "a lane that is right is no news");
    world.now = until;
    world.pass();
    assert_eq!(lanes(&place), BTreeSet::new(), "it is over");
    assert_eq!(world.desk.look().unwrap().head.size, records, "that its time is over is no drift");
}

#[test]
fn a_lane_whose_time_is_over_and_that_can_not_be_closed_is_not_confirmed() {
    let commit = "1c6e6c4c02e55178e85890fc9bbed4ce046415ec".to_owned();
    let id = WideHoldId(0);
    let hold = Held {
        id: id.to_string(),
        kinds: "merge".into(),
        services: "every service".into(),
        owner: alice().to_string(),
        reason: "an audit".into(),
        until_seconds: None,
        passes: BTreeMap::new(),
        ended: [commit.clone()].into(),
    };
    let place = Fake::new(false);
    place.has.lock().unwrap().insert(hold.id.clone());
    *place.lanes.lock().unwrap() = Some([(hold.id.clone(), [commit.clone()].into())].into());
    let seen = |place: &Fake| {
        let (wanted, known) = ([(id, hold.clone())].into(), [(id, Enforcement::Confirmed)].into());
        look(place, &wanted, &known).into_iter().flat_map(|(_, steps)| steps).collect::<Vec<_>>()
    };
    *place.stuck.lock().unwrap() = Some("answered 500");
    let [Enforcement::Failed { why }] = &*seen(&place) else { panic!("it passes still") };
    assert!(why.contains(&commit) && why.contains("its time is over") && why.contains("answered 500"), "{why}");
    *place.stuck.lock().unwrap() = Some("");
    let [Enforcement::Drifted { why }] = &*seen(&place) else { panic!("it passes still") };
    assert!(why.contains("its time is over"), "{why}");
    *place.stuck.lock().unwrap() = None;
    assert_eq!(seen(&place), [Enforcement::Confirmed]);
    // What a place does not have can't pass there: that is as it should be, and no reason to tell it again.
    let hold = Held { passes: [(commit.clone(), i64::MAX)].into(), ended: BTreeSet::new(), ..hold.clone() };
    let passes = Some(BTreeMap::new());
    let found = Found { passes, absent: [commit].into(), ..Found::default() };
    assert!(lanes_fit(&found, &hold) && !lanes_fit(&Found { absent: BTreeSet::new(), ..found.clone() }, &hold));
}

/// A place whose first answer comes when it is let go.
struct Slow {
    asked: Mutex<u32>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl Place for Slow {
    fn read(&self, _: &[Held]) -> Result<Found, String> {
        let first = std::mem::replace(&mut *self.asked.lock().unwrap(), 1) == 0;
        if first {
            let _ = self.go.lock().unwrap().recv();
        }
        Ok(Found::default())
    }
    fn set(&self, _: &Held) -> Result<(), String> {
        Ok(())
    }
    fn lift(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn a_place_is_asked_by_one_at_a_time_also_after_a_pass_gave_up_on_it() {
    let (go, wait) = mpsc::channel();
    let place: Arc<dyn Place> = Arc::new(Slow { asked: Mutex::default(), go: Mutex::new(wait) });
    let mut world = World::with(&Fake::new(false));
    for (_, one) in world.enforcers.0.values_mut() {
        *one = Arc::clone(&place);
    }
    world.set(HoldKind::Merge);
    let mut asks = |wait: Duration| {
        let (scope, by) = (Scope::default(), alice());
        pass(&mut world.desk, world.folder.path(), (&world.enforcers, &scope), (&by, &|| NOW), wait).unwrap()
    };
    assert!(!asks(Duration::from_millis(50)), "given up on");
    assert!(!asks(Duration::from_secs(60)), "asked while it was still at it");
    go.send(()).unwrap();
    while !asks(Duration::from_secs(60)) {
        thread::sleep(Duration::from_millis(10));
    }
}
