//! Carries out what an incident plans: step by step, each begun in the log before it is done.

mod drift;
mod perform;
mod plan;
mod run;

pub use perform::{Asked, Hands, Performer, emergency_step};
pub use plan::{by_hand, hash_of, plan, spec_of};
pub use run::{RunError, Told, carry_out, needed};
