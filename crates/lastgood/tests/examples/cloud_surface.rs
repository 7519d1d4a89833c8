//! examples/cloud-surface: a public surface with an integrity doubt or a leaked key.

use crate::{kit::Example, lead::Lead, person::until};
use rusqlite::Connection;
use serde_json::json;
use std::fs;

const PORTS: [u16; 7] = [7555, 7599, 7500, 7501, 7502, 7503, 7504];

impl Example {
    fn publish(&self, part: &str, version: &str, exit: i32) {
        self.does(&["./publish", part, version]);
        self.by("bob", &format!("run|{part}|--now")).ended(exit);
    }

    fn log_in(&self, name: &str) -> String {
        let password = fs::read_to_string(self.path("run/secrets/probe")).unwrap();
        let (status, said) =
            self.ask(7502, "POST", "/login", "", &json!({ "name": name, "password": password }).to_string());
        assert_eq!(status, 200, "{said}");
        said["token"].as_str().unwrap().to_owned()
    }

    fn write(&self, name: &str) {
        let token = self.log_in(name);
        assert_eq!(self.ask(7503, "POST", "/documents", &token, "").0, 201);
    }

    fn documents(&self, name: &str) -> String {
        self.ask(7503, "GET", "/documents", &self.log_in(name), "").1["documents"].to_string()
    }

    fn trail(&self, sql: &str) -> String {
        self.does(&["runbook/psql", "lastgood", "lastgood", sql]).trim().to_owned()
    }

    /// Offers a newer release of each part: what keeps it back after the incident is the analysis alone.
    fn offer(&self, parts: &[&str]) {
        for part in parts {
            self.does(&["./publish", part, "3.0.0"]);
        }
    }

    /// Pushes a change to main, as somebody who merges does.
    fn merge(&self, exit: i32) -> crate::person::Said {
        let script = "rm -rf run/clone && git clone -q run/repository.git run/clone 2> /dev/null; cd run/clone && \
                      git -c user.name=bob -c user.email=bob@localhost commit -q --allow-empty -m change && \
                      git push -q origin HEAD:main";
        self.run(&["sh", "-c", script]).ended(exit)
    }
}

/// Everything runs 1.0.0, and both tenants have a document that is noted.
fn running() -> Example {
    let example = Example::start("cloud-surface", &PORTS, None);
    for part in ["pages", "login", "api", "reports"] {
        example.by("bob", &format!("run|{part}|--now")).ended(0);
    }
    example.write("ann");
    example.write("ben");
    until("the trail", || example.trail("SELECT count(*) FROM audit.entry") == "2");
    example.merge(0);
    example
}

/// What is outside is stopped while a hold stands, and the internal service is not.
fn outside_is_stopped(example: &Example) {
    let refused = example.merge(1);
    refused.says("is held by hold-").says("person:alice");
    example.run(&["runbook/claims", "claim"]).ended(75);
    example.publish("reports", "1.1.0", 0);
}

#[test]
fn pages_that_are_not_ours_are_taken_back_while_holds_stop_merges_and_claims() {
    let example = running();
    example.publish("pages", "2.0.0", 0);
    fs::write(example.path("run/etc/headers.conf"), "Content-Security-Policy: default-src *\n").unwrap();
    let page = || example.ask(7501, "GET", "/", "", "").1.to_string();
    assert!(page().contains("stat.example.net"));
    let lead = Lead {
        example: &example,
        level: "L1",
        trigger: "the page loads a strange script",
        services: "pages",
        to: &["pages=1.0.0"],
        steps: &["roll-back/pages", "put-back/pages"],
        approvers: &[],
        items: &[
            ("errors-normal", "bob", "--statement|as before"),
            ("leftovers-removed", "bob", "--statement|the headers are as the release brings them"),
        ],
        proofs: &[
            "release/pages",
            "health/pages",
            "smoke/pages",
            "gate/pages",
            "check/tenants",
            "check/people",
            "freeze",
            "round-trip",
        ],
    };
    lead.declare();
    // Bob's own hold by label stands beside the incident's, and falls only when it is lifted itself.
    let own = "hold|set|--label|surface=public|--kind|deploy|--reason|the page looks odd";
    example.by("bob", own).ended(0).says("hold-4 stops deploy");
    example.by("bob", "run|login|--now").ended(9).says("hold-4").says("person:bob");
    outside_is_stopped(&example);
    lead.carry_out();
    assert!(!page().contains("stat.example.net"));
    let headers = fs::read_to_string(example.path("run/etc/headers.conf")).unwrap();
    assert_eq!(headers, "Content-Security-Policy: default-src 'self'\n");
    lead.clean();
    lead.unfreeze();
    example.by("bob", "hold|list").ended(0).says("hold-4 stops deploy");
    example.by("alice", "hold|lift|hold-4|--reason|it was this").ended(0);
    example.offer(&["pages"]);
    lead.close();
    example.by("bob", "run|pages|--now").ended(0);
    assert_eq!(example.releases("pages"), ["3.0.0"]);
    example.merge(0);
    example.run(&["runbook/claims", "claim"]).ended(0);
}

