package dev.jvlm.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** ./jvlm in a folder of its own, with Maven, the JDK and id replaced by scripts that write down how they were called. */
class LauncherTest {
    private static final Path ROOT = Path.of(System.getProperty("jvlm.root"));

    @TempDir
    private Path temp;

    private Path home;
    private Path tools;
    private Path jdk;

    private record Ran(int code, String out, String err) {}

    @BeforeEach
    void replaceTools() throws IOException {
        home = Files.createDirectories(temp.resolve("a clone"));
        tools = Files.createDirectories(temp.resolve("tools"));
        jdk = Files.createDirectories(temp.resolve("jdk/bin")).getParent();
        for (String name : List.of("jvlm", "cmake/setup.sh")) {
            Files.createDirectories(home.resolve(name).getParent());
            Files.copy(ROOT.resolve(name), home.resolve(name));
        }
        for (String folder : List.of("java/jvlm/src", "native", "tests/bench")) {
            Files.createDirectories(home.resolve(folder));
        }
        Files.writeString(home.resolve("pom.xml"), "");
        Files.writeString(home.resolve("native/a.cc"), "");
        script(tools.resolve("mvn"), "echo built >>'" + temp + "/builds'; mkdir -p java/jvlm-cli/target; echo jar >library.jar; echo \"$PWD/library.jar\" >java/jvlm-cli/target/classpath\n"
                + "echo '[INFO] --- maven-compiler-plugin:3.14.1:compile (default-compile) @ jvlm ---'");
        for (String name : List.of("g++", "cmake", "make", "apt-get")) {
            script(tools.resolve(name), "exit 1");
        }
        Files.writeString(jdk.resolve("release"), "JAVA_VERSION=\"17.0.1\"\n");
        script(jdk.resolve("bin/javac"), "");
        script(jdk.resolve("bin/java"), "for a; do [[ $a != -XX:ArchiveClassesAtExit=* ]] || echo classes >\"${a#*=}\"; done\n"
                + "printf '<%s>' \"$PWD\" \"${LC_ALL-}\" \"$@\"");
        for (String name : List.of("dirname", "readlink", "find", "mkdir", "head", "tee", "grep", "mv", "rm", "cat", "tput", "flock", "id")) {
            script(tools.resolve(name), "PATH=/usr/bin:/bin exec " + name + " \"$@\"");
        }
    }

