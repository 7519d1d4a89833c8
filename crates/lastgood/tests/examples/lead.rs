//! What every incident goes through, from its declaration to its end, with all refusals on the way.

use crate::{kit::Example, person::until};
use serde_json::Value;
use std::fs;

/// An incident of an example.
pub(crate) struct Lead<'a> {
    pub(crate) example: &'a Example,
    pub(crate) level: &'a str,
    pub(crate) trigger: &'a str,
    /// The services it is about, separated by commas.
    pub(crate) services: &'a str,
    /// `--to` of the plan, such as `shop=1.1.0`.
    pub(crate) to: &'a [&'a str],
    /// The steps that its plan must have, in order.
    pub(crate) steps: &'a [&'a str],
    /// Who approves the plan, one after the other; alice asks.
    pub(crate) approvers: &'a [&'a str],
    /// Each item of the checklist: its name, who closes it, and the evidence as it is typed.
    pub(crate) items: &'a [(&'a str, &'a str, &'a str)],
    /// The proofs of the verification.
    pub(crate) proofs: &'a [&'a str],
}

/// The roles as every example gives them out.
const ROLES: [(&str, &str); 5] =
    [("api", "bob"), ("infrastructure", "bob"), ("data", "carol"), ("security", "dan"), ("communications", "dan")];

