//! A plan is run, and in between somebody does something else. The whole program's tests are in `crates/lastgood/tests/e2e`.

mod needs;

use super::*;
use crate::config::Config;
use lastgood_domain::{
    failure::{Coded as _, Failure},
    operations::{
        Event, Operations, Record, Refused, approval,
        incident::{
            self, Declaration, IncidentEvent, Level, State, level,
            plan::{Next, Outcome, Plan, PlanEvent, Planned, Step, Turn},
        },
    },
    service::Service,
    terms::{Actor, Digest, IncidentId, InstanceName, Reason, ReleaseTag, ServiceName, Span, Timestamp},
};
use std::{cell::Cell, collections::BTreeMap, path::Path};

const ID: IncidentId = IncidentId(0);
const CONFIG: &str = r#"
[runbook.step.one]
area = "application"
do = [{ command = ["one"] }]
irreversible = "it is gone"

[runbook.step.two]
area = "application"
do = [{ command = ["two"] }]
repeatable = true
"#;

fn actor(name: &str) -> Actor {
    Actor::new(&format!("person:{name}")).unwrap()
}

fn config() -> Config {
    Config::parse(CONFIG, Path::new("/lastgood.toml"), Path::new("/")).unwrap()
}

/// The chain in memory. `before_begin` is what somebody else does between a decision and its append, `before_end` what
/// somebody does while a step is performed.
struct Memory {
    state: Operations,
    now: Cell<i64>,
    begun: Vec<String>,
    before_begin: Option<fn(&mut Memory)>,
    before_end: Option<fn(&mut Memory)>,
}

impl Memory {
    fn new(level: Level) -> Self {
        let mut memory = Self {
            state: Operations::default(),
            now: Cell::new(1_000),
            begun: Vec::new(),
            before_begin: None,
            before_end: None,
        };
        let (trigger, services) = (Reason::new("orders are doubled").unwrap(), [].into());
        let declaration = Declaration { level, trigger, services, commander: actor("alice"), drill: false };
        let events = incident::declare(&memory.state, declaration);
        memory.write("alice", events);
        memory
    }

    fn at(&self) -> Timestamp {
        Timestamp(self.now.get())
    }

    fn write(&mut self, by: &str, events: Vec<Event>) {
        for event in events {
            if let Event::Incident { event: IncidentEvent::Plan(PlanEvent::Begun { step }), .. } = &event {
                self.begun.push(step.clone());
            }
            let record = Record { v: Record::VERSION, at: self.at(), by: actor(by), event };
            self.state.take(&record);
        }
    }

    fn plan(&self) -> (Plan, Digest) {
        let made =
            plan(&config(), &self.state.incidents.all[&ID], &BTreeMap::new(), &BTreeMap::new(), &BTreeMap::new());
        let hash = hash_of(&made);
        (made, hash)
    }

    fn take(&mut self) -> Digest {
        let (made, hash) = self.plan();
        let events = take(&self.state, ID, (&made, hash), &actor("alice"), self.at()).unwrap();
        self.write("alice", events);
        hash
    }

    /// Takes the incident to where its plan runs.
    fn take_on(&mut self, hash: &Digest) {
        assert_eq!(self.state.incidents.all[&ID].planned.as_ref().unwrap().hash, *hash);
        let why = Reason::new("its plan runs").unwrap();
        let event = incident::advance(&self.state, ID, State::Executing, why).unwrap();
        self.write("alice", vec![Event::Incident { incident: ID, event }]);
    }

    fn approve(&mut self, hash: Digest) {
        let asked = ask(&self.state, ID, (hash, 1), &actor("alice"), self.at()).unwrap();
        self.write("alice", asked);
        let id = *self.state.approvals.all.last_key_value().unwrap().0;
        let yes = approval::approve(&self.state.approvals, &actor("bob"), id, hash, self.at()).unwrap();
        self.write("bob", vec![Event::Approval(yes)]);
    }

    fn run(&mut self, hash: Digest, each: Span) -> Result<Told, RunError<Refused>> {
        let config = config();
        let clock = Cell::new(self.now.get());
        let doer = Does { config: &config, clock: &clock, each };
        let now = || Timestamp(clock.get());
        let told = carry_out(self, &doer, &actor("alice"), Some(hash), &now, &mut |_, _| {});
        self.now.set(clock.get());
        told
    }

