//! One file per command; this one knows their names and nothing of what they do.

mod approval;
mod checklist;
mod config;
pub(crate) mod credential;
mod demo;
mod doctor;
mod emergency;
pub(crate) mod evidence;
mod expect;
mod flag;
mod gate;
mod hold;
mod incident;
mod init;
mod integrity;
pub(crate) mod internal;
mod log;
#[cfg(test)]
mod named;
mod notices;
mod overrule;
mod page;
mod plan;
mod preflight;
mod proxy;
mod rca;
mod release;
pub(crate) mod rollback;
mod run;
mod serve;
mod signal;
mod status;
mod stop_new;
mod switch;
mod topics;
mod watch;
mod why;

use crate::{
    app::App,
    exit::Exit,
    screen::{Screen, Trouble},
};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// Release safety for services on one machine: no rollout without a rehearsed rollback.
#[derive(Debug, Parser)]
#[command(name = "lastgood", version, arg_required_else_help = true, propagate_version = true)]
pub(crate) struct Arguments {
    /// The configuration file [default: lastgood.toml in the working directory].
    #[arg(long, short, global = true, value_name = "FILE", env = "LASTGOOD_CONFIG")]
    config: Option<PathBuf>,
    /// Print JSON on stdout: one document, or JSON lines for streams.
    #[arg(long, global = true)]
    json: bool,
    /// Never prompt; treat every prompt as "no".
    #[arg(long, global = true)]
    no_input: bool,
    /// Answer "yes" to confirmation prompts.
    #[arg(long, short, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented lastgood.toml for a channel, such as npm:@actual-app/sync-server.
    Init(init::Init),
    /// Check this machine and the configuration; print a fix for each problem.
    Doctor(doctor::Doctor),
    /// Run the checks declared in `[preflight.NAME]`; print a fix for each problem.
    Preflight(preflight::Preflight),
    /// Show what a run would do now, and why; change nothing.
    Plan(plan::Plan),
    /// Check for a new release, rehearse it and roll it out, once.
    Run(run::Run),
    /// Run the daemon: schedules, deferred instances, monitoring, notices, metrics.
    Serve(serve::Serve),
    /// Run the built-in proxy (normally started by `serve` or `run`).
    Proxy(proxy::Proxy),
    /// Show what runs where and what it waits for.
    Status(status::Status),
    /// Show the status live, until a state is reached.
    Watch(watch::Watch),
    /// Explain a service's state: the rule, the numbers, who can change it and how.
    Why(why::Why),
    /// Explain one event of the log, or an error code.
    Explain(why::Explain),
    /// Show the event log.
    Log(log::Log),
    /// Set, lift and list holds: they stop rollouts, never rollbacks.
    #[command(subcommand)]
    Hold(hold::Hold),
    /// Stop everything now and preserve logs and evidence.
    Emergency(emergency::Emergency),
    /// Declare and manage incidents.
    #[command(subcommand)]
    Incident(incident::Incident),
    /// Close the items of an incident's cleanup checklist, each with evidence.
    #[command(subcommand)]
    Checklist(checklist::Checklist),
    /// List approval requests and answer them.
    #[command(subcommand)]
    Approval(approval::Approval),
    /// List and acknowledge pages.
    #[command(subcommand)]
    Page(page::Page),
    /// Let one release pass a gate, as the gate's owner.
    #[command(subcommand)]
    Override(overrule::Override),
    /// Submit and accept root-cause analyses.
    #[command(subcommand)]
    Rca(rca::Rca),
    /// Pin a service to one release.
    Pin(release::Pin),
    /// Remove a pin and follow the channel again.
    Unpin(release::Unpin),
    /// Reject a release: it is never tried again.
    Reject(release::Reject),
    /// Allow a rejected release to be tried again.
    Waive(release::Waive),
    /// Refuse new sessions of a service with shared traffic; existing ones finish.
    StopNew(stop_new::StopNew),
    /// Roll back to last-good or a named release, with the data.
    Rollback(rollback::Rollback),
    /// Trip and reset kill switches.
    #[command(subcommand)]
    Switch(switch::Switch),
    /// Manage feature flags (off by default).
    #[command(subcommand)]
    Flag(flag::Flag),
    /// Evaluate signals: queries with alert rules.
    #[command(subcommand)]
    Signal(signal::Signal),
    /// Revoke and rotate credentials that may have leaked.
    #[command(subcommand)]
    Credential(credential::Credential),
    /// Verify, export and sign the evidence log.
    #[command(subcommand)]
    Evidence(evidence::Evidence),
    /// List and evaluate the gates a release must pass.
    #[command(subcommand)]
    Gate(gate::Gate),
    /// Check that every promise is proven by passing tests.
    #[command(subcommand)]
    Integrity(integrity::Integrity),
    /// List notices and resend failed ones.
    #[command(subcommand)]
    Notices(notices::Notices),
    /// Check the configuration or print its JSON Schema.
    #[command(subcommand)]
    Config(config::Config),
    /// Run a short demo on a built-in service.
    Demo(demo::Demo),
    /// Work that lastgood does in a process of its own.
    #[command(subcommand, hide = true)]
    Internal(internal::Internal),
}