impl Lead<'_> {
    #[track_caller]
    fn state(&self) -> String {
        self.example.json("alice", "incident|show|i0", 0)["state"].as_str().unwrap().to_owned()
    }

    fn services(&self) -> impl Iterator<Item = &str> {
        self.services.split(',')
    }

    /// Declares it, and sees that nothing moves but back.
    pub(crate) fn declare(&self) {
        let (example, level, services) = (self.example, self.level, self.services);
        let line =
            format!("incident|declare|--level|{level}|--trigger|{}|--services|{services}|--began|20m", self.trigger);
        example.by("alice", &line).ended(0).says("led by person:alice").says("held: claim, merge, promote, deploy");
        for service in self.services() {
            // Whoever asks: the hold and its owner are named.
            for who in ["alice", "bob"] {
                let refused = example.by(who, &format!("run|{service}|--now")).ended(9);
                refused.says("hold-").says("person:alice").says(self.trigger);
            }
            example.by("bob", &format!("hold|check|{service}")).ended(9).says("deploy refused");
        }
        example.by("bob", "incident|assign|i0|--role|data|--to|bob").ended(4).says("[incident-not-commander]");
        for (role, who) in ROLES {
            example.by("alice", &format!("incident|assign|i0|--role|{role}|--to|{who}")).ended(0);
        }
        example.by("alice", "incident|freeze|i0").ended(0).says("frozen");
        assert_eq!(self.state(), "planning");
        until("the declaration reaches the sink", || example.inbox().iter().any(|one| one.contains(self.trigger)));
    }

    /// Makes the plan, gets it approved by the right people, and carries it out.
    pub(crate) fn carry_out(&self) {
        let example = self.example;
        let mut line = "incident|plan|i0".to_owned();
        for to in self.to {
            line += &format!("|--to|{to}");
        }
        let planned = example.json("alice", &line, 0);
        let hash = planned["hash"].as_str().unwrap().to_owned();
        let short = &hash.trim_start_matches("sha256:")[..12];
        let shown = example.json("alice", "incident|show|i0", 0);
        assert_eq!(self.plan_steps(&shown), self.steps, "{shown}");
        assert_eq!(planned["approvals"], self.approvers.len(), "{planned}");
        // Another plan than the one that was seen is not run.
        example.by("alice", "incident|run|i0|--plan|000000000000").ended(6);
        for (already, who) in self.approvers.iter().enumerate() {
            example.by("alice", &format!("incident|run|i0|--plan|{short}")).ended(8).says("a0");
            assert_eq!(self.state(), "planning", "nothing is done before {who} has approved");
            let waiting = format!("{already} of {}", self.approvers.len());
            example.by("bob", "approval|list").ended(0).says(&waiting);
            example.by("alice", &format!("approval|approve|a0|--plan|{short}")).ended(4);
            example.by(who, "approval|approve|a0|--plan|000000000000").ended(1).says("[approval-other-plan]");
            example.by(who, &format!("approval|approve|a0|--plan|{short}")).ended(0);
        }
        example.by("alice", &format!("incident|run|i0|--plan|{short}")).ended(0);
        assert_eq!(self.state(), "cleaning");
        // It is over; nothing is done twice.
        example.by("alice", "incident|run|i0").ended(1).says("[incident-step-illegal]");
    }

    fn plan_steps(&self, shown: &Value) -> Vec<String> {
        let steps = shown["plan"]["steps"].as_array().unwrap();
        steps.iter().map(|one| one["step"].as_str().unwrap().to_owned()).collect()
    }

    /// Closes each item by whose it is, with its kind of evidence, and by nobody else.
    pub(crate) fn clean(&self) {
        let example = self.example;
        let list = example.json("alice", "checklist|list|i0", 0);
        let mut open: Vec<&str> = list.as_array().unwrap().iter().map(|one| one["item"].as_str().unwrap()).collect();
        for (name, who, evidence) in self.items {
            let line = example.as_ours(&format!("checklist|done|i0|{name}|{evidence}"));
            example.by("mallory", &line).ended(4);
            example.by(who, &line).ended(0);
            open.retain(|one| one != name);
        }
        assert!(open.is_empty(), "nobody has closed {open:?}");
    }

    /// Proves that all is well, prints the table with what is missing first, and lifts stage by stage.
    pub(crate) fn unfreeze(&self) {
        let example = self.example;
        let table = example.by("alice", "incident|unfreeze|i0|--yes").ended(12).says("stays frozen");
        let rows: Vec<&str> =
            table.out.lines().chain(table.err.lines()).filter(|line| line.starts_with("  ")).collect();
        assert_eq!(rows.len(), 9, "the whole table: {table:?}");
        let (unmet, met): (Vec<&str>, Vec<&str>) = rows.iter().partition(|row| row.trim().starts_with("NO"));
        assert_eq!(rows, [unmet.clone(), met].concat(), "what is missing comes first");
        assert!(unmet.len() >= 3, "{unmet:?}");
        let verified = example.json("alice", "incident|verify|i0", 0);
        let names: Vec<&str> =
            verified["checks"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, self.proofs);
        example.by("alice", "incident|unfreeze|i0|--yes").ended(9).says("nobody owns").says("message");
        example.by("alice", "incident|next-owner|i0|--to|bob").ended(0);
        let part = "incident|update|i0|--message|complete|--field|impact=orders";
        example.by("dan", part).ended(2).says("update i0 --message complete --field impact=… --field resolution=…");
        let complete = "incident|update|i0|--message|complete|--field|impact=orders|--field|resolution=taken back";
        example.by("dan", complete).ended(0);
        until("the complete message reaches the sink", || {
            example.inbox().iter().any(|one| one.contains("is over") && one.contains("taken back"))
        });
        until("it has been stable for long enough", || {
            example.by("alice", "incident|show|i0").ended(0).out.contains("yes  stable")
        });
        example.by("bob", "incident|unfreeze|i0|--yes").ended(4);
        let lifted = example.by("alice", "incident|unfreeze|i0|--yes|--wait").ended(0);
        lifted.says("nothing is held any more");
        assert_eq!(self.state(), "closed-pending-rca");
    }

    /// Hands in what is owed, has it accepted, and closes.
    pub(crate) fn close(&self) {
        let example = self.example;
        // Deploys may go on, but for the analysis.
        for service in self.services() {
            example.by("bob", &format!("run|{service}|--now")).ended(9).says("an analysis is owed");
        }
        example.by("alice", "incident|close|i0|--reason|over").ended(9).says("root cause");
        example.by("carol", "incident|rca|i0|text was compared with a number").ended(0);
        example.by("bob", "incident|follow-up|add|i0|test against a real ledger|--owner|bob|--due|14d").ended(0);
        example.by("bob", "incident|safeguard|i0|the gate asks a real psql").ended(0);
        example.by("alice", "incident|report|i0|--output|run/report.md").ended(0);
        example.by("alice", "incident|report|i0|--html|--output|run/report.html").ended(0);
        let report = fs::read_to_string(example.path("run/report.md")).unwrap();
        let title = format!("# Incident i0: {}", self.trigger);
        for part in
            [title.as_str(), "## Timeline", "text was compared with a number", "data: person:carol", "| Frozen |"]
        {
            assert!(report.contains(part), "{part} is not in\n{report}");
        }
        for step in self.steps {
            assert!(report.contains(step), "{step} is not in\n{report}");
        }
        for service in self.services() {
            example.by("carol", &format!("rca|submit|{service}|--file|run/report.md")).ended(0);
            example.by("carol", &format!("rca|accept|{service}")).ended(4);
            example.by("bob", &format!("rca|accept|{service}")).ended(0);
        }
        example.by("alice", "incident|close|i0|--reason|all is said").ended(0);
        example.by("alice", "incident|list").ended(0).says("no incident is open");
        example.by("alice", "evidence|verify").ended(0).says("the evidence holds");
    }
}