    fn raise(&mut self) {
        let events = level::raise(&self.state, ID, Level::L3, Reason::new("rows are wrong").unwrap()).unwrap();
        self.write("bob", events);
    }
}

impl Book for Memory {
    type Error = Refused;

    fn look(&mut self) -> Result<&Operations, Refused> {
        Ok(&self.state)
    }

    fn say(&mut self, by: &Actor, now: Timestamp, decide: Decide<'_>) -> Result<(), Refused> {
        self.now.set(now.0);
        let other = match decide(&self.state)?.first() {
            Some(Event::Incident { event: IncidentEvent::Plan(PlanEvent::Begun { .. }), .. }) => {
                self.before_begin.take()
            }
            Some(Event::Incident { event: IncidentEvent::Plan(PlanEvent::Ended { .. }), .. }) => self.before_end.take(),
            _ => None,
        };
        if let Some(other) = other {
            other(self);
        }
        let events = decide(&self.state)?;
        let by = by.as_str().trim_start_matches("person:").to_owned();
        self.write(&by, events);
        Ok(())
    }
}

struct Does<'a> {
    config: &'a Config,
    clock: &'a Cell<i64>,
    each: Span,
}

impl Doer for Does<'_> {
    fn config(&self) -> &Config {
        self.config
    }

    fn incident(&self) -> IncidentId {
        ID
    }

    fn ask(&self, _: &Step, _: Before) -> Asked {
        Asked::NotDone
    }

    fn precondition(&self, _: &Step, _: &Planned) -> Result<String, Failure> {
        Ok("it needs nothing".into())
    }

    fn perform(&self, _: &Step) -> Outcome {
        self.clock.set(self.clock.get().saturating_add_unsigned(self.each.0));
        Outcome::Done { evidence: "done".into(), output: None }
    }
}

#[test]
fn an_approved_plan_runs_to_its_end() {
    let mut memory = Memory::new(Level::L1);
    let hash = memory.take();
    assert_eq!(memory.run(hash, Span::seconds(1)).unwrap(), Told::NotApproved { hash, needed: 1 });
    memory.approve(hash);
    assert_eq!(memory.run(hash, Span::seconds(1)).unwrap(), Told::Done);
    assert_eq!(memory.begun, ["command/one", "command/two"]);
    assert_eq!(memory.state.incidents.all[&ID].state, State::Cleaning);
}

#[test]
fn an_approval_that_runs_out_stops_the_plan_before_its_next_step() {
    let mut memory = Memory::new(Level::L1);
    let hash = memory.take();
    memory.approve(hash);
    let day = Span::minutes(24 * 60);
    assert_eq!(memory.run(hash, day).unwrap(), Told::NotApproved { hash, needed: 1 });
    assert_eq!(memory.begun, ["command/one"]);
    memory.approve(hash);
    assert_eq!(memory.run(hash, Span::seconds(1)).unwrap(), Told::Done);
    assert_eq!(memory.begun, ["command/one", "command/two"]);
}

#[test]
fn a_step_is_not_begun_once_somebody_has_raised_the_level() {
    let mut memory = Memory::new(Level::L1);
    let hash = memory.take();
    memory.approve(hash);
    memory.before_begin = Some(Memory::raise);
    let error = memory.run(hash, Span::seconds(1)).unwrap_err();
    assert!(error.to_string().contains("is planning and can't become executing"), "{error}");
    assert!(memory.begun.is_empty());
}

#[test]
fn a_step_that_was_begun_for_another_plan_is_not_begun_for_the_new_one() {
    let mut memory = Memory::new(Level::L1);
    let hash = memory.take();
    memory.approve(hash);
    memory.before_begin = Some(|memory| {
        memory.raise();
        memory.take();
    });
    let error = memory.run(hash, Span::seconds(1)).unwrap_err();
    assert!(error.to_string().contains("is planning and can't become executing"), "{error}");
    assert!(memory.begun.is_empty());
}

