//! Carries out what an incident plans: step by step, each begun in the log before it is done.

mod drift;
mod perform;
mod plan;
mod run;
mod take;

pub use lastgood_drivers::probe::Step as ProbeStep;
pub use perform::{Asked, Before, Door, Hands, Logs, Performer, carried_out, emergency_step};
pub use plan::{by_hand, hash_of, plan, spec_of};
pub use run::{Book, Decide, Doer, RunError, Told, carry_out, needed};
pub use take::{ask, take};

#[cfg(test)]
mod tests;
