//! What people do beyond one service: holds over many, approvals, incidents. One chain per state folder, `operations`.
//!
//! Everything here happens at the pace of people, so one chain is no queue, and what belongs together (an incident and
//! its holds) is one transaction. What concerns a service's next step is written into that service's own chain in the
//! same transaction ([`mirrored`]): a driver then sees it as any other news, and its head fences it.

pub mod approval;
pub mod cap;
pub mod clock;
pub mod credential;
pub mod emergency;
pub mod escalation;
mod event;
mod fold;
pub mod hold;
pub mod incident;
pub mod overrule;
pub mod people;
pub mod rca;
mod refused;
mod words;

pub use event::{Event, Record};
pub use fold::{Mirror, Operations, mirrored};
pub use refused::Refused;
pub use words::{notice, sentence};
