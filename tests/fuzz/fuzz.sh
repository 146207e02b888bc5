#!/bin/bash
# Runs the fuzz targets under libFuzzer, one after the other, from the kept corpus; what is found meanwhile stays in
# $PG2OS_DEV_HOME/fuzz for the next run. Ends at the first finding and prints it as a line for the corpus.
# usage: fuzz.sh [TARGET ...]      (default: all, the names of the files in corpus/; needs a nightly toolchain)
# environment: RUNS (10000000) executions of each target, TIME (0: no limit) seconds for each
set -euo pipefail
cd "$(dirname "$0")"
. ../servers/lib.sh
version=0.13.2
root=$PG2OS_DEV_HOME/cargo-fuzz-$version
work=$PG2OS_DEV_HOME/fuzz
cargo +nightly --version > /dev/null 2>&1 || die "no nightly toolchain, which libFuzzer needs: rustup toolchain install nightly
(the same targets on stable, without guidance by coverage: FUZZ_RUNS=${RUNS:-10000000} cargo test --release --test fuzz)"
mkdir -p "$work"
exec 9> "$work/.lock"
flock -n 9 || die "another fuzz.sh works in $work: set PG2OS_DEV_HOME to another folder"
if [ ! -x "$root/bin/cargo-fuzz" ]; then
  say "building cargo-fuzz $version (about a minute, once)"
  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off cargo install -q --locked --version "$version" --root "$root" cargo-fuzz
fi
export PATH=$root/bin:$PATH CARGO_TARGET_DIR=$work/target
cp ../../Cargo.lock libfuzzer/Cargo.lock

# Safe Rust has no use for an address sanitizer, which makes it half as fast.
fuzz=(cargo +nightly fuzz run --sanitizer none --fuzz-dir "$PWD/libfuzzer" target)
[ $# -gt 0 ] || { cd corpus; set -- *.txt; set -- "${@%.txt}"; cd ..; }
for target; do
  [ -e "corpus/$target.txt" ] || die "there is no target $target; there are: $(cd corpus; echo *.txt | sed 's/\.txt//g')"
  mkdir -p "$work/$target" "$work/findings"
  python3 corpus.py unpack "corpus/$target.txt" "$work/$target"
  say "$target"
  finding=$work/findings/$target
  rm -f "$finding"
  FUZZ_TARGET=$target "${fuzz[@]}" "$work/$target" -- -runs="${RUNS:-10000000}" -max_total_time="${TIME:-0}" -max_len=256 \
    -malloc_limit_mb=64 -timeout=10 -exact_artifact_path="$finding" -print_final_stats=1 -verbosity=0 || {
    [ ! -e "$finding" ] || { say "a line for tests/fuzz/corpus/$target.txt:"; python3 corpus.py line "$finding"; }
    exit 1
  }
done
