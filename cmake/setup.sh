# Sourced by ./jvlm and ./test: what the build needs of the machine.

# Installs what is missing, or says how to.
need_packages() {
    local packages=()
    javac -version 2>/dev/null | grep -qE ' (1[7-9]|[2-9][0-9])' || packages+=(openjdk-17-jdk-headless)
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
        echo "jvlm needs: ${packages[*]}. Install them with:" >&2
        echo "  sudo sh -c '$install'" >&2
        exit 69
    fi
    echo "jvlm: installing ${packages[*]}" >&2
    if ! DEBIAN_FRONTEND=noninteractive sh -c "$install" >/tmp/jvlm-install.$$ 2>&1; then
        tail -20 /tmp/jvlm-install.$$ >&2
        echo "jvlm: installing failed; the command was: $install" >&2
        exit 69
    fi
    rm -f /tmp/jvlm-install.$$
}

# Maven's and CMake's output as one line that changes, or as few lines where stderr is no terminal. Exit status: that of the build.
show_progress() {
    local line width=0 status=0
    while IFS= read -r line; do
        case $line in
            *"BUILD FAILURE"*) status=1 ;;
            "[INFO] --- "*) line=${line#\[INFO\] --- } line=${line%% @*} line="  ${line% (*}" ;;
            "["*"%]"*) line="  ${line}" ;;
            *) continue ;;
        esac
        if [[ -t 2 ]]; then
            width=$(($(tput cols 2>/dev/null || echo 100) - 1))
            printf '\r\033[K%s' "${line:0:width}" >&2
        fi
    done
    [[ -t 2 ]] && printf '\r\033[K' >&2
    return $status
}
