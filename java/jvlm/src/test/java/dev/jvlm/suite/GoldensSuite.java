package dev.jvlm.suite;

import dev.jvlm.Options.Precision;
import dev.jvlm.error.JvlmException;
import dev.jvlm.model.AdapterVectors;
import dev.jvlm.model.Blueprint;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.SeededWeights;
import dev.jvlm.sampling.SamplingVectors;
import dev.jvlm.text.Tokenizer;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.stream.Stream;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.ObjectMapper;

/**
 * Compares everything in a folder of recorded cases (the layout of tests/goldens, any part of it) with what this build computes: a folder
 * for each family with {@code checkpoint/}, {@code golden.json} and activations, {@code images/} that their cases name, {@code tiles/},
 * {@code sampling/}, {@code adapters/}.
 */
final class GoldensSuite {
    private GoldensSuite() {}

    /** Prints a line for each thing that differs and one that sums up each part; returns the number of things that differ. */
    static int run(Path dir, String device, Precision precision, PrintStream out) {
        int differ = 0;
        int parts = 0;
        try (Stream<Path> folders = Files.list(dir)) {
            for (Path folder : folders.filter(Files::isDirectory).sorted().toList()) {
                String name = folder.getFileName().toString();
                Differences differences = new Differences(out);
                if (Files.exists(folder.resolve("golden.json"))) {
                    parts++;
                    try {
                        family(folder, dir.resolve("images"), device, precision, differences, out);
                    } catch (IOException | JvlmException | JacksonException | IllegalStateException | IllegalArgumentException e) {
                        differences.add(name, "cannot be run: " + e.getMessage());
                    }
                } else if (Files.exists(folder.resolve("tiles.json"))) {
                    parts++;
                    int cases = TilesGoldens.run(folder.resolve("tiles.json"), differences);
                    out.println(name + ": " + cases + " cases, " + differences.count() + " differ");
                } else if (Files.exists(folder.resolve("sampling.json"))) {
                    parts++;
                    int cases = sampling(folder, differences);
                    out.println(name + ": " + cases + " cases, " + differences.count() + " differ");
                } else if (!AdapterVectors.cases(folder).isEmpty()) {
                    parts++;
                    try {
                        int layers = AdapterGoldens.run(folder, differences);
                        out.println(name + ": " + layers + " layers, " + differences.count() + " differ; worst in parts of the tolerance: "
                                + differences.worst());
                    } catch (IOException | JvlmException | IllegalStateException e) {
                        differences.add(name, "cannot be run: " + e.getMessage());
                    }
                }
                differ += differences.count();
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        if (parts == 0) {
            out.println("goldens: the folder holds nothing to compare");
            return 1;
        }
        return differ;
    }

    private static void family(Path family, Path images, String device, Precision precision, Differences differences, PrintStream out)
            throws IOException {
        String name = family.getFileName().toString();
        Path folder = family.resolve("checkpoint");
        Path built = null;
        try {
            Blueprint.read(folder.resolve("config.json")); // No weights are built for a model that cannot run.
            if (!hasWeights(folder)) {
                built = Files.createTempDirectory("jvlm-goldens");
                folder = SeededWeights.build(family, built);
            }
            FamilyGoldens goldens = new FamilyGoldens(family, images, Checkpoint.open(folder), device, precision, differences);
            int cases = goldens.run();
            out.println(name + ", " + device + ", " + precision.label() + ": " + cases + " cases, " + goldens.summary() + ", "
                    + differences.count() + " differ; worst in parts of the tolerance: " + differences.worst());
        } finally {
            if (built != null) {
                delete(built);
            }
        }
    }

    private static int sampling(Path folder, Differences differences) throws IOException {
        int cases = SamplingVectors.processors(folder.resolve("sampling.json"), line -> differences.add("sampling", line));
        Path rule = folder.resolve("ocr_rule.json");
        if (Files.exists(rule)) {
            // The vocabulary that it names is one of the tests' own; alone, for the json beside it holds added tokens.
            String vocabulary = new ObjectMapper().readTree(rule.toFile()).path("vocabulary").asString();
            Path alone = Files.createTempDirectory("jvlm-goldens");
            Files.copy(Path.of(System.getProperty("jvlm.root"), "tests/tokenizers").resolve(vocabulary), alone.resolve("tokenizer.model"));
            cases += SamplingVectors.ocrRule(rule, Tokenizer.load(alone), line -> differences.add("ocr_rule", line));
            delete(alone);
        }
        return cases;
    }

    private static boolean hasWeights(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.anyMatch(f -> f.toString().endsWith(".safetensors"));
        }
    }

    private static void delete(Path folder) throws IOException {
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        }
    }
}