#[test]
fn what_a_step_of_an_earlier_plan_came_to_says_nothing_of_the_new_plan_which_asks_by_itself() {
    let mut memory = Memory::new(Level::L1);
    let hash = memory.take();
    memory.approve(hash);
    memory.before_end = Some(|memory| {
        // The same names, and they lead elsewhere.
        let (mut made, _) = memory.plan();
        made.steps.iter_mut().for_each(|step| step.says = "another release".into());
        let events = take(&memory.state, ID, (&made, hash_of(&made)), &actor("bob"), memory.at()).unwrap();
        memory.write("bob", events);
    });
    let error = memory.run(hash, Span::seconds(1)).unwrap_err();
    assert!(error.to_string().contains("the plan of incident i0 is"), "{error}");
    assert_eq!(memory.begun, ["command/one"]);
    let planned = memory.state.incidents.all[&ID].planned.as_ref().unwrap();
    assert_ne!(planned.hash, hash);
    assert!(matches!(planned.next(), Next::Ask(step) if step.id == "command/one"), "{:?}", planned.steps);
}

#[test]
fn a_plan_that_was_begun_and_is_made_anew_needs_a_yes_of_its_own() {
    let mut memory = Memory::new(Level::L1);
    let hash = memory.take();
    memory.approve(hash);
    // Made again before anything was done it is what was approved.
    assert_eq!(memory.take(), hash);
    assert_eq!(memory.run(hash, Span::seconds(1)).unwrap(), Told::Done);
    assert_eq!(memory.take(), hash);
    assert_eq!(memory.run(hash, Span::seconds(1)).unwrap(), Told::NotApproved { hash, needed: 1 });
    assert_eq!(memory.begun, ["command/one", "command/two"]);
}

#[test]
fn what_was_cut_off_is_asked_about_in_each_later_plan_until_somebody_says_what_became_of_it() {
    let mut memory = Memory::new(Level::L1);
    memory.take();
    let step = || "command/one".to_owned();
    let plan_event = |event| vec![Event::Incident { incident: ID, event: IncidentEvent::Plan(event) }];
    memory.write("alice", plan_event(PlanEvent::Begun { step: step() }));
    let asks = |memory: &Memory| {
        let planned = memory.state.incidents.all[&ID].planned.as_ref().unwrap();
        matches!(planned.next(), Next::Ask(next) if next.id == step())
    };
    memory.take();
    assert!(asks(&memory), "planned anew");
    let outcome = Outcome::CannotTell { why: "nobody saw it".into() };
    memory.write("alice", plan_event(PlanEvent::Ended { step: step(), outcome }));
    memory.raise();
    memory.take();
    assert!(asks(&memory), "after a raise");
    let outcome = Outcome::Settled { reason: Reason::new("I saw it").unwrap() };
    memory.write("alice", plan_event(PlanEvent::Ended { step: step(), outcome }));
    memory.take();
    assert!(!asks(&memory), "what somebody settled is a step like any other");
}

#[test]
fn a_plan_made_for_another_level_is_not_taken() {
    let mut memory = Memory::new(Level::L1);
    let (made, hash) = memory.plan();
    memory.raise();
    let refused = take(&memory.state, ID, (&made, hash), &actor("alice"), memory.at()).unwrap_err();
    assert_eq!(refused.code(), "incident-plan-none");
}

#[test]
fn nobody_is_asked_to_approve_a_plan_that_is_another_by_now() {
    let mut memory = Memory::new(Level::L1);
    let old = memory.take();
    memory.raise();
    let refused = ask(&memory.state, ID, (old, 1), &actor("alice"), memory.at()).unwrap_err();
    assert_eq!(refused.code(), "incident-plan-none");
    memory.take();
    let refused = ask(&memory.state, ID, (old, 1), &actor("alice"), memory.at()).unwrap_err();
    assert_eq!(refused.code(), "incident-plan-other");
    assert!(memory.state.approvals.all.is_empty());
}

