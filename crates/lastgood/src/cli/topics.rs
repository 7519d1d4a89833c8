//! The order in which `lastgood --help` lists the commands: by what somebody is about to do.

use clap::Command;

/// Every command that is shown, under its topic.
const TOPICS: [(&str, &[&str]); 6] = [
    ("Set up", &["init", "doctor", "preflight", "config", "demo"]),
    (
        "Releases",
        &["plan", "run", "serve", "status", "watch", "why", "explain", "log", "pin", "unpin", "reject", "waive"],
    ),
    ("Stop and roll back", &["rollback", "hold", "stop-new", "switch", "flag", "emergency"]),
    ("Incidents", &["incident", "checklist", "credential", "signal"]),
    ("People", &["approval", "override", "rca", "page", "notices"]),
    ("Proof", &["evidence", "gate", "integrity", "proxy"]),
];

/// Gives the program's help the topics.
pub(super) fn arrange(program: Command) -> Command {
    let width = TOPICS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max().unwrap_or(0);
    let mut lists = String::new();
    for (topic, names) in TOPICS {
        lists += &format!("{topic}:\n");
        for name in names {
            let about = program.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
            lists += &format!("  {name:width$}  {}\n", about.unwrap_or_default());
        }
        lists.push('\n');
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{lists}Options:\n{{options}}\n\n\
         For one command type lastgood help COMMAND, for an error code lastgood explain CODE.\n"
    );
    program.help_template(template)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Arguments;
    use clap::CommandFactory as _;
    use std::collections::BTreeSet;

    #[test]
    fn every_command_stands_under_one_topic() {
        let program = Arguments::command();
        let shown: BTreeSet<&str> =
            program.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).collect();
        let listed: Vec<&str> = TOPICS.iter().flat_map(|(_, names)| *names).copied().collect();
        assert_eq!(listed.len(), shown.len(), "a command stands twice, or under no topic");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), shown);
    }
}