#[test]
fn documents_in_the_wrong_hands_are_taken_back_with_their_data_and_their_trail() {
    let example = running();
    example.publish("api", "2.0.0", 0);
    example.write("ben");
    assert_eq!(example.documents("ann"), r#"["ann","ben"]"#, "ann reads what is ben's");
    until("the signal fires", || example.by("bob", "signal|check|tenants-mixed").code == 1);
    let lead = Lead {
        example: &example,
        level: "L2",
        trigger: "a tenant reads what is another's",
        services: "api",
        to: &["api=1.0.0"],
        steps: &["roll-back/api", "put-back/api", "command/quarantine", "check/tenants-apart"],
        approvers: &["bob"],
        items: &[
            ("errors-normal", "bob", "--statement|as before"),
            ("leftovers-removed", "bob", "--statement|none"),
            ("data-reconciled", "carol", "--command|runbook/tenants-apart"),
            ("queues-drained", "carol", "--statement|nothing waits"),
        ],
        proofs: &[
            "release/api",
            "health/api",
            "smoke/api",
            "gate/api",
            "check/tenants",
            "check/people",
            "freeze",
            "round-trip",
        ],
    };
    lead.declare();
    outside_is_stopped(&example);
    lead.carry_out();
    assert_eq!(example.releases("api"), ["1.0.0"]);
    // The data is exactly that of before: the tables of 1.0.0, and each tenant's own document.
    let data = Connection::open(example.path("run/data/api/api.sqlite")).unwrap();
    assert_eq!(data.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    assert_eq!((example.documents("ann").as_str(), example.documents("ben").as_str()), (r#"["ann"]"#, r#"["ben"]"#));
    assert_eq!(example.trail("SELECT count(*) FROM audit.entry"), "2");
    assert_eq!(example.trail("SELECT name, document_tenant FROM audit.quarantine"), "ben|north", "kept, not deleted");
    lead.clean();
    lead.unfreeze();
    example.offer(&["api"]);
    lead.close();
}

#[test]
fn a_leaked_session_key_is_refused_and_replaced_and_people_log_in_again() {
    let example = running();
    example.publish("login", "1.1.0", 0);
    let leaked = fs::read_to_string(example.path("run/secrets/session-key")).unwrap();
    let old = example.log_in("ben");
    let lead = Lead {
        example: &example,
        level: "L3",
        trigger: "the session key was in a log",
        services: "api,login,pages",
        to: &[],
        steps: &[
            "roll-back/api",
            "roll-back/login",
            "roll-back/pages",
            "put-back/api",
            "put-back/login",
            "put-back/pages",
            "command/quarantine",
            "check/tenants-apart",
            "evidence/preserve",
            "evidence/verify",
            "evidence/annotate",
            "evidence/cut-over",
            "credential/session-key/revoke",
            "credential/session-key/prove-refused",
            "credential/session-key/rotate",
            "credential/session-key/prove-consumers",
        ],
        approvers: &["dan", "carol"],
        items: &[
            ("errors-normal", "bob", "--statement|as before"),
            ("leftovers-removed", "bob", "--statement|the log is deleted"),
            ("data-reconciled", "carol", "--command|runbook/tenants-apart"),
            ("queues-drained", "carol", "--statement|nothing waits"),
            ("credentials-rotated", "dan", "--proof"),
            ("evidence-verified", "carol", "--proof"),
            ("people-told", "dan", "--statement|told at the log-in"),
        ],
        proofs: &[
            "release/api",
            "health/api",
            "smoke/api",
            "release/login",
            "health/login",
            "smoke/login",
            "release/pages",
            "health/pages",
            "smoke/pages",
            "gate/api",
            "gate/login",
            "gate/pages",
            "check/tenants",
            "check/people",
            "freeze",
            "round-trip",
        ],
    };
    lead.declare();
    outside_is_stopped(&example);
    lead.carry_out();
    // What the old key signed is worth nothing, whoever signed it; people log in again.
    let kept = fs::read_to_string(example.path("run/secrets/session-key")).unwrap();
    assert_ne!(kept, leaked);
    assert_eq!(example.ask(7503, "GET", "/documents", &old, "").0, 401);
    assert_eq!(example.documents("ben"), r#"["ben"]"#);
    assert_eq!(example.releases("login"), ["1.1.0"], "what is well stays where it is");
    let update = "incident|update|i0|--field|impact=everybody was logged out|--field|status=a new key is in use";
    example.by("dan", update).ended(2).says("people is missing");
    example.by("dan", &format!("{update}|--field|people=3")).ended(0).says("3 people");
    lead.clean();
    lead.unfreeze();
    example.offer(&["api", "login", "pages"]);
    lead.close();
    assert!(!example.by("alice", "incident|timeline|i0").out.contains(leaked.trim()));
}