#[test]
fn a_plan_needs_the_people_of_the_level_it_was_made_for_also_when_that_is_lowered() {
    let text = format!("{CONFIG}\n[runbook]\napprovals = {{ L2 = 2 }}\n");
    let config = Config::parse(&text, Path::new("/lastgood.toml"), Path::new("/")).unwrap();
    let mut memory = Memory::new(Level::L2);
    memory.take();
    assert_eq!(needed(&config, &memory.state.incidents.all[&ID]), 2);
    let lowered = level::LevelEvent::Lowered { level: Level::L1, reason: Reason::new("only code").unwrap() };
    memory.write("alice", vec![Event::Incident { incident: ID, event: IncidentEvent::Level(lowered) }]);
    assert_eq!(memory.state.incidents.all[&ID].level, Level::L1);
    assert_eq!(needed(&config, &memory.state.incidents.all[&ID]), 2);
}

#[test]
fn what_fewer_people_agreed_to_is_not_run_once_more_must() {
    let mut memory = Memory::new(Level::L1);
    let hash = memory.take();
    memory.approve(hash);
    let config = |approvals: u32| {
        let text = format!("{CONFIG}\n[runbook]\napprovals = {{ L1 = {approvals} }}\n");
        Config::parse(&text, Path::new("/lastgood.toml"), Path::new("/")).unwrap()
    };
    let run = |memory: &mut Memory, approvals| {
        let (config, clock) = (config(approvals), Cell::new(memory.now.get()));
        let doer = Does { config: &config, clock: &clock, each: Span::seconds(1) };
        let now = || Timestamp(clock.get());
        carry_out(memory, &doer, &actor("alice"), Some(hash), &now, &mut |_, _| {}).unwrap()
    };
    assert_eq!(run(&mut memory, 2), Told::NotApproved { hash, needed: 2 });
    assert!(memory.begun.is_empty());
    // Two are asked then, and the one who agreed is asked again with them.
    let asked = ask(&memory.state, ID, (hash, 2), &actor("alice"), memory.at()).unwrap();
    memory.write("alice", asked);
    let id = *memory.state.approvals.all.last_key_value().unwrap().0;
    assert!(ask(&memory.state, ID, (hash, 2), &actor("alice"), memory.at()).unwrap().is_empty());
    for who in ["bob", "carol"] {
        assert_eq!(run(&mut memory, 2), Told::NotApproved { hash, needed: 2 });
        let yes = approval::approve(&memory.state.approvals, &actor(who), id, hash, memory.at()).unwrap();
        memory.write(who, vec![Event::Approval(yes)]);
    }
    assert_eq!(run(&mut memory, 2), Told::Done);
}

#[test]
fn a_no_to_a_plan_is_an_answer_and_nobody_is_asked_again() {
    let mut memory = Memory::new(Level::L1);
    let hash = memory.take();
    let asked = ask(&memory.state, ID, (hash, 1), &actor("alice"), memory.at()).unwrap();
    memory.write("alice", asked);
    let id = *memory.state.approvals.all.last_key_value().unwrap().0;
    let reason = Reason::new("not at night").unwrap();
    let no = approval::reject(&memory.state.approvals, &actor("bob"), id, reason, memory.at()).unwrap();
    memory.write("bob", vec![Event::Approval(no)]);
    let refused = ask(&memory.state, ID, (hash, 1), &actor("alice"), memory.at()).unwrap_err();
    assert_eq!(refused.code(), "approval-rejected");
}

#[test]
fn a_plan_with_nothing_left_to_do_ends_without_another_yes() {
    let mut memory = Memory::new(Level::L1);
    let hash = memory.take();
    memory.approve(hash);
    assert_eq!(memory.run(hash, Span::minutes(24 * 60)).unwrap(), Told::NotApproved { hash, needed: 1 });
    let step = || "command/two".to_owned();
    let outcome = Outcome::Settled { reason: Reason::new("I did it").unwrap() };
    let events = [PlanEvent::Begun { step: step() }, PlanEvent::Ended { step: step(), outcome }];
    memory
        .write("alice", events.map(|event| Event::Incident { incident: ID, event: IncidentEvent::Plan(event) }).into());
    assert_eq!(memory.run(hash, Span::seconds(1)).unwrap(), Told::Done);
}

