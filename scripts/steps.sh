# Steps of a check: each prints its seconds and how it ended, and a step whose tool is missing says so. Sourced.
#
# step NAME COMMAND...    runs it; what it prints is shown
# skip NAME WHY           a step that cannot run here
# tell                    a line for each step; fails if one did

steps=()
failures=0

step() {
    local name=$1 begun=$SECONDS how=PASSED
    shift
    echo "== $name"
    "$@" || { how=FAILED && failures=$((failures + 1)); }
    steps+=("$(printf '%-8s %6d s  %s' "$how" $((SECONDS - begun)) "$name")")
    echo "== ${steps[-1]}"
}

skip() {
    steps+=("$(printf '%-8s %8s  %s: %s' SKIPPED '' "$1" "$2")")
    echo "== ${steps[-1]}"
}

tell() {
    printf '%s\n' "== in $SECONDS s" "${steps[@]}"
    ((failures == 0))
}

# Programs of tests: a file in tests/, or a folder with a main.rs. None is listed by hand.
test_programs() {
    local path
    for path in tests/*.rs tests/*/main.rs; do
        path=${path#tests/} path=${path%/main.rs}
        echo "${path%.rs}"
    done
}

# Where the run-time compiler of CUDA is, which needs no GPU; a Python package holds it.
find_nvrtc() {
    [[ -z "${PWM_NVRTC_PATH:-}" ]] || return 0
    if [[ ! -d target/nvrtc ]]; then
        python3 -m venv target/nvrtc && target/nvrtc/bin/pip install -q nvidia-cuda-nvrtc-cu12 ||
            { rm -rf target/nvrtc && return 1; }
    fi
    PWM_NVRTC_PATH=$(dirname "$(find "$PWD/target/nvrtc" -name libnvrtc.so.12)")
    export PWM_NVRTC_PATH
}

# A browser for the tests of the pages, installed here on Debian.
find_browser() {
    command -v chromedriver > /dev/null ||
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; } > /dev/null 2>&1
}
