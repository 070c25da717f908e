package dev.jvlm.cli;

import dev.jvlm.Jvlm;
import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import dev.jvlm.model.Checkpoint;
import java.io.File;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import org.bytedeco.javacpp.Loader;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;

/** What this machine has of what jvlm needs, what is missing, and what to do about it. */
@Command(name = "doctor", description = "Checks this machine: what was found, what is missing, how to fix it.")
final class Doctor implements Callable<Integer> {
    private static final int LEAST_JAVA = 17;

    /** What speeds the arithmetic up, as /proc/cpuinfo calls it. */
    private static final List<String> FEATURES = List.of("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni",
            "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8");

    /** A black JPEG of 8 x 8 pixels: the format that needs OpenCV. */
    private static final String JPEG = "/9j/4AAQSkZJRgABAgAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PT"
            + "gyPC4zNDL/wAALCAAIAAgBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIh"
            + "MUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhI"
            + "WGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/APn+"
            + "v//Z";

    @ParentCommand
    private Main main;

    @Option(names = "--json", description = "One JSON object.")
    private boolean json;

    /** @param fix what to do, or null where nothing is wrong; @param needed whether nothing works without it */
    private record Finding(String what, String found, String fix, boolean needed) {}

    private final List<Finding> findings = new ArrayList<>();

    @Override
    public Integer call() {
        java();
        system();
        cpu();
        memory();
        cache();
        natives();
        pictures();
        weights();
        boolean sound = findings.stream().noneMatch(f -> f.needed && f.fix != null);
        Console console = main.console();
        if (json) {
            Map<String, Object> object = new LinkedHashMap<>();
            object.put("sound", sound);
            object.put("findings", findings);
            console.json(object);
        } else {
            findings.forEach(f -> {
                console.answer(String.format("%-7s %-9s %s", f.fix == null ? "ok" : f.needed ? "MISSING" : "note", f.what, f.found));
                if (f.fix != null) {
                    console.answer(" ".repeat(18) + f.fix);
                }
            });
            console.answer(sound ? "jvlm can work here." : "jvlm cannot work here yet: see what is MISSING.");
        }
        return sound ? Main.OK : Main.UNAVAILABLE;
    }

    private void ok(String what, String found) {
        findings.add(new Finding(what, found, null, true));
    }

    private void missing(String what, String found, String fix) {
        findings.add(new Finding(what, found, fix, true));
    }

    private void note(String what, String found, String advice) {
        findings.add(new Finding(what, found, advice, false));
    }

    private void java() {
        String found = System.getProperty("java.version") + ", " + System.getProperty("java.vm.name") + ", " + System.getProperty("java.home");
        if (Runtime.version().feature() >= LEAST_JAVA) {
            ok("java", found);
        } else {
            missing("java", found, "jvlm needs Java 17 or newer: apt-get install openjdk-17-jdk-headless");
        }
    }

    private void system() {
        String found = System.getProperty("os.name") + " " + System.getProperty("os.version") + ", " + System.getProperty("os.arch");
        if (found.startsWith("Linux") && System.getProperty("os.arch").equals("amd64")) {
            ok("system", found);
        } else {
            missing("system", found, "jvlm's native code is for Linux on x86-64; use such a machine or container");
        }
    }

    private void cpu() {
        String name = "unknown";
        Set<String> flags = new TreeSet<>();
        for (String line : lines("/proc/cpuinfo")) {
            String[] field = line.split("\\s*:\\s*", 2);
            if (field.length == 2 && field[0].equals("model name")) {
                name = field[1];
            } else if (field.length == 2 && field[0].equals("flags")) {
                flags.addAll(Arrays.asList(field[1].split(" ")));
            }
        }
        List<String> found = FEATURES.stream().filter(flags::contains).toList();
        // What the process may use: affinity and container limits are taken into account.
        String text = name + ", " + Runtime.getRuntime().availableProcessors() + " CPUs for this process; " + String.join(" ", found);
        if (found.contains("avx2") && found.contains("fma")) {
            ok("cpu", text);
        } else {
            note("cpu", text, "Without AVX2 and FMA jvlm works, but slowly; use a CPU of 2013 or later");
        }
        for (String line : lines("/sys/kernel/mm/transparent_hugepage/enabled")) {
            if (line.contains("[never]")) {
                note("pages", "huge pages are switched off", "Reading weights is a third faster with them, as root:"
                        + " echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
            } else {
                ok("pages", "huge pages: " + line);
            }
        }
    }

    private void memory() {
        // Of the container, where there is one.
        long machine = ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getTotalMemorySize();
        String available = lines("/proc/meminfo").stream()
                .filter(line -> line.startsWith("MemAvailable:"))
                .map(line -> ", " + Long.parseLong(line.replaceAll("\\D", "")) / 1024 + " MiB of it free on this machine")
                .findFirst()
                .orElse("");
        ok("memory", (machine >> 20) + " MiB" + available + " ('jvlm describe --model DIR' says what a model takes)");
    }

    private void cache() {
        try {
            File folder = Loader.getCacheDir();
            String found = folder + " (native libraries are unpacked there)";
            long free = folder.getUsableSpace() >> 20;
            if (free < 512) {
                note("cache", found + ", " + free + " MiB free", "Make room: the libraries take about 200 MiB");
            } else {
                ok("cache", found);
            }
        } catch (IOException e) {
            missing("cache", "no folder that can be written for native libraries", "Name one: JAVA_TOOL_OPTIONS="
                    + "-Dorg.bytedeco.javacpp.cachedir=FOLDER");
        }
    }

    private void natives() {
        try {
            long start = System.nanoTime();
            Jvlm.devices().forEach((name, what) -> ok("device", name + " (" + what + ")"));
            ok("native", String.format(Locale.ROOT, "library loaded in %d ms", (System.nanoTime() - start) / 1_000_000));
        } catch (JvlmException e) {
            missing("native", "library not loaded" + (e.getCause() == null ? "" : ": " + e.getCause().getMessage()), e.getMessage());
        }
    }

    private void pictures() {
        try {
            Image image = Image.decode(Base64.getDecoder().decode(JPEG));
            ok("pictures", "decoded a JPEG of " + image.width() + " x " + image.height());
        } catch (JvlmException | LinkageError e) {
            missing("pictures", "the image decoder does not work: " + e.getMessage(),
                    "Check that the jars of opencv and openblas, with and without classifier linux-x86_64, are on the class path");
        }
    }

    private void weights() {
        Path folder = ModelOptions.bundled();
        if (folder == null) {
            note("model", "none comes with the jars", "Name a model's folder with --model DIR");
            return;
        }
        try {
            Checkpoint checkpoint = Checkpoint.open(folder);
            ok("model", ModelOptions.describe(folder, checkpoint.blueprint()) + ", fingerprint " + checkpoint.fingerprint().substring(0, 16));
        } catch (JvlmException e) {
            missing("model", "the bundled model in " + folder + " cannot be opened", e.getMessage());
        }
    }

    private static List<String> lines(String file) {
        try {
            return Files.readAllLines(Path.of(file));
        } catch (IOException e) {
            return List.of();
        }
    }
}