/// Hands of which only the question whether it is so matters: nobody can answer, for this reason, so many times.
struct Dumb(&'static str, Cell<u32>);

impl Dumb {
    fn never(code: &'static str) -> Self {
        Self(code, Cell::new(u32::MAX))
    }
}

impl Hands for Dumb {
    fn roll_back(&self, _: &ServiceName, _: &ReleaseTag, _: &[String], _: &str, _: Span) -> Result<String, Failure> {
        Ok(String::new())
    }

    fn way_back(&self, _: &ServiceName, _: &ReleaseTag, _: &[String]) -> Result<String, Failure> {
        Ok(String::new())
    }

    fn preserve(&self, _: IncidentId) -> Result<String, Failure> {
        Ok(String::new())
    }

    fn room(&self) -> Result<String, Failure> {
        Ok(String::new())
    }

    fn annotate(&self, _: IncidentId, _: &[ServiceName]) -> Result<String, Failure> {
        Ok(String::new())
    }

    fn start_again(&self, _: &ServiceName, _: &InstanceName, _: Span) -> Result<(), Failure> {
        Ok(())
    }

    fn verify_evidence(&self) -> Result<String, Failure> {
        Ok(String::new())
    }

    fn cut_over(&self) -> Result<String, Failure> {
        Ok(String::new())
    }

    fn credential(&self, _: IncidentId, _: &str, _: Turn) -> Result<String, Failure> {
        Ok(String::new())
    }

    fn probe(&self, _: &Config, _: &[ProbeStep], _: Door, _: Span) -> Result<String, Failure> {
        let left = self.1.get();
        self.1.set(left.saturating_sub(1));
        match left {
            0 => Ok("it answers".into()),
            _ => Err(Failure::new(self.0, "nobody can tell", None)),
        }
    }
}

impl Logs for Dumb {
    fn service(&self, _: &ServiceName) -> Result<Service, Failure> {
        Ok(Service::default())
    }
}

#[test]
fn a_step_that_failed_is_not_done_again_where_nobody_can_tell_whether_it_was_done() {
    let text = CONFIG.replace("repeatable = true", "verify = [{ command = [\"see\"] }]\nattempts = 2");
    let config = Config::parse(&text, Path::new("/lastgood.toml"), Path::new("/")).unwrap();
    let memory = Memory::new(Level::L1);
    let made = plan(&config, &memory.state.incidents.all[&ID], &BTreeMap::new(), &BTreeMap::new(), &BTreeMap::new());
    let step = made.steps.iter().find(|step| step.id == "command/two").unwrap();
    let asked = |hands: &Dumb, before| {
        let services = Vec::new();
        Performer { config: &config, reader: hands, incident: ID, drill: false, services, hands }.ask(step, before)
    };
    for code in ["probe-timeout", "probe-config", "probe-unreachable"] {
        assert_eq!(asked(&Dumb::never(code), Before::Never), Asked::NotDone);
        for before in [Before::Failed, Before::CutOff] {
            let answer = asked(&Dumb::never(code), before);
            assert!(matches!(answer, Asked::CannotTell(_)), "{code} {before:?}: {answer:?}");
        }
    }
    // An answer that says no is one.
    assert_eq!(asked(&Dumb::never("probe-failed"), Before::CutOff), Asked::NotDone);
    // What is not there yet is asked again before a person is.
    let late = asked(&Dumb("probe-unreachable", Cell::new(2)), Before::CutOff);
    assert_eq!(late, Asked::Done("it is so already: it answers".into()));
}

#[test]
fn several_acts_of_a_step_need_no_names_and_two_of_one_name_are_refused() {
    let of = |acts: &str| {
        let text = format!("[runbook.step.rebuild]\narea = \"data\"\ndo = [{acts}]\nundo = \"again\"\n");
        Config::parse(&text, Path::new("/lastgood.toml"), Path::new("/")).map_err(|error| error.to_string())
    };
    let config =
        of("{ command = [\"true\"] }, { command = [\"false\"] }, { name = \"last\", command = [\"true\"] }").unwrap();
    let (base, vars) = ("http://127.0.0.1".to_owned(), BTreeMap::new());
    let steps = &config.runbook.step["rebuild"].act;
    let failure = perform::carried_out(&config, steps, (base, vars), Span::seconds(20)).unwrap_err();
    assert!(failure.message.contains("\"step 2\""), "{failure}");
    let twice = of("{ name = \"a\", command = [\"true\"] }, { name = \"a\", command = [\"true\"] }").unwrap_err();
    assert!(twice.contains("two steps have the name \"a\""), "{twice}");
}
