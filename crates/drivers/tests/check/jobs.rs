//! Timers of a real systemd, and jobs of a real cron, in a container.

use crate::{code, keys, sight, systemd_kit::in_systemd, wrong};
use lastgood_drivers::check::Check;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

fn run(line: &str) {
    let said = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
}

fn unit(name: &str, text: &str) {
    fs::write(Path::new("/etc/systemd/system").join(name), text).unwrap();
}

/// Waits for a check to say this; "" is a pass.
fn comes_to(check: &Check, wanted: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    let at = || sight(Path::new("/"));
    while code(check, &at()) != wanted && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(code(check, &at()), wanted, "{:?}", check.look(&at()));
}

#[test]
fn a_timer_counts_by_how_its_job_ended_and_a_job_that_runs_is_no_success() {
    in_systemd("jobs::a_timer_counts_by_how_its_job_ended_and_a_job_that_runs_is_no_success", || {
        let timer = |name: &str, more: &str| Check::Timer(keys(&format!("unit = '{name}.timer'\n{more}")));
        let at = || sight(Path::new("/"));
        for (name, command) in [("good", "/bin/true"), ("bad", "/bin/false"), ("slow", "/bin/sleep 600")] {
            unit(&format!("{name}.service"), &format!("[Service]\nType=oneshot\nExecStart={command}\n"));
            unit(&format!("{name}.timer"), "[Timer]\nOnActiveSec=1s\nOnUnitActiveSec=1h\nAccuracySec=100ms\n");
        }
        unit("later.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n");
        unit("later.timer", "[Timer]\nOnCalendar=yearly\n");
        run("systemctl daemon-reload");
        assert_eq!(wrong(timer("none", "").look(&at())).0, "preflight-timer-missing");
        assert_eq!(wrong(timer("good", "").look(&at())).0, "preflight-timer-inactive");
        run("systemctl start --no-block good.timer bad.timer slow.timer later.timer");
        comes_to(&timer("good", ""), "");
        comes_to(&timer("bad", ""), "preflight-job-failed");
        comes_to(&timer("slow", ""), "preflight-job-unknown");
        assert!(wrong(timer("slow", "").look(&at())).1, "systemd says success of a job that runs");
        assert_eq!(wrong(timer("later", "").look(&at())).0, "preflight-job-never");
        // A marker remembers what systemd does not.
        let marked = timer("slow", "age_max = '1h'\nmarker = '/tmp/slow-succeeded'");
        assert_eq!(wrong(marked.look(&at())).0, "preflight-job-never");
        run("touch /tmp/slow-succeeded");
        assert_eq!(code(&marked, &at()), "");
        run("touch -d '2 hours ago' /tmp/slow-succeeded");
        assert_eq!(wrong(marked.look(&at())).0, "preflight-job-late");
        assert_eq!(wrong(timer("good", "age_max = '1ms'").look(&at())).0, "preflight-job-late");
    });
}

#[test]
fn the_kernels_clock_is_asked_through_systemd() {
    in_systemd("jobs::the_kernels_clock_is_asked_through_systemd", || {
        let said = Command::new("timedatectl").args(["show", "-p", "NTPSynchronized", "--value"]).output().unwrap();
        let synchronized = String::from_utf8_lossy(&said.stdout).trim() == "yes";
        let expected = if synchronized { "" } else { "preflight-clock-adrift" };
        assert_eq!(code(&Check::Clock(keys("")), &sight(Path::new("/"))), expected, "{said:?}");
    });
}

#[test]
fn a_job_of_cron_needs_its_line_the_daemon_and_a_success_since_it_was_due() {
    in_systemd("jobs::a_job_of_cron_needs_its_line_the_daemon_and_a_success_since_it_was_due", || {
        let at = || sight(Path::new("/"));
        let file = Path::new("/etc/cron.d/lastgood-test");
        let cron = |more: &str| {
            let text = "file = '/etc/cron.d/lastgood-test'\ncommand = 'backup-notes'\nmarker = '/tmp/backup-ok'";
            Check::Cron(keys(&format!("{text}\n{more}")))
        };
        assert_eq!(wrong(cron("").look(&at())).0, "preflight-cron-missing");
        fs::write(file, "MAILTO=root\n# 0 * * * * root backup-notes && touch /tmp/backup-ok\n").unwrap();
        assert_eq!(wrong(cron("").look(&at())).0, "preflight-cron-disabled");
        fs::write(file, "MAILTO=root\n0 * * * * root backup-notes && touch /tmp/backup-ok\n").unwrap();
        run("chmod 0666 /etc/cron.d/lastgood-test");
        assert_eq!(wrong(cron("").look(&at())).0, "preflight-cron-ignored");
        run("chmod 0644 /etc/cron.d/lastgood-test");
        assert_eq!(wrong(cron("").look(&at())).0, "preflight-cron-daemon");
        let daemon = Command::new("/usr/sbin/cron").arg("-f").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut daemon = daemon.unwrap();
        comes_to(&cron(""), "preflight-job-never");
        run("touch /tmp/backup-ok");
        assert_eq!(code(&cron(""), &at()), "");
        run("touch -d '3 hours ago' /tmp/backup-ok");
        assert_eq!(wrong(cron("").look(&at())).0, "preflight-job-late");
        assert_eq!(code(&cron("age_max = '4h'"), &at()), "");
        assert_eq!(wrong(cron("age_max = '2h'").look(&at())).0, "preflight-job-late");
        fs::write(file, "0 * * * backup-notes is missing a field\n").unwrap();
        assert_eq!(wrong(cron("").look(&at())).0, "preflight-cron-ignored");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        fs::rename(file, "/etc/cron.d/lastgood.test").unwrap();
    });
}
