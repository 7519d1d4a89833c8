//! Fuzz targets for the readers of this crate; see `cargo xtask fuzz`. Not a part of what is shipped.

use crate::{answers, switches};

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("answer_form", answers::answer_form),
    ("switches_request", switches::fuzzing::switches_request),
    ("ofrep_context", switches::fuzzing::ofrep_context),
    ("escaped_name", switches::fuzzing::escaped_name),
];

#[cfg(test)]
mod tests {
    #[test]
    fn every_reader_of_the_server_stands_its_seeds_and_what_is_made_of_them() {
        lastgood_seeds::stand(super::TARGETS);
    }
}
