//! One file per command; this one knows their names and nothing of what they do.

mod approval;
mod checklist;
mod config;
pub(crate) mod credential;
mod demo;
mod doctor;
mod emergency;
pub(crate) mod evidence;
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
mod watch;
mod why;

use crate::{
    app::App,
    exit::Exit,
    screen::{Screen, Trouble},
};
use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// Release safety for people who run services: no rollout without a rehearsed way back.
#[derive(Debug, Parser)]
#[command(name = "lastgood", version, arg_required_else_help = true, propagate_version = true)]
pub(crate) struct Arguments {
    /// The configuration. Default: lastgood.toml in the working folder.
    #[arg(long, short, global = true, value_name = "FILE", env = "LASTGOOD_CONFIG")]
    config: Option<PathBuf>,
    /// Print one JSON document, or JSON lines for streams; nothing else reaches stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Never ask; what would need an answer is declined.
    #[arg(long, global = true)]
    no_input: bool,
    /// Answer moderate questions with yes.
    #[arg(long, short, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented lastgood.toml for a channel, such as npm:@actual-app/sync-server.
    Init(init::Init),
    /// Check that everything lastgood needs is here; each failure comes with its fix.
    Doctor(doctor::Doctor),
    /// Check what `[preflight.NAME]` declares; each failure comes with its fix.
    Preflight(preflight::Preflight),
    /// Show what would happen now, and why; change nothing.
    Plan(plan::Plan),
    /// Do one pass: check the channel, gate, rehearse, move, settle.
    Run(run::Run),
    /// Run as the daemon: follow schedules, move late instances, watch, deliver notices.
    Serve(serve::Serve),
    /// Be the built-in proxy; `serve` and `run` start it by themselves.
    Proxy(proxy::Proxy),
    /// Show what runs where and what is awaited.
    Status(status::Status),
    /// Show status again and again until it ends or reaches a state.
    Watch(watch::Watch),
    /// Say why a service is as it is: rule, numbers, who can change it.
    Why(why::Why),
    /// Explain one event of the log.
    Explain(why::Explain),
    /// Show what happened.
    Log(log::Log),
    /// Stop forward moves of a service, for a reason.
    #[command(subcommand)]
    Hold(hold::Hold),
    /// Disable everything now, and keep what was seen.
    Emergency(emergency::Emergency),
    /// Declare an incident and bring it to a controlled end.
    #[command(subcommand)]
    Incident(incident::Incident),
    /// Close the items of an incident's cleanup checklist, each with its evidence.
    #[command(subcommand)]
    Checklist(checklist::Checklist),
    /// Show what people are asked for, and answer.
    #[command(subcommand)]
    Approval(approval::Approval),
    /// Show where people are needed, and say that one is there.
    #[command(subcommand)]
    Page(page::Page),
    /// Let one release past a gate, as the gate's owner.
    #[command(subcommand)]
    Override(overrule::Override),
    /// Hand in and accept the analysis that a service owes.
    #[command(subcommand)]
    Rca(rca::Rca),
    /// Keep a service at one release.
    Pin(release::Pin),
    /// Follow the channel again.
    Unpin(release::Unpin),
    /// Never try a release again.
    Reject(release::Reject),
    /// Allow a rejected release to be tried again.
    Waive(release::Waive),
    /// Refuse new entries of a service with shared traffic; what runs finishes.
    StopNew(stop_new::StopNew),
    /// Take instances back to last-good or a named release, with their data.
    Rollback(rollback::Rollback),
    /// Turn something off now: all of it, or one subsystem.
    #[command(subcommand)]
    Switch(switch::Switch),
    /// Turn something on for some; flags are off until turned on.
    #[command(subcommand)]
    Flag(flag::Flag),
    /// Watch numbers that mean that something is wrong.
    #[command(subcommand)]
    Signal(signal::Signal),
    /// Revoke and rotate credentials that may have leaked.
    #[command(subcommand)]
    Credential(credential::Credential),
    /// Verify, export and sign the evidence.
    #[command(subcommand)]
    Evidence(evidence::Evidence),
    /// Ask what must say yes before a release is moved.
    #[command(subcommand)]
    Gate(gate::Gate),
    /// Hold promises against the tests that prove them.
    #[command(subcommand)]
    Integrity(integrity::Integrity),
    /// Show notices and send dead ones again.
    #[command(subcommand)]
    Notices(notices::Notices),
    /// Check the configuration, or print its JSON Schema.
    #[command(subcommand)]
    Config(config::Config),
    /// Tell the whole story in a minute, on a built-in service.
    Demo(demo::Demo),
    /// Work that lastgood does in a process of its own.
    #[command(subcommand, hide = true)]
    Internal(internal::Internal),
}

/// What a command comes to.
pub(crate) type Ended = Result<Exit, Trouble>;

/// Parses the command line, runs the command, gives its exit code.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
        Command::Explain(explain) => explain.run(&open()?),
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
