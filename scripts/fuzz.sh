#!/bin/sh
# Runs fuzz targets, each for the given number of seconds, and reports which failed.
#
#   scripts/fuzz.sh SECONDS [TARGET...]     without TARGET: all of them
#
# Inputs that reached new code are kept in fuzz/corpus, and the next run starts from them.
set -eu
cd "$(dirname "$0")/.."

seconds=${1:?usage: scripts/fuzz.sh SECONDS [TARGET...]}
shift
[ $# -gt 0 ] || set -- $(cd fuzz/fuzz_targets && ls | sed 's/\.rs$//')

say() { echo "fuzz: $*" >&2; }

# libFuzzer is C++.
if ! command -v c++ >/dev/null 2>&1; then
    say "a C++ compiler is missing. Debian and Ubuntu, as root: apt-get install g++"
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    say "missing: cargo-fuzz; building it with cargo install, once"
    cargo install cargo-fuzz --locked
fi
# The address sanitizer is an option of nightly compilers. RUSTC_BOOTSTRAP makes a stable compiler accept it.
rustc --version | grep -q nightly || export RUSTC_BOOTSTRAP=1
# The compiler flags differ from those of all other builds, so the target folder is a separate one.
export CARGO_TARGET_DIR="${FUZZ_TARGET_DIR:-$PWD/fuzz/target}"
# Use the gateway's versions of its dependencies; cargo adds those that only the fuzzer needs.
cp Cargo.lock fuzz/Cargo.lock

# Existing fixtures that a target also starts from. tests/fuzz_seeds.rs has the same list.
fixtures() {
    case $1 in
        *_answers)
            provider=$(echo "${1%_answers}" | tr _ -)
            echo "providers/fixtures/$provider/send" "providers/fixtures/$provider/check"
            ;;
        audio_*) echo tests/fixtures/audio ;;
    esac
}

cargo fuzz build
broken=
for target; do
    say "$target, for $seconds s"
    mkdir -p "fuzz/corpus/$target"
    # New inputs are written to the first folder; the others are only read. Longer inputs would slow everything down.
    # shellcheck disable=SC2046 # folders
    cargo fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" $(fixtures "$target") -- \
        -max_total_time="$seconds" -max_len=32768 -timeout=10 -print_final_stats=1 -verbosity=0 -print_funcs=0 ||
        broken="$broken $target"
done
[ -z "$broken" ] || {
    say "failed:$broken"
    say "the inputs are in fuzz/artifacts/TARGET; fuzz/README.md says what to do with them"
    exit 1
}
