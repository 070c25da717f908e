package dev.jvlm.engine;

import dev.jvlm.error.JvlmException;
import java.io.IOException;
import java.net.JarURLConnection;
import java.net.URL;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.CRC32;
import org.bytedeco.javacpp.Loader;

/**
 * The one gate to native code. A second attempt to load a class whose library failed says only "could not initialize class", so the
 * first failure is kept and repeated.
 */
final class NativeLibrary {
    private static final JvlmException FAILURE = load();

    private NativeLibrary() {}

    static void require() {
        if (FAILURE != null) {
            throw new JvlmException(FAILURE.code(), FAILURE.getMessage(), FAILURE.getCause());
        }
    }

    private static JvlmException load() {
        // Weights are native memory: JavaCPP's limits, which follow the Java heap, must not apply to them. Both are read when its Pointer
        // class is first used.
        setDefault("org.bytedeco.javacpp.maxBytes", "0");
        setDefault("org.bytedeco.javacpp.maxPhysicalBytes", "0");
        setDefault("org.bytedeco.javacpp.noPointerGC", "true");
        try {
            dropStaleCopies();
            Class.forName("dev.jvlm.engine.NativeJvlm");
            return null;
        } catch (ClassNotFoundException | LinkageError e) {
            return new JvlmException(JvlmException.Code.DEVICE, sentence(System.getProperty("os.name"), System.getProperty("os.arch"), musl(), e), e);
        }
    }

    private static void setDefault(String property, String value) {
        if (System.getProperty(property) == null) {
            System.setProperty(property, value);
        }
    }

    /**
     * JavaCPP unpacks a library into a cache and takes it from there as long as size and time are those of the jar's entry. Another build
     * may have both (reproducible builds set the time), so what is there is compared by content and goes if it differs. A second class
     * loader gets a copy with a number in its name.
     */
    private static void dropStaleCopies() {
        URL resource = NativeLibrary.class.getResource("linux-x86_64/libjvlm.so");
        try {
            if (resource != null && resource.openConnection() instanceof JarURLConnection jar) {
                Path folder = Loader.cacheResource(resource).toPath().getParent();
                try (DirectoryStream<Path> copies = Files.newDirectoryStream(folder, "libjvlm*.so")) {
                    for (Path copy : copies) {
                        CRC32 crc = new CRC32();
                        crc.update(Files.readAllBytes(copy));
                        if (crc.getValue() != jar.getJarEntry().getCrc()) {
                            Files.delete(copy); // Whoever runs it keeps it: only the name goes.
                        }
                    }
                }
            }
        } catch (IOException e) {
            // Loading meets the same obstacle and says what it is.
        }
    }

    private static boolean musl() {
        return Files.exists(Path.of("/lib/ld-musl-x86_64.so.1")) && !Files.exists(Path.of("/lib64/ld-linux-x86-64.so.2"));
    }

    /** What is wrong and what to do. The linker's own words stay in the cause: they name folders of the machine. */
    static String sentence(String os, String arch, boolean musl, Throwable e) {
        if (!os.equals("Linux") || !arch.equals("amd64")) {
            return "jvlm has native code for Linux on x86-64 only; this is " + os + " on " + arch;
        }
        if (musl) {
            return "jvlm's native code needs glibc 2.34 or newer; this system has musl. Use a glibc image, such as Debian's";
        }
        String words = words(e);
        if (words.contains("GLIBC")) {
            return "jvlm's native code needs a newer glibc than this system has; use Debian 12, Ubuntu 22.04, RHEL 9 or newer";
        }
        if (words.contains("failed to map segment") || words.contains("Operation not permitted")) {
            return "The folder that native libraries are unpacked to forbids running code (noexec); name another with"
                    + " -Dorg.bytedeco.javacpp.cachedir=FOLDER";
        }
        if (words.contains("No space left") || words.contains("Read-only") || words.contains("Permission denied")
                || words.contains("create the cache")) {
            return "Native libraries cannot be unpacked: the folder for them is read-only or full; name another with"
                    + " -Dorg.bytedeco.javacpp.cachedir=FOLDER";
        }
        return "jvlm's native library cannot be loaded; check that the jars of jvlm, javacpp and dnnl with classifier linux-x86_64 are on the"
                + " class path, or name another folder to unpack to with -Dorg.bytedeco.javacpp.cachedir=FOLDER (the cause says more)";
    }

    /** What the linker and JavaCPP said: the first of several failures is the last one's cause. */
    private static String words(Throwable e) {
        StringBuilder words = new StringBuilder();
        for (Throwable t = e; t != null; t = t.getCause()) {
            words.append(t.getMessage()).append('\n');
        }
        return words.toString();
    }
}
