//! The smallest binary that has lastgood's internal commands, so that the drivers' tests need not build all of it.

use lastgood_drivers::runtime::launcher;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|word| word == "internal") {
        let Err(_told) = launcher::main(arguments);
    }
    ExitCode::FAILURE
}
