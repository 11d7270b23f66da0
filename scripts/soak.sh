#!/usr/bin/env bash
# Tests that are worth an hour now and then: many kills.
set -euo pipefail
cd "$(dirname "$0")/.."
PWM_KILLS="${PWM_KILLS:-200}" cargo test --release --test kill -- --nocapture
PROPTEST_CASES="${PROPTEST_CASES:-1000000}" cargo test --release --test faults -- --nocapture
