#!/usr/bin/env bash
# What the README promises to a Java developer: after `mvn install`, an empty project with its one dependency compiles and runs its example.
# Dependency and example are taken out of the README. Our artifacts go into a repository of their own, beside links to what was downloaded
# before; native libraries are unpacked into a folder of their own.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
root=$(cd "$here/../../.." && pwd)
. "$root/cmake/setup.sh"
find_jdk
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

fail() {
    echo "consumer: $1" >&2
    exit 1
}

# block LANGUAGE PATTERN: the first fenced block of this language in the README that holds the pattern.
block() {
    awk -v fence="\`\`\`$1" -v pattern="$2" '
        $0 == fence { inside = 1; text = ""; next }
        inside && $0 == "```" { inside = 0; if (text ~ pattern) { printf "%s", text; exit } }
        inside { text = text $0 "\n" }' "$root/README.md"
}

downloaded=$HOME/.m2/repository
mkdir -p "$temp/repository/dev"
for folder in "$downloaded"/* "$downloaded"/dev/*; do
    name=${folder#"$downloaded"/}
    [[ ! -e $folder || $name == dev || $name == dev/jvlm ]] || ln -s "$folder" "$temp/repository/$name"
done

(cd "$root" && mvn -q -B -ntp -DskipTests -Dmaven.repo.local="$temp/repository" -pl java/jvlm -am install) >"$temp/install.log" 2>&1 ||
    { tail -20 "$temp/install.log" >&2; fail "mvn install failed"; }

mkdir -p "$temp/project/src/main/java"
dependency=$(block xml '<dependency>')
example=$(block java 'public class')
name=$(sed -n 's/^public class \([A-Za-z]*\).*/\1/p' <<<"$example")
[[ -n $dependency && -n $name ]] || fail "the README has no dependency or no example"
pom=$(<"$here/pom.xml")
printf '%s\n' "${pom/@DEPENDENCY@/$dependency}" >"$temp/project/pom.xml"
printf '%s\n' "$example" >"$temp/project/src/main/java/$name.java"
(($(wc -l <<<"$example") <= 25)) || fail "the README's example has grown beyond 25 lines"

cd "$temp/project"
mvn -q -B -ntp -Dmaven.repo.local="$temp/repository" compile dependency:build-classpath -Dmdep.outputFile=classpath >"$temp/compile.log" 2>&1 ||
    { tail -20 "$temp/compile.log" >&2; fail "the README's example does not compile from its one dependency"; }
answer=$("$JAVA_HOME/bin/java" -Dorg.bytedeco.javacpp.cachedir="$temp/natives" -cp "target/classes:$(<classpath)" "$name" \
    "$root/weights/nano" "$root/weights/nano/samples/11_line.png")
lines=$(grep -c 'TOTAL 12.50' <<<"$answer" || true)
[[ $lines == 2 ]] || fail "the README's example answered: $answer"
echo "consumer: the README's example ran from its one dependency and read TOTAL 12.50"
