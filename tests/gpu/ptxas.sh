#!/usr/bin/env bash
# What each kernel takes of a multiprocessor, held against tests/gpu/ptxas-budget.txt. Needs nvcc, no GPU.
#   tests/gpu/ptxas.sh [--write] [ARCHITECTURE...]     default: 80 86 89 90 120
# More registers, spilled bytes or stack than the budget says, and a kernel without a budget, fail; --write makes what was measured the budget
# of these architectures, registers rounded up to the eight that a multiprocessor gives them out in.
# PTXAS_OUT: folder of the compiler's reports; FILES="gemm matvec": these alone; NVCC, JOBS.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../.."
budget=tests/gpu/ptxas-budget.txt
out=${PTXAS_OUT:-tests/gpu/out/ptxas}
nvcc=${NVCC:-nvcc}
write=
[[ ${1-} != --write ]] || { write=1; shift; }
architectures=("$@")
((${#architectures[@]})) || architectures=(80 86 89 90 120)
command -v "$nvcc" >/dev/null || { echo "ptxas: there is no nvcc; put it into PATH or name it in NVCC" >&2; exit 69; }
mkdir -p "$out"
measured=$out/measured.txt
files=(native/ops/cuda/*.cu)
if [[ -n ${FILES-} ]]; then
    files=()
    for name in $FILES; do files+=("native/ops/cuda/$name.cu"); done
fi
: >"$measured"

compile() { # FILE ARCHITECTURE
    local report=$out/$(basename "$1" .cu).sm_$2.txt
    "$nvcc" -std=c++20 -O3 -Inative -Xptxas -v "-gencode=arch=compute_$2,code=sm_$2" -cubin -o /dev/null "$1" >"$report" 2>&1 || { cat "$report" >&2; return 1; }
}
export -f compile
export out nvcc
for a in "${architectures[@]}"; do
    for file in "${files[@]}"; do echo "$file $a"; done
done | xargs -P "${JOBS:-1}" -L 1 bash -c 'compile "$1" "$2"' compile || { echo "ptxas: a kernel does not compile" >&2; exit 1; }

# One line a kernel: architecture, registers, bytes spilled (stored and loaded), bytes of stack, file, name without its parameters. Anonymous
# namespaces carry a number of the compiler's, which is dropped.
for a in "${architectures[@]}"; do
    for file in "${files[@]}"; do
        name=$(basename "$file" .cu)
        awk -v a="$a" -v file="$name" '
            /Compiling entry function/ { split($0, part, "\047"); kernel = part[2] }
            /bytes stack frame/ && kernel != "" { for (i = 1; i <= NF; ++i) { if ($(i + 1) == "bytes" && $(i + 2) == "stack") stack = $i; if ($(i + 1) == "bytes" && $(i + 2) == "spill") spill += $i } }
            /Used [0-9]+ registers/ && kernel != "" {
                for (i = 1; i <= NF; ++i) if ($i == "Used") registers = $(i + 1)
                print "sm_" a, registers, spill + 0, stack + 0, file, kernel; kernel = ""; spill = stack = 0
            }' "$out/$name.sm_$a.txt"
    done
done | c++filt | sed -E 's/\(anonymous namespace\)::|_GLOBAL__N__[0-9a-zA-Z_]*:://g; s/ void ([^ ]*::)/ \1/; s/>\(.*$/>/; t; s/\([^()]*\)$//' | sort >"$measured"
# C75xx: the compiler gave up an optimisation that the kernel counts on.
if grep -hE 'C75[0-9]{2}' "$out"/*.sm_*.txt; then echo "ptxas: the compiler warns (above)" >&2; exit 1; fi

names=$(for file in "${files[@]}"; do basename "$file" .cu; done | paste -sd' ')
if [[ $write ]]; then
    {
        grep '^#' "$budget" 2>/dev/null || echo "# architecture, registers, bytes spilled, bytes of stack, file, kernel: at most so much (tests/gpu/ptxas.sh)"
        {
            grep -v '^#' "$budget" 2>/dev/null | grep -vE "^sm_($(IFS='|'; echo "${architectures[*]}")) [0-9]+ [0-9]+ [0-9]+ (${names// /|}) " || true
            awk '{ $2 = int(($2 + 7) / 8) * 8; print }' "$measured"
        } | sort
    } >"$out/budget.new"
    mv "$out/budget.new" "$budget"
    echo "ptxas: budgets of $(wc -l <"$measured") kernels written"
    exit
fi
touch "$budget"
awk '
    { key = $1; for (i = 5; i <= NF; ++i) key = key " " $i }
    NR == FNR { if ($1 !~ /^#/) { registers[key] = $2 + 0; spill[key] = $3 + 0; stack[key] = $4 + 0; known[key] = 1 } next }
    { ++count }
    !(key in known) { print "no budget: " key ": " $2 " registers, " $3 " bytes spilled, " $4 " of stack"; wrong = missing = 1; next }
    $2 > registers[key] || $3 > spill[key] || $4 > stack[key] {
        print "over budget: " key ": registers " $2 " of " registers[key] ", spilled " $3 " of " spill[key] ", stack " $4 " of " stack[key]; wrong = 1
    }
    END {
        print "ptxas: " count + 0 " kernels, " (wrong ? "not all within their budgets" : "all within their budgets")
        if (missing) print "write the measured values with: tests/gpu/ptxas.sh --write"
        exit wrong || !count
    }' "$budget" "$measured"
