#!/usr/bin/env bash
# Run the numerical tests with instruction sets other than those that the engines would choose, on one core, and with the locale and time
# zone of another country.
#
#     tests/isa.sh                                      # all runs; AVX512 only on processors that have it
#     tests/isa.sh GENERIC one-core                     # some of them
#     tests/isa.sh GENERIC -- tests/test_rank.py -k …   # with arguments for pytest
set -euo pipefail
cd "$(dirname "$0")/.."

# NUMBERS: test files whose tolerances or texts depend on floating-point arithmetic. TEXTS: those that read, sort or format text and times.
NUMBERS="contracts convert encoder_decoder evaluate export_ct2 generate glove_bilstm gpt_2_simple rank tfhub_bert train_gpt_2_simple"
TEXTS="choose conduct extract journal prepare report schema text"

# Run NUMBERS with an instruction set, which is called $1 in CTranslate2, $2 in oneDNN (TensorFlow and CTranslate2), $3 in PyTorch and $4 in
# MKL (PyTorch).
instructions() {
    test_files "$NUMBERS" env CT2_FORCE_CPU_ISA="$1" ONEDNN_MAX_CPU_ISA="$2" ATEN_CPU_CAPABILITY="$3" MKL_CBWR="$4"
}

# $1: names of test files, ignored if there are arguments for pytest; the rest: a command that runs pytest in another environment
test_files() {
    local names=$1
    shift
    if [ ${#PYTEST[@]} -gt 0 ]; then
        "$@" .venv/bin/python -m pytest "${PYTEST[@]}"
    else
        "$@" .venv/bin/python -m pytest $(printf 'tests/test_%s.py ' $names)
    fi
}

RUNS=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    RUNS+=("$1")
    shift
done
PYTEST=("${@:2}")
if [ ${#RUNS[@]} -eq 0 ]; then
    RUNS=(GENERIC AVX2 one-core abroad)
    ! grep -qw avx512vl /proc/cpuinfo || RUNS+=(AVX512)
fi

for run in "${RUNS[@]}"; do
    echo "== $run"
    case $run in
        GENERIC) instructions GENERIC SSE41 default COMPATIBLE ;;
        AVX2) instructions AVX2 AVX2 avx2 AVX2 ;;
        AVX512) instructions AVX512 AVX512_CORE avx512 AVX512 ;;
        one-core)
            core=$(taskset -pc $$ | sed 's/.*: //; s/[-,].*//')  # the first core that this process may use
            test_files "$NUMBERS" taskset -c "$core"
            ;;
        abroad)
            # awk reads all lines; with pipefail, `grep -m1` would make `locale` fail
            locale=$(locale -a | awk 'tolower($0) ~ /^tr_tr\.utf-?8$/ { name = $0 } END { print name ? name : "C" }')
            test_files "$NUMBERS $TEXTS" env TZ=Asia/Kathmandu LC_ALL="$locale"
            ;;
        *) echo "$0: unknown run $run; one of GENERIC, AVX2, AVX512, one-core, abroad" >&2; exit 2 ;;
    esac
done
