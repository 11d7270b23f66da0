#!/usr/bin/env bash
# Tests that are worth hours now and then: many kills, and a million inputs for every reader of files.
set -euo pipefail
cd "$(dirname "$0")/.."
PWM_KILLS="${PWM_KILLS:-200}" cargo test --release --test kill -- --nocapture
export PROPTEST_CASES="${PROPTEST_CASES:-1000000}"
# Checkpoints and metrics; files of torch.save; settings.
cargo test --release --test faults -- --nocapture does_no_harm any_bytes
cargo test --release --test import -- --nocapture does_no_harm any_bytes
cargo test --release --test config -- --nocapture no_text_panics whatever_is_accepted
