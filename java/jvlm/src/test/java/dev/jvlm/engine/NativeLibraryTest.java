package dev.jvlm.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.jvlm.Jvlm;
import dev.jvlm.error.JvlmException;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Predicate;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Loading the native library out of a jar, in processes of their own: what users have, and what can go wrong there. */
class NativeLibraryTest {
    private static final String LIBRARY = "dev/jvlm/engine/linux-x86_64/libjvlm.so";
    private static final Path CLASSES = classes();

    @TempDir
    private Path temp;

    private Path jar;

    /** Run in a child: says what devices there are, or what went wrong. */
    static final class Child {
        public static void main(String[] args) {
            try {
                System.out.println(EngineLoop.devices());
            } catch (JvlmException e) {
                System.out.println(e.code() + ": " + e.getMessage());
            }
        }
    }

    private record Ran(int code, String out) {}

    @BeforeEach
    void nameJar() {
        jar = temp.resolve("jvlm.jar");
    }

    private static Path classes() {
        return Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
                .map(Path::of)
                .filter(p -> Files.exists(p.resolve("dev/jvlm/Jvlm.class")))
                .findFirst()
                .orElseThrow();
    }

    /** A jar of our classes and library; every entry with the same time, as in a reproducible build. */
    private void pack(Predicate<String> wanted, byte... appendedToTheLibrary) throws IOException {
        try (Stream<Path> files = Files.walk(CLASSES);
                OutputStream out = Files.newOutputStream(jar);
                JarOutputStream entries = new JarOutputStream(out)) {
            for (Path file : files.filter(Files::isRegularFile).toList()) {
                String name = CLASSES.relativize(file).toString();
                if (wanted.test(name)) {
                    JarEntry entry = new JarEntry(name);
                    entry.setLastModifiedTime(FileTime.from(Instant.parse("2026-01-01T00:00:00Z")));
                    entries.putNextEntry(entry);
                    entries.write(Files.readAllBytes(file));
                    if (name.equals(LIBRARY)) {
                        entries.write(appendedToTheLibrary); // Behind what the loader looks at.
                    }
                    entries.closeEntry();
                }
            }
        }
    }

