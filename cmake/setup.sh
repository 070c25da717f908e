# Sourced by ./jvlm and ./test: what the build needs of the machine.

# Sets JAVA_HOME to a JDK 17 or newer: its own value, that of the javac in PATH, or one where Debian puts them.
find_jdk() {
    local home javac
    javac=$(command -v javac || true)
    for home in "${JAVA_HOME-}" "$([[ -z $javac ]] || dirname "$(dirname "$(readlink -f "$javac")")")" /usr/lib/jvm/*; do
        if [[ -n $home && -x $home/bin/javac ]] && grep -qE '^JAVA_VERSION="(1[7-9]|[2-9][0-9])' "$home/release" 2>/dev/null; then
            export JAVA_HOME=$home
            return 0
        fi
    done
    return 1
}

# Installs what is missing, or says how to.
need_packages() {
    local packages=()
    find_jdk || packages+=(openjdk-17-jdk-headless)
    command -v mvn >/dev/null || packages+=(maven)
    command -v g++ >/dev/null || packages+=(g++)
    command -v cmake >/dev/null || packages+=(cmake)
    command -v make >/dev/null || packages+=(make)
    ((${#packages[@]})) || return 0
    local install="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "jvlm needs a JDK 17 or newer, Maven, g++, CMake and make; this machine lacks what Debian calls: ${packages[*]}" >&2
        exit 69
    fi
    if [[ $(id -u) != 0 ]]; then
        echo "jvlm needs packages that are not installed: ${packages[*]}. Install them with:" >&2
        echo "  sudo sh -c '$install'" >&2
        exit 69
    fi
    echo "jvlm: installing ${packages[*]}" >&2
    local log
    log=$(mktemp)
    if ! DEBIAN_FRONTEND=noninteractive sh -c "$install" >"$log" 2>&1; then
        tail -20 "$log" >&2
        echo "jvlm: installing failed; the command was: $install" >&2
        exit 69
    fi
    rm -f "$log"
    if ! find_jdk; then
        echo "jvlm: no JDK 17 or newer was found after installing; set JAVA_HOME to one" >&2
        exit 69
    fi
}

# Maven's and CMake's output as one line that changes, or as a line for each step where stderr is no terminal.
show_progress() {
    local line columns step='^\[INFO\] --- .*\((.*)\) @ (.*) ---$'
    columns=$(tput cols 2>/dev/null || echo 100)
    while IFS= read -r line; do
        if [[ $line =~ $step ]]; then
            line="  ${BASH_REMATCH[2]}: ${BASH_REMATCH[1]}"
            [[ -t 2 ]] || echo "$line" >&2
        elif [[ $line == "[INFO] Downloading from "* ]]; then
            line="  fetching ${line##*/}"
        elif [[ $line != "["*"%]"* ]]; then
            continue
        fi
        [[ ! -t 2 ]] || printf '\r\033[K%s' "${line:0:columns-1}" >&2
    done
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
}
