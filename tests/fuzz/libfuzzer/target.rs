//! The target that FUZZ_TARGET names.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    targets::target(&std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET is not set: use `make fuzz`"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