    /** Runs {@link Child} on the jar; {@code before} is put in front of the command. */
    private Ran child(List<String> before, String... properties) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(before);
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of(properties));
        List<String> path = new ArrayList<>(List.of(jar.toString()));
        Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
                .filter(p -> !Path.of(p).equals(CLASSES))
                .forEach(path::add);
        command.addAll(List.of("-cp", String.join(File.pathSeparator, path), Child.class.getName()));
        ProcessBuilder java = new ProcessBuilder(command).redirectErrorStream(true);
        java.environment().keySet().removeAll(List.of("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")); // Java says that it has picked them up.
        Process process = java.start();
        String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Ran(process.waitFor(), out);
    }

    private static String cache(Path folder) {
        return "-Dorg.bytedeco.javacpp.cachedir=" + folder;
    }

    @Test
    void theJarAloneIsEnough() throws Exception {
        pack(name -> true);
        Ran ran = child(List.of(), cache(temp.resolve("cache")));
        assertThat(ran.out).startsWith("{cpu=");
        assertThat(ran.code).isZero();
    }

    @Test
    void anotherBuildOfTheSameSizeAndTimeIsUnpackedAgain() throws Exception {
        Path cache = temp.resolve("cache");
        pack(name -> true, (byte) 1);
        assertThat(child(List.of(), cache(cache)).out).startsWith("{cpu=");
        Path copy = cache.resolve("jvlm.jar").resolve(LIBRARY);
        byte[] first = Files.readAllBytes(copy);
        assertThat(first[first.length - 1]).isEqualTo((byte) 1);
        FileTime time = Files.getLastModifiedTime(copy);
        pack(name -> true, (byte) 2);
        assertThat(child(List.of(), cache(cache)).out).startsWith("{cpu=");
        byte[] second = Files.readAllBytes(copy);
        assertThat(second).hasSameSizeAs(first);
        assertThat(Files.getLastModifiedTime(copy)).isEqualTo(time);
        assertThat(second[second.length - 1]).isEqualTo((byte) 2);
    }

    @Test
    void f67_aMissingLibraryIsNamedWithTheProperty() throws Exception {
        pack(name -> !name.equals(LIBRARY));
        Ran ran = child(List.of(), cache(temp.resolve("cache")));
        assertThat(ran.out).startsWith("DEVICE: jvlm's native library cannot be loaded").contains("-Dorg.bytedeco.javacpp.cachedir=FOLDER");
    }

    @Test
    void f67_withoutAFolderThatCanBeWrittenTheMessageNamesTheProperty() throws Exception {
        pack(name -> true);
        // No folder can be made in /proc, whoever runs the test.
        Ran ran = child(List.of(), cache(Path.of("/proc/no")), "-Duser.home=/proc/no", "-Djava.io.tmpdir=/proc/no");
        assertThat(ran.out).startsWith("DEVICE: Native libraries cannot be unpacked").contains("-Dorg.bytedeco.javacpp.cachedir=FOLDER");
    }

    @Test
    void f67_aFolderThatForbidsRunningCodeIsRecognised() throws Exception {
        assertThat(inMount("noexec").out).startsWith("DEVICE: The folder that native libraries are unpacked to forbids running code")
                .contains("-Dorg.bytedeco.javacpp.cachedir=FOLDER");
    }

    @Test
    void f67_aFullDiskIsRecognised() throws Exception {
        assertThat(inMount("size=64k").out).startsWith("DEVICE: Native libraries cannot be unpacked").contains("full");
    }

    @Test
    void f67_aReadOnlyFolderIsRecognised() throws Exception {
        assertThat(inMount("ro").out).startsWith("DEVICE: Native libraries cannot be unpacked").contains("read-only");
    }

    /** With a cache folder that is a mount of its own, which no other process sees and which goes with the child. */
    private Ran inMount(String options) throws IOException, InterruptedException {
        Path folder = Files.createDirectories(temp.resolve("mount"));
        String mount = "mount -t tmpfs -o " + options + " tmpfs '" + folder + "'";
        int possible = new ProcessBuilder("unshare", "-m", "sh", "-c", mount).redirectErrorStream(true).start().waitFor();
        assumeTrue(possible == 0, "not run: this user may not mount file systems");
        pack(name -> true);
        // All folders that JavaCPP would try, one after the other.
        return child(List.of("unshare", "-m", "sh", "-c", mount + " && exec \"$0\" \"$@\""), cache(folder), "-Duser.home=" + folder,
                "-Djava.io.tmpdir=" + folder);
    }

    @Test
    void f68_aSecondClassLoaderHasALibraryOfItsOwn() throws Exception {
        assertThat(EngineLoop.devices()).containsKey("cpu");
        URL[] urls = Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
                .map(NativeLibraryTest::url)
                .toArray(URL[]::new);
        for (int i = 0; i < 2; i++) {
            try (URLClassLoader other = new URLClassLoader(urls, ClassLoader.getPlatformClassLoader())) {
                Class<?> jvlm = other.loadClass("dev.jvlm.Jvlm");
                assertThat(jvlm).isNotSameAs(Jvlm.class);
                assertThat(jvlm.getMethod("devices").invoke(null)).asString().startsWith("{cpu=");
            }
        }
        assertThat(EngineLoop.devices()).containsKey("cpu");
    }

    private static URL url(String path) {
        try {
            return Path.of(path).toUri().toURL();
        } catch (MalformedURLException e) {
            throw new IllegalStateException(e);
        }
    }

    @Test
    void f69_otherSystemsAreNamed() {
        Throwable any = new UnsatisfiedLinkError("libdnnl.so.3: cannot open shared object file: No such file or directory");
        assertThat(NativeLibrary.sentence("Linux", "amd64", true, any)).contains("musl").contains("glibc");
        assertThat(NativeLibrary.sentence("Linux", "aarch64", false, any)).contains("aarch64");
        assertThat(NativeLibrary.sentence("Mac OS X", "aarch64", false, any)).contains("Mac OS X");
        Throwable old = new UnsatisfiedLinkError("no jvlm in java.library.path: /usr/lib");
        old.initCause(new UnsatisfiedLinkError("/x/libjvlm.so: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found"));
        assertThat(NativeLibrary.sentence("Linux", "amd64", false, old)).contains("newer glibc").doesNotContain("/lib/x86_64");
    }
}