/// What a command comes to.
pub(crate) type Ended = Result<Exit, Trouble>;

/// Parses the command line, runs the command, gives its exit code.
pub(crate) fn main() -> ExitCode {
    let matches = topics::arrange(Arguments::command()).try_get_matches();
    let arguments = matches.and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match arguments {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error),
    };
    if let Command::Internal(internal) = arguments.command {
        return internal.run();
    }
    let screen = Screen { json: arguments.json, no_input: arguments.no_input, yes: arguments.yes };
    let exit = match run(arguments, screen) {
        Ok(exit) => exit,
        Err(trouble) => {
            screen.trouble(&trouble);
            trouble.exit
        }
    };
    ExitCode::from(exit as u8)
}

/// Says what is wrong with a command line, or shows the help that was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    // What was typed can't be parsed, so the flag is looked for as a word; behind `--` words belong to somebody else.
    let json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    if !error.use_stderr() || !json {
        error.exit();
    }
    let text = error.render().to_string();
    let first: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let message = first.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let hint = text.lines().map(str::trim).find(|line| line.starts_with("Usage:")).unwrap_or("lastgood help");
    let screen = Screen { json, no_input: true, yes: false };
    screen.trouble(&Trouble::say(Exit::Usage, "usage", message, hint));
    ExitCode::from(Exit::Usage as u8)
}

fn run(arguments: Arguments, screen: Screen) -> Ended {
    let open = || App::open(screen, arguments.config.as_deref());
    match arguments.command {
        // These must work without a valid configuration.
        Command::Init(init) => init.run(screen, arguments.config.as_deref()),
        Command::Demo(demo) => demo.run(screen),
        Command::Config(config) => config.run(screen, arguments.config.as_deref()),
        Command::Doctor(doctor) => doctor.run(screen, arguments.config.as_deref()),
        Command::Preflight(preflight) => preflight.run(screen, arguments.config.as_deref()),
        Command::Proxy(proxy) => proxy.run(screen),
        Command::Integrity(integrity) => integrity.run(screen),
        Command::Plan(plan) => plan.run(&open()?),
        Command::Run(run) => run.run(&open()?),
        Command::Serve(serve) => serve.run(&open()?),
        Command::Status(status) => status.run(&open()?),
        Command::Watch(watch) => watch.run(&open()?),
        Command::Why(why) => why.run(&open()?),
        Command::Explain(explain) => explain.page(screen).unwrap_or_else(|| explain.run(&open()?)),
        Command::Log(log) => log.run(&open()?),
        Command::Hold(hold) => hold.run(&open()?),
        Command::Emergency(emergency) => emergency.run(&open()?),
        Command::Incident(incident) => incident.run(&open()?),
        Command::Checklist(checklist) => checklist.run(&open()?),
        Command::Approval(approval) => approval.run(&open()?),
        Command::Page(page) => page.run(&open()?),
        Command::Override(overrule) => overrule.run(&open()?),
        Command::Rca(rca) => rca.run(&open()?),
        Command::Pin(pin) => pin.run(&open()?),
        Command::Unpin(unpin) => unpin.run(&open()?),
        Command::Reject(reject) => reject.run(&open()?),
        Command::Waive(waive) => waive.run(&open()?),
        Command::StopNew(stop) => stop.run(&open()?),
        Command::Rollback(rollback) => rollback.run(&open()?),
        Command::Switch(switch) => switch.run(&open()?),
        Command::Flag(flag) => flag.run(&open()?),
        Command::Gate(gate) => gate.run(&open()?),
        Command::Signal(signal) => signal.run(&open()?),
        Command::Credential(credential) => credential.run(&open()?),
        Command::Evidence(evidence) => evidence.run(&open()?),
        Command::Notices(notices) => notices.run(&open()?),
        Command::Internal(_) => Ok(Exit::Done),
    }
}
