#!/usr/bin/env bash
# Everything that a machine with an NVIDIA GPU can tell, in one command; needs no network and no Java.
#   tests/gpu/run.sh [PART...]        parts, in this order where none is named:
#     build        native/ with nvcc for this card (without oneDNN)
#     conformance  one vector a PTX wrapper against conformance.txt; writes the card's own
#     ops          every operation against `reference`
#     models       recorded models through the boundary, on cuda:0
#     bench        kernels beside ceilings of the same run; PyTorch and transformers beside them (peers.py); whole models (stages.py)
#     sanitizer    compute-sanitizer: memcheck, racecheck, synccheck, initcheck
#     budgets      every architecture of a release, held against ptxas-budget.txt
# Continues after a part that fails; exit status 1 says so. Results lie under tests/gpu/out, the few that matter after each part also in $OUT where that is
# set. Once conformance, ops and models have passed for these kernels on this card, in one command or several, LEDGER.md and conformance.txt are
# among them, to be copied over the committed ones. A part is ended after PART_SECONDS (480), all of them after ALL_SECONDS where that is set.
#   JVLM_GPU_DRY=1   the same parts on the emulation, as far as they go, on a machine without a GPU
#   JVLM_GPU_ONLY=1  budgets for this card's architecture alone
#   BUILD, NVCC, JOBS, COMMIT (where there is no git)
set -uo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../.."
all=(build conformance ops models bench sanitizer budgets)
parts=("$@")
((${#parts[@]})) || parts=("${all[@]}")
for part in "${parts[@]}"; do
    [[ " ${all[*]} " == *" $part "* ]] || { sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 64; }
done
dry=${JVLM_GPU_DRY-}
mkdir -p tests/gpu/out
out=$PWD/tests/gpu/out
jobs=${JOBS:-$(nproc)}
limit=${PART_SECONDS:-480}
export OMP_WAIT_POLICY=passive PYTHONUNBUFFERED=1
if [[ $dry ]]; then
    build=${BUILD:-tests/gpu/out/build-emu} device=emu
    card="the emulation" driver=none architecture=80
else
    build=${BUILD:-tests/gpu/out/build} device=cuda:0
    export PATH=$PATH:/usr/local/cuda/bin
    if ! query=$(nvidia-smi --id=0 --query-gpu=name,driver_version,compute_cap --format=csv,noheader); then
        echo "gpu: nvidia-smi shows no card: ${query:-it is not there}. JVLM_GPU_DRY=1 runs the parts on the emulation" >&2
        exit 69
    fi
    IFS=, read -r card driver architecture <<<"$query"
    driver=${driver# } architecture=${architecture//[ .]/}
    # cuBLAS, for products and ceilings: PyTorch's packages bring it, the toolkit may.
    if [[ -z ${JVLM_CUBLAS-} ]]; then
        JVLM_CUBLAS=$({ python3 -c 'import glob, nvidia, os
print(*[f for p in nvidia.__path__ for f in sorted(glob.glob(os.path.join(p, "*", "lib", "libcublas.so.*")))], sep="\n")' || true
            ls /usr/local/cuda/lib64/libcublas.so.1?; } 2>/dev/null | grep -m1 .)
    fi
    if [[ $JVLM_CUBLAS ]]; then
        export JVLM_CUBLAS LD_LIBRARY_PATH=${JVLM_CUBLAS%/*}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    fi
fi
today=$(date -u +%F)
commit=${COMMIT:-$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)}
export JVLM_BACKENDS=$PWD/$build/backends
[[ $build != /* ]] || export JVLM_BACKENDS=$build/backends
echo "gpu: $card, driver $driver, sm_$architecture, $today, commit $commit"

need() { # PROGRAM: built, or built now
    [[ -x $build/$1 ]] || build_programs
}

build_programs() {
    local options=(-DCMAKE_BUILD_TYPE=Release)
    local targets=(conformance kernels_bench models_test model_stages)
    if [[ $dry ]]; then
        targets+=(kernels_test jvlm_emu emu_test)
    else
        targets+=(kernels_card_test jvlm_cuda)
        # A new compiler's warning must not cost a card's time.
        options+=(-DJVLM_CUDA=ON -DJVLM_EMU=OFF -DJVLM_WERROR=OFF "-DJVLM_CUDA_ARCHITECTURES=$architecture-real")
        ! command -v ninja >/dev/null || options+=(-G Ninja) # make would build one target after the other
        [[ -z ${NVCC-} ]] || options+=("-DCMAKE_CUDA_COMPILER=$NVCC")
    fi
    cmake -S native -B "$build" "${options[@]}" && cmake --build "$build" -j"$jobs" --target "${targets[@]}"
}

part_build() {
    build_programs
}

part_budgets() {
    local status=0 architectures=(80 86 89 90 120)
    if [[ $dry ]] && ! command -v "${NVCC:-nvcc}" >/dev/null; then
        echo "dry: no nvcc, so no budgets"
        return
    fi
    [[ -z ${JVLM_GPU_ONLY-} ]] || architectures=("$architecture")
    PTXAS_OUT=$out/ptxas JOBS=$jobs tests/gpu/ptxas.sh "${architectures[@]}" || status=1
    cp "$out/ptxas/measured.txt" "$out/ptxas.txt" || status=1
    return $status
}

part_conformance() {
    need tests/gpu/conformance || return
    local status=0 head="$card, driver $driver, $today"
    [[ ! $dry ]] || head="emulated, not yet confirmed on hardware"
    "$build/tests/gpu/conformance" tests/gpu/conformance.txt || status=1
    "$build/tests/gpu/conformance" "$out/conformance.card.txt" --write "$head" || status=1
    if [[ $dry ]]; then
        "$build/tests/emu_test" || status=1
    else # twice the same, or something hangs on timing
        "$build/tests/gpu/conformance" "$out/conformance.card.txt" || status=1
    fi
    return $status
}

part_ops() {
    if [[ $dry ]]; then # all groups are ctest's kernels_test; here those that are quick
        need tests/kernels_test || return
        for group in norms small_ones; do "$build/tests/kernels_test" $group || return; done
    else
        need tests/gpu/kernels_card_test || return
        "$build/tests/gpu/kernels_card_test"
    fi
}

part_models() {
    need tests/models_test || return
    local families=(h2ovl-2b internvl-chat-v1-5 mini-internvl-2b-v1-5 mini-internvl-4b-v1-5 idefics2 h2ovl-0.8b) status=0
    [[ ! $dry ]] || families=(h2ovl-2b internvl-chat-v1-5) # the rest are ctest's models_emu_*
    "$build/tests/models_test" "$device" tests/gpu/models "${families[@]}" || status=1
    "$build/tests/models_test" "$device" tests/gpu/models deterministic h2ovl-2b || status=1
    "$build/tests/models_test" "$device" tests/gpu/models ahead h2ovl-2b || status=1
    return $status
}

part_sanitizer() {
    if [[ $dry ]]; then
        echo "dry: compute-sanitizer runs on a card only; ctest runs emu_bugs and emu_race_* in its place"
        return
    fi
    need tests/gpu/kernels_card_test || return
    need tests/models_test || return
    command -v compute-sanitizer >/dev/null || { echo "there is no compute-sanitizer"; return 1; }
    local status=0 tool name seconds
    check() { # TOOL NAME SECONDS PROGRAM...
        tool=$1 name=$2 seconds=$3
        shift 3
        if timeout "$seconds" compute-sanitizer --tool "$tool" --error-exitcode 9 "$@" >"$out/$tool-$name.log" 2>&1; then
            echo "$tool, $name: clean"
        else
            status=1
            echo "$tool, $name: status $?"
            tail -25 "$out/$tool-$name.log"
        fi
    }
    # The small models run every kernel that an answer needs. The seconds add up to less than a part has.
    local conformance=("$build/tests/gpu/conformance" "$out/conformance.sanitizer.txt" --write sanitizer)
    local ops=$build/tests/gpu/kernels_card_test models=("$build/tests/models_test" cuda:0 tests/gpu/models h2ovl-2b)
    export JVLM_DEVICE_TIMEOUT=600                         # kernels are slow there, and none of them hangs for that
    check memcheck conformance 20 "${conformance[@]}"
    check memcheck models 70 "${models[@]}"
    check memcheck ragged 70 "$build/tests/models_test" cuda:0 tests/gpu/models idefics2
    check racecheck conformance 20 "${conformance[@]}"
    check racecheck models 80 "${models[@]}"
    check memcheck small_ones 30 "$ops" small_ones
    check memcheck norms 30 "$ops" norms
    check synccheck conformance 20 "${conformance[@]}"
    check synccheck models 50 "${models[@]}"
    check initcheck conformance 20 "${conformance[@]}"
    check initcheck small_ones 30 "$ops" small_ones
    return $status
}

part_bench() {
    need tests/gpu/kernels_bench && need bench/model_stages || return
    local status=0 small=() dryly=()
    [[ ! $dry ]] || small=(--small) dryly=(--dry)
    rm -f "$out"/{kernels,peers,stages}.json
    # As the card was found: whether somebody else works on it, and what its clocks are.
    [[ $dry ]] || nvidia-smi --id=0 --query-gpu=clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit,temperature.gpu,utilization.gpu,memory.used --format=csv
    timeout 150 "$build/tests/gpu/kernels_bench" "${small[@]}" "$commit" "$today" "$driver" >"$out/kernels.json" || status=1
    python3 -m json.tool "$out/kernels.json" >/dev/null || status=1
    if python3 -c 'import torch, transformers' 2>/dev/null; then
        timeout 150 python3 tests/gpu/peers.py "${dryly[@]}" --out "$out/peers.json" --commit "$commit" --kernels "$out/kernels.json" || status=1
    else
        echo "peers: there is no PyTorch with transformers here: not run"
        [[ $dry ]] || status=1
    fi
    timeout 150 python3 tests/gpu/stages.py "${dryly[@]}" --out "$out/stages.json" --peers "$out/peers.json" --commit "$commit" "$build" || status=1
    return $status
}

# Each part is a process of its own, so that its limit ends all that it started.
if [[ ${GPU_PART-} ]]; then
    "part_$GPU_PART"
    exit
fi
# What a part's success is a success of: these kernels on this card.
stamp=$({ cat native/ops/cuda/*.* native/ops/cuda/ptx/*; echo "$card $driver"; } | sha256sum)
failed=()
keep() { # what a command that is ended from outside leaves
    [[ ${OUT-} ]] || return 0
    for file in LEDGER.md conformance.txt kernels.json peers.json stages.json ptxas.txt; do [[ ! -e $out/$file ]] || cp "$out/$file" "$OUT/"; done
    tar -C "$out" -czf "$OUT/logs.tar.gz" $(cd "$out" && ls -- *.log)
}
for part in "${parts[@]}"; do
    rm -f "$out/$part.passed"
    begin=$SECONDS
    seconds=$limit
    [[ -z ${ALL_SECONDS-} ]] || seconds=$((ALL_SECONDS - begin < limit ? ALL_SECONDS - begin : limit))
    if ((seconds < 10)); then
        failed+=("$part")
        echo "==== $part: NOT RUN, there is no time left"
        continue
    fi
    echo "==== $part"
    GPU_PART=$part timeout --kill-after=10 "$seconds" bash "$0" "$part" 2>&1 | grep --line-buffered -v '^gpu: ' | tee "$out/$part.log"
    if ((PIPESTATUS[0] == 0)); then
        echo "$stamp" >"$out/$part.passed"
        echo "==== $part: passed, $((SECONDS - begin)) s"
    else
        failed+=("$part")
        echo "==== $part: FAILED, $((SECONDS - begin)) s"
    fi
    keep
done
passed=()
for part in "${all[@]}"; do [[ "$(cat "$out/$part.passed" 2>/dev/null)" != "$stamp" ]] || passed+=("$part"); done
rm -f "$out/LEDGER.md" "$out/conformance.txt"
if [[ -z $dry && " ${passed[*]} " == *" conformance ops models "* ]]; then
    cp "$out/conformance.card.txt" "$out/conformance.txt"
    cmake -DCONFIRM="${passed[*]}" -DCARD="$card, driver $driver" -DDATE="$today" -DTO="$out/LEDGER.md" -P tests/gpu/ledger.cmake
    echo "gpu: copy LEDGER.md and conformance.txt to tests/gpu/ and commit them"
fi
keep
((${#failed[@]} == 0)) || { echo "gpu: failed: ${failed[*]}"; exit 1; }
