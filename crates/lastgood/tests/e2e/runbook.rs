//! What an incident does: the plan by level, step by step, cut off anywhere, with real data and real processes.

use crate::{
    kit::{Farm, Plan, kept_aside, said, secret_file, until},
    postgres_kit::{PASSWORD, Postgres},
    systemd_kit::in_systemd,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
};

/// A runbook with one command that takes a while and says what it did.
fn runbook(farm: &Farm, besides: &str) -> String {
    let (did, done) = (farm.path("did"), farm.path("done"));
    let script = format!("echo once >> {}; sleep 2; touch {}", did.display(), done.display());
    format!(
        "\n[runbook.step.rebuild]\narea = \"data\"\ndo = [{{ command = [\"sh\", \"-c\", \"{script}\"] }}]\n{besides}\n"
    )
}

fn verify(farm: &Farm) -> String {
    format!(
        "verify = [{{ command = [\"test\", \"-e\", \"{}\"] }}]\nundo = \"rebuild it again\"",
        farm.path("done").display()
    )
}

fn declare(farm: &Farm, level: &str) {
    farm.lastgood(&["incident", "declare", "--level", level, "--trigger", "totals are wrong"]).ended(0).says("i0");
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Begins to run the plan, waits until its command has begun, and kills the one who runs it, alone.
fn cut_off(farm: &Farm) {
    let mut command = farm.command(&["incident", "run", "i0"]);
    // Not through `timeout`: exactly this process is killed.
    let arguments: Vec<_> = command.get_args().skip(3).map(ToOwned::to_owned).collect();
    let mut direct = Command::new(&arguments[0]);
    direct.args(&arguments[1..]).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command = direct;
    let mut running = command.spawn().unwrap();
    until("the command begins", || lines(&farm.path("did")) == 1);
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn an_incident_takes_code_and_data_back_rebuilds_what_is_derived_and_puts_files_back() {
    let farm = Farm::running(Plan::default());
    let file = format!(
        "[runbook.file.version]\nservice = \"notebook\"\npath = \"{}\"\nfrom = \"VERSION\"\n",
        farm.path("etc-version").display()
    );
    farm.configure(&(farm.config() + &runbook(&farm, &verify(&farm)) + &file));
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    fs::write(farm.path("etc-version"), "edited by hand").unwrap();
    farm.write("alice", "written on 2.0.0");
    declare(&farm, "L2");
    // Everything else waits.
    farm.publish("2.5.0");
    farm.lastgood(&["run"]).ended(9).says("totals are wrong");
    let plan = farm.lastgood(&["incident", "plan", "i0", "--to", "notebook=1.0.0"]);
    plan.ended(0).says("notebook goes to 1.0.0").says("rebuild is carried out").says("undone by: rebuild it again");
    farm.lastgood(&["incident", "run", "i0"]).ended(0);
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
        assert_eq!(kept_aside(&farm, name).len(), 1, "{name}: the newer data is kept");
    }
    assert_eq!(lines(&farm.path("did")), 1);
    assert_eq!(fs::read_to_string(farm.path("etc-version")).unwrap().trim(), "1.0.0");
    assert_eq!(fs::read_to_string(farm.path("etc-version.before-i0")).unwrap(), "edited by hand");
    let shown = farm.json(&["incident", "show", "i0"]);
    assert_eq!(shown["state"], "cleaning");
    let steps: Vec<&str> =
        shown["plan"]["steps"].as_array().unwrap().iter().map(|one| one["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["roll-back/notebook", "put-back/notebook", "command/rebuild"]);
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn a_plan_says_whose_data_it_does_not_take_back() {
    let farm = Farm::running(Plan { instances: vec![("alice", "probe")], ..Plan::default() });
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    farm.write("alice", "written on 1.1.0");
    declare(&farm, "L2");
    // It can be left by code alone, which keeps every write.
    let stays = "notebook goes back to 1.0.0; the data of alice (of 1.1.0) stays as it is";
    let planned = farm.lastgood(&["incident", "plan", "i0", "--to", "notebook=1.0.0"]).ended(0).says(stays);
    planned.says("moves 1 of 1 instance: alice; none is in use").says("data now: alice of 1.1.0; configuration ");
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    // It is there already, and its data is as it was left.
    farm.lastgood(&["incident", "plan", "i0"]).ended(0).says(stays);
    farm.lastgood(&["incident", "run", "i0"]).ended(0).says("the data of alice (of 1.1.0) stays as it is");
    assert!(farm.notes("alice").contains(&"written on 1.1.0".to_owned()));
}

#[test]
fn what_a_step_starts_for_good_keeps_nobody_from_driving_the_plan_on() {
    let farm = Farm::running(Plan::default());
    let (did, seen) = (farm.path("did"), farm.path("seen"));
    let keys = format!(
        "\n[runbook.step.rebuild]\narea = \"data\"\nundo = \"rebuild it again\"\n\
         do = [{{ command = [\"sh\", \"-c\", \"sleep 20 & echo once >> {}\"] }}]\n\
         [runbook.check.seen]\nask = [{{ command = [\"test\", \"-e\", \"{}\"] }}]\n",
        did.display(),
        seen.display()
    );
    farm.configure(&(farm.config() + &keys));
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    declare(&farm, "L2");
    farm.lastgood(&["incident", "plan", "i0", "--to", "notebook=1.0.0"]).ended(0);
    // No daemon drives: the instances that go back are started by this command, and so is what the step leaves behind.
    farm.lastgood(&["incident", "run", "i0"]).ended(1).says("check/seen FAILED");
    fs::write(&seen, "").unwrap();
    farm.lastgood(&["incident", "step", "i0", "check/seen", "--again", "--reason", "it is there"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0);
    assert_eq!((lines(&did), farm.version("alice").as_str()), (1, "1.0.0"));
}

#[test]
fn a_step_cut_off_in_its_middle_is_finished_and_never_done_twice() {
    let farm = Farm::running(Plan::default());
    farm.configure(&(farm.config() + &runbook(&farm, &verify(&farm))));
    declare(&farm, "L2");
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
    cut_off(&farm);
    let shown = farm.json(&["incident", "show", "i0"]);
    assert_eq!(shown["plan"]["steps"][2]["state"], "begun");
    // What outlived its driver is waited for, and then asked about.
    farm.lastgood(&["incident", "run", "i0"]).ended(0).says("command/rebuild done: it is so already");
    assert_eq!(lines(&farm.path("did")), 1);
}

#[test]
fn a_step_that_nobody_can_tell_about_waits_for_a_person() {
    let farm = Farm::running(Plan::default());
    farm.configure(&(farm.config() + &runbook(&farm, "undo = \"rebuild it again\"")));
    declare(&farm, "L2");
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
    cut_off(&farm);
    farm.lastgood(&["incident", "run", "i0"]).ended(1).says("CANNOT TELL");
    farm.lastgood(&["incident", "run", "i0"]).ended(1);
    assert_eq!(lines(&farm.path("did")), 1);
    let done = ["incident", "step", "i0", "command/rebuild", "--done", "--reason", "the totals fit"];
    farm.lastgood(&done).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0);
    assert_eq!(lines(&farm.path("did")), 1);
}

#[test]
fn a_step_that_was_cut_off_is_not_done_again_unasked_by_a_plan_made_anew_or_for_a_higher_level() {
    let farm = Farm::running(Plan::default());
    farm.configure(&(farm.config() + &runbook(&farm, "undo = \"rebuild it again\"")));
    declare(&farm, "L2");
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
    cut_off(&farm);
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(1).says("CANNOT TELL");
    farm.lastgood(&["incident", "level", "i0", "L3", "--reason", "the record is wrong too"]).ended(0);
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(8).says("asked for as a0");
    said(farm.command(&["approval", "approve", "a0"]).env("SUDO_USER", "bob")).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(1).says("CANNOT TELL");
    assert_eq!(lines(&farm.path("did")), 1);
    farm.lastgood(&["incident", "step", "i0", "command/rebuild", "--again", "--reason", "half of it"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0);
    assert_eq!(lines(&farm.path("did")), 2);
}

#[test]
fn a_plan_whose_steps_are_configured_otherwise_since_is_not_run() {
    let farm = Farm::running(Plan::default());
    farm.configure(&(farm.config() + &runbook(&farm, &verify(&farm))));
    declare(&farm, "L2");
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
    farm.configure(&(farm.config() + &runbook(&farm, "repeatable = true\nundo = \"another\"")));
    farm.lastgood(&["incident", "run", "i0"]).ended(9).says("incident-plan-stale");
    assert_eq!(lines(&farm.path("did")), 0);
}

#[test]
fn a_drill_says_what_it_would_do_and_touches_nothing() {
    let farm = Farm::running(Plan::default());
    farm.configure(&(farm.config() + &runbook(&farm, &verify(&farm))));
    let declare = ["incident", "declare", "--level", "L3", "--trigger", "what if", "--drill"];
    farm.lastgood(&declare).ended(0).says("nothing is held");
    let pids = farm.pids();
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0).says("a drill: nothing was done");
    assert_eq!(lines(&farm.path("did")), 0);
    assert_eq!(farm.pids(), pids);
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    let Value::Array(open) = farm.json(&["incident", "list"]) else { panic!("no list") };
    assert_eq!(open[0]["drill"], true);
}

fn script(farm: &Farm, name: &str, text: &str) {
    fs::write(farm.path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(farm.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_credential_that_is_still_accepted_after_it_was_revoked_stops_the_plan() {
    let farm = Farm::running(Plan::default());
    let leaked = "[secret.token]\nfile = \"token\"\n\n[credential.token]\nsecret = \"token\"\nkind = \"file\"\n\
                  attempt = [\"./attempt\"]\nreload = [\"./reload\"]\n";
    farm.configure(&(farm.config() + leaked));
    secret_file(&farm.path("token"), "t0ken-that-leaked");
    fs::copy(farm.path("token"), farm.path("served")).unwrap();
    script(&farm, "attempt", "cmp -s \"$LASTGOOD_CREDENTIAL_FILE\" served && exit 0; exit 77");
    // It says that it was done, and goes on accepting the old one.
    script(&farm, "reload", "exit 0");
    declare(&farm, "L3");
    // What is revoked never comes back: somebody else must agree.
    farm.lastgood(&["incident", "plan", "i0"]).ended(0).says("IRREVERSIBLE").says("to be approved by 1");
    farm.lastgood(&["incident", "run", "i0"]).ended(8).says("asked for as a0");
    let by_another = |arguments: &[&str]| said(farm.command(arguments).env("SUDO_USER", "bob"));
    by_another(&["approval", "approve", "a0"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(1).says("credential/token/").says("still accepted");
    assert_eq!(fs::read_to_string(farm.path("served")).unwrap(), "t0ken-that-leaked");
    let stuck = farm.json(&["incident", "show", "i0"])["plan"]["stuck"].as_str().unwrap().to_owned();
    // One person's word is no proof, neither for the step nor for the item.
    let word = ["incident", "step", "i0", &stuck, "--done", "--reason", "believe me"];
    farm.lastgood(&word).ended(1).says("[incident-step-proof]").says("--for 2d");
    farm.lastgood(&[&word[..], &["--for", "1d"]].concat()).ended(8).says("until a second person has approved a1");
    farm.lastgood(&["incident", "run", "i0"]).ended(1).says("still accepted");
    let item = ["checklist", "done", "i0", "credentials-rotated"];
    farm.lastgood(&[&item[..], &["--statement", "rotated"]].concat()).ended(9).says("--proof");
    farm.lastgood(&[&item[..], &["--proof"]].concat()).ended(1);
    by_another(&["approval", "reject", "a1", "--reason", "it is still accepted"]).ended(0);
    farm.lastgood(&[&word[..], &["--for", "1d"]].concat()).ended(3);
    script(&farm, "reload", "cp token served");
    assert!(Command::new("./reload").current_dir(farm.path("")).status().unwrap().success());
    let again = ["incident", "step", "i0", &stuck, "--again", "--reason", "its reload is mended"];
    farm.lastgood(&again).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0).says("credential/token/prove-consumers done");
    let (token, served) = (fs::read_to_string(farm.path("token")), fs::read_to_string(farm.path("served")));
    assert_ne!(token.as_ref().unwrap(), "t0ken-that-leaked");
    assert_eq!(token.unwrap(), served.unwrap());
    farm.lastgood(&[&item[..], &["--proof"]].concat()).ended(0).says("proved: token by the plan");
    let evidence = ["checklist", "done", "i0", "evidence-verified"];
    farm.lastgood(&[&evidence[..], &["--command", "/bin/true"]].concat()).ended(9);
    farm.lastgood(&[&evidence[..], &["--proof"]].concat()).ended(0).says("records verified");
    // Neither is said anywhere.
    let log = farm.lastgood(&["incident", "timeline", "i0"]).ended(0);
    assert!(!log.out.contains("t0ken"), "{}", log.out);
    assert!(farm.log().contains("annotated"));
}

#[test]
fn with_a_second_persons_word_a_plan_goes_on_without_a_proof_and_its_time_is_shown() {
    let farm = Farm::running(Plan::default());
    let check = "\n[runbook.check.totals]\nask = [{ command = [\"/bin/false\"] }]\n";
    farm.configure(&(farm.config() + check));
    declare(&farm, "L2");
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"])
        .ended(1)
        .says("check/totals")
        .says("with a second person --done --for 2d");
    let settle = ["incident", "step", "i0", "check/totals", "--done", "--for", "1d", "--reason", "known rounding"];
    farm.lastgood(&settle).ended(8).says("approval approve a0");
    said(farm.command(&["approval", "approve", "a0"]).env("SUDO_USER", "bob")).ended(0);
    farm.lastgood(&settle).ended(0).says("signed by a0 until 20");
    farm.lastgood(&["incident", "run", "i0"]).ended(0).says("every step is done");
    farm.lastgood(&["incident", "timeline", "i0"]).ended(0).says("without what check/totals should prove");
    // How long what was done took is known of every plan, also of one that another has taken the place of.
    for _ in 0..2 {
        farm.lastgood(&["incident", "plan", "i0"]).ended(0).says(" last time\n");
    }
}

#[test]
fn what_people_do_stands_in_the_plan_and_the_run_waits_until_they_say_that_it_is_so() {
    let farm = Farm::new(Plan::default());
    declare(&farm, "L1");
    // Nothing has passed yet, so there is nothing to go back to.
    farm.lastgood(&["incident", "plan", "i0"]).ended(1).says("incident-plan-empty").says("--by-hand");
    let plan = ["incident", "plan", "i0", "--by-hand", "call the bank", "--by-hand", "tell the press"];
    farm.lastgood(&plan).ended(0).says("plan of 2 steps").says("by hand: call the bank");
    farm.lastgood(&["incident", "run", "i0"]).ended(8).says("by-hand/1 is yours: call the bank");
    farm.lastgood(&["incident", "run", "i0"]).ended(8).says("by-hand/1");
    let said = |step: &str| ["incident", "step", "i0", step, "--done", "--reason", "I was there"].map(str::to_owned);
    let say = |step: &str| farm.lastgood(&said(step).each_ref().map(String::as_str));
    say("by-hand/2").ended(1).says("incident-step-not-stuck");
    say("by-hand/1").ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(8).says("by-hand/2 is yours: tell the press");
    say("by-hand/2").ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0).says("every step is done");
    assert_eq!(farm.json(&["incident", "show", "i0"])["state"], "cleaning");
}

/// Says of the step that is stuck that it is to be done again, and goes on.
fn again(farm: &Farm) {
    let stuck = farm.json(&["incident", "show", "i0"])["plan"]["stuck"].as_str().unwrap().to_owned();
    farm.lastgood(&["incident", "step", "i0", &stuck, "--again", "--reason", "it is mended"]).ended(0);
}

#[test]
fn a_row_that_must_not_be_there_stops_the_plan_and_so_does_a_question_about_nothing() {
    let farm = Farm::running(Plan::default());
    let database = rusqlite::Connection::open(farm.path("orders.db")).unwrap();
    let made = "CREATE TABLE orders (key TEXT, tenant TEXT); CREATE TABLE lines (key TEXT, tenant TEXT)";
    database.execute_batch(made).unwrap();
    let checks = r#"
[database.orders]
sqlite = "orders.db"
[runbook.check.idempotent]
sql = { database = "orders", query = "SELECT key FROM orders GROUP BY key HAVING count(*) > 1", of = "SELECT count(*) FROM orders" }
[runbook.check.tenants-apart]
sql = { database = "orders", query = "SELECT l.key FROM lines l JOIN orders o USING (key) WHERE l.tenant <> o.tenant" }
"#;
    farm.configure(&(farm.config() + checks));
    declare(&farm, "L2");
    farm.lastgood(&["incident", "plan", "i0"]).ended(0).says("idempotent holds").says("tenants-apart holds");
    let run = || farm.lastgood(&["incident", "run", "i0"]);
    // An empty table proves nothing.
    run().ended(1).says("there is nothing in orders to look at");
    database.execute_batch("INSERT INTO orders VALUES ('secret-1', 'a'), ('secret-1', 'a'), ('k2', 'b')").unwrap();
    again(&farm);
    let said = run().ended(1).says("1 row in orders that must not be there [check-rows-found]");
    assert!(!format!("{said:?}").contains("secret-1"), "what a row holds is nobody's here: {said:?}");
    database.execute_batch("DELETE FROM orders WHERE rowid = 2; INSERT INTO lines VALUES ('k2', 'a')").unwrap();
    again(&farm);
    run().ended(1).says("check/idempotent done: none of 2 in orders is wrong").says("1 row in orders");
    database.execute_batch("UPDATE lines SET tenant = 'b'").unwrap();
    again(&farm);
    run().ended(0).says("check/tenants-apart done: no row in orders that must not be there");
    farm.configure(&(farm.config() + &checks.replace("database = \"orders\", query", "database = \"order\", query")));
    farm.lastgood(&["config", "check"]).ended(2).says("there is no [database.order]");
}

#[test]
fn a_role_that_may_more_than_is_declared_stops_the_plan() {
    let server = Postgres::start();
    server.sql("CREATE TABLE orders (key text); CREATE TABLE salaries (name text); CREATE ROLE app LOGIN");
    server.sql("INSERT INTO salaries VALUES ('who-earns-what')");
    server.sql("GRANT SELECT, INSERT ON orders TO app; GRANT SELECT ON salaries TO app; ALTER ROLE app CREATEDB");
    let farm = Farm::running(Plan::default());
    secret_file(&farm.path("pg"), PASSWORD);
    let address = server.address("postgres", "postgres");
    let checks = format!(
        r#"
[secret.pg]
file = "pg"
[database.app]
postgres = "{address}"
secret = "pg"
[runbook.check.numbers]
sql = {{ database = "app", query = "SELECT name::int FROM salaries" }}
[runbook.check.role]
sql = {{ database = "app", query = "SELECT 1 FROM pg_roles WHERE rolname = 'app' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)", of = "SELECT count(*) FROM pg_roles WHERE rolname = 'app'" }}
[runbook.check.rights]
sql = {{ database = "app", query = "SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = 'app' AND (table_name, privilege_type) NOT IN (VALUES ('orders', 'SELECT'), ('orders', 'INSERT'))" }}
"#
    );
    farm.configure(&(farm.config() + &checks));
    declare(&farm, "L2");
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
    let run = || farm.lastgood(&["incident", "run", "i0"]);
    // What the database complains of names what is in it, and is neither shown nor kept.
    let said = run().ended(1).says("check/numbers").says("the database app refuses the query [database-query-refused]");
    let timeline = farm.lastgood(&["incident", "timeline", "i0"]).ended(0);
    for text in [&said.out, &said.err, &timeline.out] {
        assert!(!text.contains("who-earns-what"), "{text}");
    }
    server.sql("DELETE FROM salaries");
    again(&farm);
    run().ended(1).says("check/rights").says("1 row in app that must not be there");
    server.sql("REVOKE SELECT ON salaries FROM app");
    again(&farm);
    run().ended(1).says("check/role").says("1 row in app that must not be there");
    server.sql("ALTER ROLE app NOCREATEDB");
    again(&farm);
    run().ended(0).says("none of 1 in app is wrong");
}

#[test]
fn a_unit_that_somebody_changed_is_put_back_and_its_program_started_again() {
    in_systemd("runbook::a_unit_that_somebody_changed_is_put_back_and_its_program_started_again", || {
        let (template, folder) =
            ("/etc/systemd/system/notebook@.service", "/etc/systemd/system/notebook@alice.service.d");
        fs::write(template, "[Service]\nExecStart=/bin/false\n").unwrap();
        let systemctl =
            |arguments: &[&str]| assert!(Command::new("systemctl").args(arguments).status().unwrap().success());
        systemctl(&["daemon-reload"]);
        let unit = "runtime = { systemd = { unit = \"notebook@{instance}.service\" } }".to_owned();
        let farm = Farm::running(Plan { service: unit, ..Plan::default() });
        let pids = farm.pids();
        fs::write(format!("{folder}/90-debug.conf"), "[Service]\nEnvironment=DEBUG=1\n").unwrap();
        systemctl(&["daemon-reload"]);
        systemctl(&["restart", "notebook@alice.service"]);
        declare(&farm, "L1");
        let plan = farm.lastgood(&["incident", "plan", "i0"]);
        plan.ended(0).says("units (one that may run with another is started again)");
        let run = farm.lastgood(&["incident", "run", "i0"]);
        run.ended(0).says("notebook@alice.service: added notebook@alice.service.d/90-debug.conf, started again");
        assert!(Path::new(&format!("{folder}/90-debug.conf.before-i0")).exists());
        let now = farm.pids();
        let same: Vec<&str> = farm.names().filter(|name| pids[*name] == now[*name]).collect();
        assert_eq!(same, ["bob", "carol"]);
        let environment = fs::read_to_string(format!("/proc/{}/environ", now["alice"].unwrap())).unwrap();
        assert!(!environment.contains("DEBUG=1"), "{environment}");
        assert_eq!(farm.version("alice"), "1.0.0");
        farm.lastgood(&["evidence", "verify"]).ended(0);
    });
}
