//! What a step needs is asked right before it is first tried, and nothing is tried without it.

use super::*;
use lastgood_domain::operations::incident::plan::RiskLevel;
use std::cell::RefCell;

const NEEDS: &str = r#"
[runbook.step.rebuild]
area = "application"
do = [{ command = ["rebuild"] }]
precondition = { ask = [{ command = ["writers-stopped"] }] }
undo = "rebuild it again"
attempts = 2
"#;

fn config(besides: &str) -> Config {
    Config::parse(&(NEEDS.to_owned() + besides), Path::new("/lastgood.toml"), Path::new("/")).unwrap()
}

/// Answers the question for what a step needs and tries the step, as often as it has answers; says what it was asked.
struct Fickle<'c> {
    config: &'c Config,
    needs: RefCell<Vec<Result<(), &'static str>>>,
    tries: RefCell<Vec<bool>>,
    heard: RefCell<Vec<&'static str>>,
}

impl<'c> Fickle<'c> {
    fn new(config: &'c Config, needs: &[Result<(), &'static str>], tries: &[bool]) -> Self {
        let (needs, tries) = (RefCell::new(needs.to_vec()), RefCell::new(tries.to_vec()));
        Self { config, needs, tries, heard: RefCell::default() }
    }
}

impl Doer for Fickle<'_> {
    fn config(&self) -> &Config {
        self.config
    }

    fn incident(&self) -> IncidentId {
        ID
    }

    fn ask(&self, _: &Step, before: Before) -> Asked {
        self.heard.borrow_mut().push(match before {
            Before::Never => "ask",
            Before::Failed => "ask after a failure",
            Before::CutOff => "ask after a cut",
        });
        Asked::NotDone
    }

    fn precondition(&self, _: &Step, _: &Planned) -> Result<String, Failure> {
        self.heard.borrow_mut().push("needs");
        let answer = self.needs.borrow_mut().remove(0);
        answer
            .map(|()| "no writers".into())
            .map_err(|code| Failure::new(code, "writers are there", Some("stop the writers")))
    }

    fn perform(&self, _: &Step) -> Outcome {
        self.heard.borrow_mut().push("try");
        match self.tries.borrow_mut().remove(0) {
            true => Outcome::Done { evidence: "done".into(), output: None },
            false => Outcome::Failed { why: "exit status 1".into() },
        }
    }
}

fn memory(config: &Config) -> (Memory, Digest) {
    let mut memory = Memory::new(Level::L1);
    let made = plan(config, &memory.state.incidents.all[&ID], &BTreeMap::new(), &BTreeMap::new(), &BTreeMap::new());
    let hash = hash_of(&made);
    let events = take(&memory.state, ID, (&made, hash), &actor("alice"), memory.at()).unwrap();
    memory.write("alice", events);
    (memory, hash)
}

fn run(memory: &mut Memory, doer: &Fickle<'_>, hash: Digest) -> Told {
    carry_out(memory, doer, &actor("alice"), Some(hash), &|| Timestamp(2_000), &mut |_, _| {}).unwrap()
}

fn again(memory: &mut Memory) {
    let outcome = Outcome::Again { reason: Reason::new("they are gone").unwrap() };
    let planned = memory.state.incidents.all[&ID].planned.as_ref();
    let event = incident::plan::settled(ID, planned, "command/rebuild", outcome).unwrap();
    memory.write("alice", vec![Event::Incident { incident: ID, event: IncidentEvent::Plan(event) }]);
}

#[test]
fn a_step_is_tried_only_where_what_it_needs_is_so_and_a_person_who_mended_that_goes_on() {
    let config = config("");
    let (mut memory, hash) = memory(&config);
    // Not so, and nobody can tell, are the same: it is not tried.
    let doer = Fickle::new(&config, &[Err("probe-failed"), Err("probe-timeout"), Ok(())], &[true]);
    for code in ["probe-failed", "probe-timeout"] {
        let Told::Stuck { step, why } = run(&mut memory, &doer, hash) else { panic!("it went on") };
        assert_eq!(step, "command/rebuild");
        assert_eq!(why, format!("writers are there [{code}]; stop the writers"));
        // Nobody is asked again without a person's word.
        assert!(matches!(run(&mut memory, &doer, hash), Told::Stuck { .. }));
        again(&mut memory);
    }
    assert_eq!(run(&mut memory, &doer, hash), Told::Done);
    assert_eq!(*doer.heard.borrow(), ["ask", "needs", "ask", "needs", "ask", "needs", "try"]);
}

#[test]
fn a_second_try_asks_for_nothing_again_and_a_step_cut_off_before_its_first_asks_as_if_never_begun() {
    let config = config("");
    let (mut memory, hash) = memory(&config);
    // As a kill between the record and the question leaves it.
    memory.take_on(&hash);
    let begun = PlanEvent::Begun { step: "command/rebuild".into() };
    memory.write("alice", vec![Event::Incident { incident: ID, event: IncidentEvent::Plan(begun) }]);
    let doer = Fickle::new(&config, &[Ok(())], &[false, true]);
    assert_eq!(run(&mut memory, &doer, hash), Told::Done);
    assert_eq!(*doer.heard.borrow(), ["ask", "needs", "try", "ask after a failure", "try"]);
}

