#!/usr/bin/env bash
# Trains the bundled line reader from nothing, exports it and measures it. One command; a second call goes on where the first stopped.
#
#   weights/nano/train/run.sh [options of train.py]      for example --minutes 120, --fp32, --init weights/nano
#
# Everything it makes lies in target/nano: venv, fonts, run/ (checkpoints and log), jvlm-nano/ (the model folder), report.json.
# FONTS and WORDS name a folder of fonts and a word list where Debian's packages (fonts.txt) cannot be had.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../../target/nano
mkdir -p "$out"
out=$(cd "$out" && pwd)

if ! cmp -s "$here/requirements.txt" "$out/venv/installed.txt"; then
    python3 -m venv "$out/venv"
    # From an index of CPU-only wheels, if pip is configured with one, this takes a tenth of the disk.
    "$out/venv/bin/pip" install -q -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$out/venv/installed.txt"
fi

if [[ -z ${FONTS:-} || -z ${WORDS:-} ]]; then
    if [[ ! -e $out/debian/done ]]; then
        command -v apt-get >/dev/null && command -v dpkg >/dev/null || {
            echo "No Debian packages here: set FONTS to a folder laid out as /usr/share/fonts and WORDS to a word list." >&2
            exit 1
        }
        # Unpacked, not installed: needs no root and leaves the machine as it is.
        mkdir -p "$out/debian/packages"
        (cd "$out/debian/packages" && apt-get -q download $(<"$here/fonts.txt"))
        for package in "$out"/debian/packages/*.deb; do dpkg -x "$package" "$out/debian"; done
        touch "$out/debian/done"
    fi
    FONTS=${FONTS:-$out/debian/usr/share/fonts}
    WORDS=${WORDS:-$out/debian/usr/share/dict/american-english}
fi

# Buffers stay in the process: 1.2 times faster.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456
python=$out/venv/bin/python
cd "$here"
nice "$python" train.py --run "$out/run" --fonts "$FONTS" --words "$WORDS" "$@"
"$python" export.py "$out/run/joined.pt" "$out/jvlm-nano"
"$python" evaluate.py "$out/jvlm-nano" --fonts "$FONTS" --words "$WORDS" --json "$out/report.json"
