//! One fuzz target: the function whose name the binary has. They stand beside what they try, in each crate's `fuzzing.rs`.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let all = [
        lastgood_client::fuzzing::TARGETS,
        lastgood_domain::fuzzing::TARGETS,
        lastgood_drivers::fuzzing::TARGETS,
        lastgood_engine::fuzzing::TARGETS,
        lastgood_proxy::fuzzing::TARGETS,
        lastgood_server::fuzzing::TARGETS,
    ];
    let name = env!("CARGO_BIN_NAME");
    let found = all.into_iter().flatten().find(|(one, _)| *one == name);
    found.unwrap_or_else(|| panic!("no crate has a target {name}")).1
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET(input));
