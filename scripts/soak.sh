#!/usr/bin/env bash
# Tests that are worth hours now and then: many kills, and a million inputs for every reader of files.
set -euo pipefail
cd "$(dirname "$0")/.."
PWM_KILLS="${PWM_KILLS:-200}" cargo test --release --test run -- --nocapture kill::
# The largest model under signals, and the drill on what is shipped.
cargo test --release --test run -- --ignored --nocapture 48m
cargo test --release --test run -- --ignored --nocapture drill
# The gradient of a step at a million states; SHAC until it runs.
cargo test --release --test physics -- --ignored --nocapture
cargo test --release --test learning -- --ignored --nocapture shac::
# Loops whose length depends on data, on a hundred million inputs each; the kernels too where there is a C++ compiler.
PWM_TERMINATION_INPUTS="${PWM_TERMINATION_INPUTS:-100000000}" \
    cargo test --release --features kernel-tests --test termination -- --nocapture
export PROPTEST_CASES="${PROPTEST_CASES:-1000000}"
# Checkpoints, golden files, settings, metrics; files of torch.save.
cargo test --release --test files -- --nocapture parsers::
cargo test --release --test files -- --nocapture does_no_harm any_bytes