    private static void script(Path file, String body) throws IOException {
        Files.deleteIfExists(file);
        Files.writeString(file, "#!/bin/bash\n" + body + "\n");
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    private Ran jvlm(Path folder, Map<String, String> environment, String... args) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of("/bin/bash", home.resolve("jvlm").toString()));
        command.addAll(List.of(args));
        ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile());
        builder.environment().clear();
        builder.environment().putAll(Map.of("PATH", tools.toString(), "JAVA_HOME", jdk.toString(), "LANG", "C"));
        builder.environment().putAll(environment);
        Path out = Files.createTempFile(temp, "out", "");
        Path err = Files.createTempFile(temp, "err", "");
        Process process = builder.redirectOutput(out.toFile()).redirectError(err.toFile()).start();
        int code = process.waitFor();
        return new Ran(code, Files.readString(out, StandardCharsets.UTF_8), Files.readString(err, StandardCharsets.UTF_8));
    }

    private int builds() throws IOException {
        Path file = temp.resolve("builds");
        return Files.exists(file) ? Files.readAllLines(file).size() : 0;
    }

    @Test
    void itBuildsOnceAndAgainWhenASourceChanges() throws Exception {
        Ran first = jvlm(home, Map.of(), "ocr", "a b.png");
        assertThat(first.code).as(first.err).isZero();
        assertThat(first.err).contains("jvlm: building").contains("  jvlm: default-compile");
        assertThat(first.out).contains("<ocr><a b.png>").contains("<-Djvlm.home=" + home + ">");
        Ran second = jvlm(home, Map.of(), "ocr", "a b.png");
        assertThat(second.err).isEmpty();
        assertThat(second.out).isEqualTo(first.out).contains("<-XX:SharedArchiveFile=" + home + "/java/jvlm-cli/target/classes.jsa>");
        assertThat(builds()).isEqualTo(1);
        Files.setLastModifiedTime(home.resolve("native/a.cc"), FileTime.from(Instant.now().plusSeconds(5)));
        assertThat(jvlm(home, Map.of(), "ocr").code).isZero();
        assertThat(builds()).isEqualTo(2);
    }

    @Test
    void aClassArchiveThatWasNotFinishedIsNotUsed() throws Exception {
        script(jdk.resolve("bin/java"), "for a; do [[ $a != -XX:ArchiveClassesAtExit=* ]] || { echo part >\"${a#*=}\"; exit 1; }; done\n"
                + "printf '<%s>' \"$@\"");
        Ran ran = jvlm(home, Map.of(), "ocr");
        assertThat(ran.code).isZero();
        assertThat(ran.out).contains("<ocr>").doesNotContain("SharedArchiveFile");
    }

    @Test
    void itStaysInTheFolderWhereItWasCalledAndSpeaksUtf8() throws Exception {
        Path elsewhere = Files.createDirectories(temp.resolve("else where"));
        Ran ran = jvlm(elsewhere, Map.of(), "ocr", "x.png");
        assertThat(ran.out).startsWith("<" + elsewhere + "><C.UTF-8>");
        assertThat(jvlm(elsewhere, Map.of("LANG", "de_DE.UTF-8"), "ocr").out).startsWith("<" + elsewhere + "><>");
    }

    @Test
    void aFolderThatWasMovedIsBuiltAnew() throws Exception {
        jvlm(home, Map.of());
        Path moved = temp.resolve("moved");
        Files.move(home, moved);
        home = moved;
        assertThat(jvlm(home, Map.of()).code).isZero();
        assertThat(builds()).isEqualTo(2);
        assertThat(jvlm(home, Map.of()).err).isEmpty();
    }

    @Test
    void aLibraryThatIsGoneIsFetchedAgain() throws Exception {
        jvlm(home, Map.of());
        Files.delete(home.resolve("library.jar"));
        assertThat(jvlm(home, Map.of()).code).isZero();
        assertThat(builds()).isEqualTo(2);
        assertThat(home.resolve("library.jar")).exists();
    }

    @Test
    void aFailedBuildIsSaidAndTriedAgain() throws Exception {
        script(tools.resolve("mvn"), "echo '[ERROR] a.cc:1: error: no such thing'; exit 1");
        for (int i = 0; i < 2; i++) {
            Ran ran = jvlm(home, Map.of());
            assertThat(ran.code).isEqualTo(70);
            assertThat(ran.out).isEmpty();
            assertThat(ran.err).contains("the build failed").contains("error: no such thing").contains("build.log");
        }
    }

    @Test
    void whoIsNotRootGetsTheCommand() throws Exception {
        for (String name : List.of("mvn", "g++")) {
            Files.delete(tools.resolve(name));
        }
        script(tools.resolve("id"), "echo 1000");
        Ran ran = jvlm(home, Map.of());
        assertThat(ran.code).isEqualTo(69);
        assertThat(ran.out).isEmpty();
        assertThat(ran.err).contains("sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends maven g++'");
    }

    @Test
    void withoutAptGetItSaysWhatIsMissing() throws Exception {
        Files.delete(tools.resolve("cmake"));
        Files.delete(tools.resolve("apt-get"));
        Ran ran = jvlm(home, Map.of());
        assertThat(ran.code).isEqualTo(69);
        assertThat(ran.err).contains("JDK 17").contains("lacks what Debian calls: cmake");
    }

    @Test
    void anOldJavaHomeIsPassedOver() throws Exception {
        Path old = Files.createDirectories(temp.resolve("old/bin")).getParent();
        Files.writeString(old.resolve("release"), "JAVA_VERSION=\"11.0.2\"\n");
        script(old.resolve("bin/javac"), "");
        script(old.resolve("bin/java"), "exit 3");
        Files.createSymbolicLink(tools.resolve("javac"), jdk.resolve("bin/javac"));
        assertThat(jvlm(home, Map.of("JAVA_HOME", old.toString()), "ocr").out).contains("<ocr>");
        assertThat(jvlm(home, Map.of("JAVA_HOME", ""), "ocr").out).contains("<ocr>");
        assertThat(builds()).isEqualTo(1);
    }
}