#[test]
fn what_was_cut_off_after_its_needs_were_seen_is_asked_about_and_needs_nothing_more() {
    let config = config("");
    let (mut memory, hash) = memory(&config);
    memory.take_on(&hash);
    let step = || "command/rebuild".to_owned();
    for event in [PlanEvent::Begun { step: step() }, PlanEvent::Met { step: step(), evidence: "seen".into() }] {
        memory.write("alice", vec![Event::Incident { incident: ID, event: IncidentEvent::Plan(event) }]);
    }
    let doer = Fickle::new(&config, &[], &[true]);
    assert_eq!(run(&mut memory, &doer, hash), Told::Done);
    assert_eq!(*doer.heard.borrow(), ["ask after a cut", "try"]);
}

#[test]
fn what_was_cut_off_in_an_earlier_plan_is_asked_about_and_needs_it_anew() {
    let config = config("");
    let (mut memory, hash) = memory(&config);
    memory.take_on(&hash);
    let step = || "command/rebuild".to_owned();
    for event in [PlanEvent::Begun { step: step() }, PlanEvent::Met { step: step(), evidence: "seen".into() }] {
        memory.write("alice", vec![Event::Incident { incident: ID, event: IncidentEvent::Plan(event) }]);
    }
    let none = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let made = plan(&config, &memory.state.incidents.all[&ID], &none.0, &none.1, &none.2);
    let events = take(&memory.state, ID, (&made, hash_of(&made)), &actor("alice"), memory.at()).unwrap();
    memory.write("alice", events);
    let doer = Fickle::new(&config, &[Err("probe-failed"), Ok(())], &[true]);
    assert!(matches!(run(&mut memory, &doer, hash), Told::Stuck { .. }));
    assert_eq!(*doer.heard.borrow(), ["ask after a cut", "needs"], "the writers are back");
    again(&mut memory);
    assert_eq!(run(&mut memory, &doer, hash), Told::Done);
}

#[test]
fn an_approval_that_ends_while_a_need_is_asked_for_lets_nothing_be_tried() {
    let config = config("[runbook]\napprovals = { L1 = 1 }\n");
    let (mut memory, hash) = memory(&config);
    memory.approve(hash);
    let doer = Fickle::new(&config, &[Ok(())], &[true]);
    let day = 24 * 60 * 60_000;
    let now = || Timestamp(if doer.heard.borrow().contains(&"needs") { 2 * day } else { 2_000 });
    let told = carry_out(&mut memory, &doer, &actor("alice"), Some(hash), &now, &mut |_, _| {}).unwrap();
    let Told::Stuck { why, .. } = told else { panic!("{told:?}") };
    assert!(why.contains("approval of the plan ended"), "{why}");
    assert_eq!(*doer.heard.borrow(), ["ask", "needs"]);
}

#[test]
fn needs_and_risks_are_part_of_what_is_approved_and_what_is_severe_is_named() {
    let severe = "risk = { level = \"severe\", what = \"readers see no totals\" }\n";
    let incident = Memory::new(Level::L1).state.incidents.all[&ID].clone();
    let none = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let of = |config: &Config| plan(config, &incident, &none.0, &none.1, &none.2);
    let plain = of(&config(""));
    assert_eq!(plain.steps[0].risk.as_ref().unwrap().level, RiskLevel::Moderate);
    let config = config(severe);
    let risky = of(&config);
    assert_ne!(hash_of(&plain), hash_of(&risky));
    let mut without = risky.clone();
    without.steps[0].precondition = None;
    assert_ne!(hash_of(&without), hash_of(&risky));

    let (mut memory, hash) = memory(&config);
    let asked = ask(&memory.state, ID, (hash, 1), &actor("alice"), memory.at()).unwrap();
    memory.write("alice", asked);
    let request = &memory.state.approvals.all.last_key_value().unwrap().1.request;
    assert_eq!(request.what, format!("run plan {} of incident i0, 1 steps; severe: command/rebuild", hash.short()));
}

#[test]
fn a_precondition_is_one_question_to_a_database_that_there_is_and_a_risk_says_what() {
    let refused = |besides: &str| {
        let text = NEEDS.replace("precondition = { ask = [{ command = [\"writers-stopped\"] }] }\n", "") + besides;
        Config::parse(&text, Path::new("/lastgood.toml"), Path::new("/")).unwrap_err().to_string()
    };
    let sql = "sql = { database = \"app\", query = \"SELECT 1\" }";
    assert!(refused(&format!("precondition = {{ {sql} }}\n")).contains("there is no [database.app]"));
    let both = format!("precondition = {{ ask = [{{ command = [\"x\"] }}], {sql} }}\n");
    assert!(refused(&both).contains("it has ask and sql"));
    assert!(refused("precondition = {}\n").contains("nothing is done"));
    assert!(refused("risk = { level = \"severe\", what = \" \" }\n").contains("does not say what may go wrong"));
}
