package dev.jvlm.suite;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SuitesTest {
    private static final Path ROOT = Path.of(System.getProperty("jvlm.root"));

    private static int run(ByteArrayOutputStream out, ByteArrayOutputStream err, String... args) {
        return Suites.run(args, new PrintStream(out, true, StandardCharsets.UTF_8), new PrintStream(err, true, StandardCharsets.UTF_8));
    }

    @Test
    void misuseIsStatus64WithTheUsage() {
        String folder = ROOT.resolve("tests/tokenizers").toString();
        for (List<String> args : List.of(
                List.<String>of(), List.of("goldens"), List.of("weights", folder), List.of("tokenizers", folder, "--device", "cpu"),
                List.of("goldens", folder, "--device"), List.of("goldens", folder, "--device", "cuda"),
                List.of("goldens", folder, "--precision", "fp8"), List.of("goldens", folder, "--precision"), List.of("goldens", folder + "/none"))) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            assertThat(run(out, err, args.toArray(String[]::new))).as(args.toString()).isEqualTo(64);
            assertThat(out.size()).isZero();
            assertThat(err.toString(StandardCharsets.UTF_8)).containsAnyOf("usage: ./test goldens DIR", "is no folder");
        }
    }

    @Test
    void statusIs0WhereNothingDiffersAnd1WithALineWhereSomethingDoes(@TempDir Path folder) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        assertThat(run(out, out, "tokenizers", ROOT.resolve("tests/tokenizers").toString())).isZero();
        assertThat(out.toString(StandardCharsets.UTF_8)).isEqualTo("tokenizers: 1575 cases, 0 differ\n");

        Path vectors = Files.createDirectory(folder.resolve("vectors"));
        Files.copy(ROOT.resolve("tests/tokenizers/mistral-7b-v0.1/tokenizer.model"),
                Files.createDirectory(folder.resolve("mistral-7b-v0.1")).resolve("tokenizer.model"));
        Files.writeString(vectors.resolve("sentencepiece-mistral-7b-v0.1.json"),
                "{\"cases\":[{\"text\":\"Hello\",\"ids\":[22557],\"decoded\":\"Hello\"},{\"text\":\"Hello\",\"ids\":[22558],\"decoded\":\"Hello\"}]}");
        out.reset();
        assertThat(run(out, out, "tokenizers", folder.toString())).isEqualTo(1);
        assertThat(out.toString(StandardCharsets.UTF_8).lines())
                .hasSize(3)
                .anyMatch(line -> line.startsWith(
                        "differs: sentencepiece-mistral-7b-v0.1.json \"Hello\": 1 ids instead of 1, the first difference at 0: [22557] instead of [22558]"))
                .anyMatch(line -> line.startsWith("differs: sentencepiece-mistral-7b-v0.1.json \"Hello\" decodes to "))
                .anyMatch("tokenizers: 4 cases, 2 differ"::equals);
    }
}
