//! examples/failing-cycle: a delivery cycle that can't go on.

use crate::{
    kit::Example,
    lead::Lead,
    person::{PATIENCE, until, until_within},
};
use std::fs;

const TILLS: [u16; 2] = [7401, 7402];
const PROOFS: [&str; 8] = [
    "release/shop",
    "health/shop",
    "smoke/shop",
    "gate/unit",
    "check/ledger",
    "check/preflight",
    "freeze",
    "round-trip",
];

impl Example {
    /// Buys something at each till.
    fn buy(&self, customer: &str, cents: u32) {
        for till in TILLS {
            let body = format!(r#"{{"customer":"{customer}","cents":{cents}}}"#);
            assert_eq!(self.ask(till, "POST", "/orders", "", &body).0, 201);
        }
    }

    fn orders(&self, till: u16, customer: &str) -> usize {
        self.ask(till, "GET", &format!("/orders/{customer}"), "", "").1["orders"].as_array().unwrap().len()
    }

    fn waiting(&self) -> u64 {
        TILLS.iter().map(|till| self.ask(*till, "GET", "/health", "", "").1["waiting"].as_u64().unwrap()).sum()
    }

    /// Asks the ledger as one of its roles.
    fn ledger(&self, role: &str, sql: &str) -> String {
        self.does(&["runbook/psql", role, sql]).trim().to_owned()
    }

    fn shop(&self, version: &str, exit: i32) {
        self.does(&["./publish", version]);
        self.by("bob", "run|shop|--now").ended(exit);
    }
}

/// The tills run 1.1.0, and a customer's orders are posted.
fn running() -> Example {
    let example = Example::start("failing-cycle", &[7455, 7499, 7400, 7401, 7402], Some("shop"));
    example.by("bob", "run|shop|--now").ended(0);
    example.shop("1.1.0", 0);
    example.buy("ann", 250);
    until("the orders are posted", || example.ledger("lastgood", "SELECT cents FROM ledger.total") == "500");
    example
}

#[test]
fn code_that_stalls_is_taken_back_and_the_backlog_drains() {
    let example = running();
    example.shop("1.2.0", 0);
    example.buy("ben", 100);
    until("the backlog stands", || example.by("bob", "signal|check|outbox-drains").code == 1);
    assert_eq!(example.waiting(), 2);
    // Forward is closed: the fix does not pass its own test.
    example.shop("2.1.0", 9);
    fs::write(example.path("run/etc/shop.conf"), "cents_max=1\n").unwrap();
    let lead = Lead {
        example: &example,
        level: "L1",
        trigger: "orders are not posted",
        services: "shop",
        to: &["shop=1.1.0"],
        steps: &["roll-back/shop", "put-back/shop"],
        approvers: &[],
        items: &[
            ("errors-normal", "bob", "--statement|as before"),
            ("leftovers-removed", "bob", "--statement|shop.conf is as the release brings it"),
        ],
        proofs: &PROOFS,
    };
    lead.declare();
    lead.carry_out();
    assert_eq!(example.releases("shop"), ["1.1.0", "1.1.0"]);
    assert_eq!(fs::read_to_string(example.path("run/etc/shop.conf")).unwrap(), "cents_max=100000\n");
    until("the backlog drains", || example.waiting() == 0);
    let total = "SELECT cents FROM ledger.total WHERE customer = 'ben'";
    assert_eq!(example.ledger("lastgood", total), "200", "each order once");
    lead.clean();
    lead.unfreeze();
    lead.close();
    assert_eq!(example.orders(7401, "ann") + example.orders(7402, "ben"), 2, "no order is lost");
}

/// The tills ran 2.0.0 for a while: it posted each order three times, past the change log.
fn repeated() -> Example {
    let example = running();
    example.shop("2.0.0", 0);
    example.buy("ben", 100);
    let posted = "SELECT count(*) FROM ledger.posting WHERE customer = 'ben'";
    until("each order is posted three times", || example.ledger("lastgood", posted) == "6");
    for signal in ["repeats", "postings-logged"] {
        example.by("bob", &format!("signal|check|{signal}")).ended(1).says("FIRING");
    }
    example.run(&["runbook/ledger-fits"]).ended(1).says("4 repeated");
    // Forward is closed: the fix does not pass its own test.
    example.shop("2.1.0", 9);
    example
}

/// What the repeats came to is undone, and no order is lost.
fn is_put_right(example: &Example) {
    assert_eq!(example.releases("shop"), ["1.1.0", "1.1.0"]);
    let totals = example.ledger("lastgood", "SELECT customer, cents, orders FROM ledger.total ORDER BY customer");
    assert_eq!(totals, "ann|500|2\nben|200|2");
    assert_eq!(example.ledger("lastgood", "SELECT count(*), count(DISTINCT order_id) FROM ledger.posting"), "4|4");
    assert_eq!(TILLS.map(|till| example.orders(till, "ann") + example.orders(till, "ben")), [2, 2]);
    example.by("bob", "signal|check|postings-logged").ended(0);
    // The change log is on again: what comes now leaves its row.
    example.buy("cleo", 10);
    until("it is posted", || example.waiting() == 0);
    example.by("bob", "signal|check|postings-logged").ended(0);
}

const STATED: [(&str, &str, &str); 4] = [
    ("errors-normal", "bob", "--statement|as before"),
    ("leftovers-removed", "bob", "--statement|none"),
    ("data-reconciled", "carol", "--command|runbook/ledger-fits"),
    ("queues-drained", "carol", "--command|runbook/drained|7401|7402"),
];

#[test]
fn repeated_postings_are_removed_and_what_is_derived_is_built_again() {
    let example = repeated();
    let lead = Lead {
        example: &example,
        level: "L2",
        trigger: "orders are posted three times",
        services: "shop",
        to: &["shop=1.1.0"],
        steps: &["roll-back/shop", "put-back/shop", "command/change-log", "command/remove-repeats", "check/totals"],
        approvers: &["bob"],
        items: &STATED,
        proofs: &PROOFS,
    };
    lead.declare();
    lead.carry_out();
    is_put_right(&example);
    lead.clean();
    lead.unfreeze();
    lead.close();
}

#[test]
fn a_leaked_password_of_the_ledger_is_refused_at_its_door_and_the_tills_go_on() {
    let example = repeated();
    let leaked = fs::read_to_string(example.path("run/secrets/shop")).unwrap();
    fs::write(example.path("leaked"), &leaked).unwrap();
    let items =
        [&STATED[..], &[("credentials-rotated", "dan", "--proof"), ("evidence-verified", "carol", "--proof")]].concat();
    let lead = Lead {
        example: &example,
        level: "L3",
        trigger: "the password of the ledger is out",
        services: "shop",
        to: &["shop=1.1.0"],
        steps: &[
            "roll-back/shop",
            "put-back/shop",
            "command/change-log",
            "command/remove-repeats",
            "check/totals",
            "evidence/preserve",
            "evidence/verify",
            "evidence/annotate",
            "evidence/cut-over",
            "credential/shop/revoke",
            "credential/shop/prove-refused",
            "credential/shop/rotate",
            "credential/shop/prove-consumers",
        ],
        approvers: &["bob", "dan"],
        items: &items,
        proofs: &PROOFS,
    };
    lead.declare();
    lead.carry_out();
    // With the old one nobody comes in any more; the tills, which were not started again, post with the new one.
    let with = |password: &str| {
        let script =
            format!("PGPASSWORD=$(cat {password}) psql -XqAt -h 127.0.0.1 -p 7455 -U shop -d shop -c 'SELECT 1'");
        example.run(&["sh", "-c", &example.as_ours(&script)])
    };
    with("leaked").ended(2).says("password authentication failed");
    with("run/secrets/shop").ended(0);
    is_put_right(&example);
    lead.clean();
    lead.unfreeze();
    lead.close();
    assert!(!example.by("alice", "incident|timeline|i0").out.contains(leaked.trim()), "no secret is told");
}

#[test]
fn preflight_sees_the_job_the_settings_and_the_password_of_the_ledger() {
    let example = Example::start("failing-cycle", &[7455, 7499, 7400, 7401, 7402], Some("shop"));
    let asked = |expected: i32| example.by("bob", "preflight|--for|unfreeze").ended(expected);
    // The scheduler runs the job each minute, and not before; it is started some time after the server.
    let ran = || example.ledger("lastgood", "SELECT count(*) FROM cron.job_run_details WHERE status = 'succeeded'");
    until_within(PATIENCE * 2, "the job has run", || ran() != "0");
    asked(0).says("all is well");
    example.ledger("shop", "SELECT cron.unschedule('rollup')");
    asked(1).says("[preflight-job-missing]");
    example.does(&["runbook/psql", "shop", "ALTER ROLE shop SET statement_timeout = 0"]);
    example.does(&["chmod", "0644", "run/secrets/shop"]);
    asked(1).says("3 failures");
    // Nothing moves forward with it, and the daemon says why.
    example.by("bob", "run|shop|--now").ended(9).says("preflight gate");
}
