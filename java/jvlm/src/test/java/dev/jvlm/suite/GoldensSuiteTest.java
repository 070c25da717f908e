package dev.jvlm.suite;

import static org.assertj.core.api.Assertions.assertThat;

import dev.jvlm.Options.Precision;
import dev.jvlm.engine.Forward;
import dev.jvlm.text.Tokenizer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.databind.node.StringNode;

class GoldensSuiteTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path ROOT = Path.of(System.getProperty("jvlm.root"));
    private static final Path GOLDENS = ROOT.resolve("tests/goldens");

    private record Result(int differ, List<String> lines) {}

    private static Result run(Path folder, Precision precision) {
        return run(folder, "cpu", precision);
    }

    private static Result run(Path folder, String device, Precision precision) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        int differ = GoldensSuite.run(folder, device, precision, new PrintStream(out, true, StandardCharsets.UTF_8));
        return new Result(differ, out.toString(StandardCharsets.UTF_8).lines().toList());
    }

    /** A family, up to which length of prompt, and what its line says then. */
    private record Part(String family, int longest, String cases) {}

    @Tag("full")
    @Test
    void recordedCasesAreReproduced() {
        Result result = run(GOLDENS, Precision.FLOAT32);
        result.lines.forEach(System.out::println);
        assertThat(result.lines).noneMatch(line -> line.startsWith("differs"));
        assertThat(result.differ).isZero();
        assertThat(result.lines)
                .anyMatch(line -> line.startsWith("h2ovl-0.8b, cpu, float32: 8 cases, 174 steps, "))
                .anyMatch(line -> line.startsWith("h2ovl-2b, cpu, float32: 11 cases, 176 steps, "))
                .anyMatch(line -> line.startsWith("idefics2, cpu, float32: 13 cases, 198 steps, "))
                .anyMatch(line -> line.startsWith("internvl-chat-v1-5, cpu, float32: 9 cases, 176 steps, "))
                .anyMatch(line -> line.startsWith("mini-internvl-2b-v1-5, cpu, float32: 3 cases, 72 steps, "))
                .anyMatch(line -> line.startsWith("mini-internvl-4b-v1-5, cpu, float32: 4 cases, 78 steps, "));
        assertThat(Forward.live()).isZero();
    }

    /** The cases of up to five tiles; both of InternVL's scaled ropes pass their limits in them. {@code ./test goldens tests/goldens} takes all. */
    @Tag("full")
    @ParameterizedTest
    @EnumSource(value = Precision.class, mode = EnumSource.Mode.EXCLUDE, names = "FLOAT32")
    void recordedCasesAreReproducedAsFarAsTheFormatAllows(Precision precision, @TempDir Path folder) throws IOException {
        reproduce(folder, "cpu", precision,
                new Part("h2ovl-0.8b", 1500, "5 cases, 102 steps, "),
                new Part("h2ovl-2b", 1500, "6 cases, 90 steps, "),
                new Part("idefics2", Integer.MAX_VALUE, "13 cases, 198 steps, "),
                new Part("internvl-chat-v1-5", 1500, "5 cases, 96 steps, "),
                new Part("mini-internvl-2b-v1-5", 1500, "1 cases, 24 steps, "),
                new Part("mini-internvl-4b-v1-5", 1500, "2 cases, 48 steps, "));
    }

    /**
     * The CUDA kernels, emulated, in int8: the cases of at most one tile, and those in which a rope passes its limit. ctest's models_emu takes such cases in
     * bf16; {@code ./test goldens tests/goldens --device emu} takes all, and minutes.
     */
    @Tag("full")
    @Test
    void kernelsReproduceThemAsFarAsTheFormatAllows(@TempDir Path folder) throws IOException {
        reproduce(folder, "emu", Precision.INT8,
                new Part("h2ovl-0.8b", 300, "3 cases, 54 steps, "),
                new Part("h2ovl-2b", 300, "2 cases, 12 steps, "),
                new Part("idefics2", 92, "4 cases, 80 steps, "),
                new Part("internvl-chat-v1-5", 400, "3 cases, 48 steps, "),
                new Part("mini-internvl-2b-v1-5", 1430, "1 cases, 24 steps, "),
                new Part("mini-internvl-4b-v1-5", 1430, "2 cases, 48 steps, "));
    }

    private static void reproduce(Path folder, String device, Precision precision, Part... parts) throws IOException {
        for (Part part : parts) {
            Path own = Files.createDirectory(folder.resolve("of-" + part.family));
            Path golden = copy(part.family, own).resolve("golden.json");
            ObjectNode all = (ObjectNode) JSON.readTree(golden.toFile());
            ArrayNode cases = (ArrayNode) all.path("cases");
            for (int i = cases.size() - 1; i >= 0; i--) {
                if (cases.get(i).path("length").asInt() > part.longest) {
                    cases.remove(i);
                }
            }
            JSON.writeValue(golden.toFile(), all);
            Result result = run(own, device, precision);
            result.lines.forEach(System.out::println);
            assertThat(result.differ).as(String.join("\n", result.lines)).isZero();
            assertThat(result.lines)
                    .anyMatch(line -> line.startsWith(part.family + ", " + device + ", " + precision.label() + ": " + part.cases));
        }
        assertThat(Forward.live()).isZero();
    }

    /** What other CPUs would run; the instruction set is chosen once a process. */
    @Tag("full")
    @ParameterizedTest
    @ValueSource(strings = {"avx2", "portable"})
    void otherInstructionSetsReproduceThemToo(String isa, @TempDir Path folder) throws IOException, InterruptedException {
        copy("h2ovl-0.8b", folder);
        String classes = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
        ProcessBuilder java = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Djvlm.root=" + ROOT,
                "-cp", classes, Suites.class.getName(), "goldens", folder.toString());
        java.environment().put("JVLM_CPU_ISA", isa);
        Process process = java.redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertThat(process.waitFor()).as(output).isZero();
        assertThat(output).contains("8 cases, 174 steps, 0 differ");
    }

    /** What is left of the recorded cases: so many of the first. */
    private static ArrayNode firstCases(ObjectNode golden, int count) {
        ArrayNode cases = (ArrayNode) golden.path("cases");
        while (cases.size() > count) {
            cases.remove(count);
        }
        return cases;
    }

    /** Each recorded thing is altered once; each must be named. */
    @Test
    void whatIsAlteredIsNamed(@TempDir Path folder) throws IOException {
        Path family = copy("h2ovl-0.8b", folder);
        ObjectNode golden = (ObjectNode) JSON.readTree(family.resolve("golden.json").toFile());
        ArrayNode cases = firstCases(golden, 4);
        cases.remove(2);
        cases.remove(1); // left: one with a picture, one without
        ((ArrayNode) golden.path("tokenizer").get(1).path("ids")).add(5);
        ObjectNode first = (ObjectNode) cases.get(0);
        ((ArrayNode) first.path("tiles_sha256").get(0)).set(3, StringNode.valueOf("0".repeat(64)));
        ((ArrayNode) first.path("connector_samples").get(9)).set(2, JSON.getNodeFactory().numberNode(2.5));
        ((ArrayNode) first.path("steps").get(2).path("logits")).set(1, JSON.getNodeFactory().numberNode(1.25));
        first.put("ids_sha256", "0");
        ObjectNode second = (ObjectNode) cases.get(1);
        ((ArrayNode) second.path("ids_rle").get(4)).set(0, JSON.getNodeFactory().numberNode(7));
        ArrayNode greedy = (ArrayNode) second.path("greedy_ids");
        greedy.set(greedy.size() - 1, JSON.getNodeFactory().numberNode(greedy.get(greedy.size() - 1).asInt() ^ 1));
        second.put("greedy_text", second.path("greedy_text").asString() + "x");
        second.put("stop", "eos");
        JSON.writeValue(family.resolve("golden.json").toFile(), golden);

        ObjectNode described = (ObjectNode) JSON.readTree(family.resolve("activations.json").toFile());
        ((ObjectNode) described.path("decoder.1")).put("l2", described.path("decoder.1").path("l2").asDouble() * 1.001);
        JSON.writeValue(family.resolve("activations.json").toFile(), described);
        alterFloat(family.resolve("activations.safetensors"), "vision.1", 128 * (34 + 5) + 77);

        Result result = run(folder, Precision.FLOAT32);
        List<String> expected = List.of(
                "tokenizer \"",
                "case 0 picture 0 (page.png) tile 3: ",
                "case 0 connector_samples: tile 4 row 131 column 2 ",
                "case 0 step 2 logits: id ",
                "case 0 prompt's digest: ",
                "case 0 vision.1: [1, 84, 77] is ",
                "case 0 decoder.1: l2 ",
                "case 1 prompt: ",
                "case 1 step 23: id ",
                "case 1 text: ",
                "case 1 stop: limit instead of eos");
        List<String> differ = result.lines.stream().filter(line -> line.startsWith("differs: h2ovl-0.8b ")).toList();
        for (String part : expected) {
            assertThat(differ).as("among " + String.join("\n", differ)).anyMatch(line -> line.startsWith("differs: h2ovl-0.8b " + part));
        }
        assertThat(differ).hasSize(expected.size());
        assertThat(result.differ).isEqualTo(expected.size());
    }

    /** {@code bad_words_ids} are out of the question in a recording, as they are when a model answers. */
    @Test
    void whatIsNeverGeneratedIsNotExpected(@TempDir Path folder) throws IOException {
        Path family = copy("idefics2", folder);
        ObjectNode golden = (ObjectNode) JSON.readTree(family.resolve("golden.json").toFile());
        ArrayNode cases = firstCases(golden, 1);
        ObjectNode only = (ObjectNode) cases.get(0);
        ObjectNode step = (ObjectNode) only.path("steps").get(0);
        ArrayNode ids = (ArrayNode) step.path("ids");
        ArrayNode logits = (ArrayNode) step.path("logits");
        int banned = ids.remove(0).asInt();
        logits.remove(0);
        step.put("margin", logits.get(0).asDouble() - logits.get(1).asDouble());
        only.put("max_new", 1).putArray("greedy_ids").add(ids.get(0).asInt());
        only.put("greedy_text", Tokenizer.load(family.resolve("checkpoint")).decode(new int[] {ids.get(0).asInt()}));
        JSON.writeValue(family.resolve("golden.json").toFile(), golden);
        assertThat(run(folder, Precision.FLOAT32).lines).anyMatch(line -> line.contains("case 0 step 0: id " + banned + " instead of "));

        Path generation = family.resolve("checkpoint/generation_config.json");
        ObjectNode words = (ObjectNode) JSON.readTree(generation.toFile());
        ((ArrayNode) words.path("bad_words_ids")).addArray().add(banned);
        JSON.writeValue(generation.toFile(), words);
        Result result = run(folder, Precision.FLOAT32);
        assertThat(result.differ).as(String.join("\n", result.lines)).isZero();
    }

    /** A weight that is off by a hundred thousandth, a scale, and an adapter that lacks a layer. */
    @Test
    void adaptersThatAreAlteredAreNamed(@TempDir Path folder) throws IOException {
        try (Stream<Path> files = Files.walk(GOLDENS.resolve("adapters"))) {
            for (Path file : files.toList()) {
                Files.copy(file, folder.resolve(GOLDENS.relativize(file).toString()));
            }
        }
        Result whole = run(folder, Precision.FLOAT32);
        assertThat(whole.lines).hasSize(1).allMatch(line -> line.startsWith("adapters: 15 layers, 0 differ; "));
        assertThat(whole.differ).isZero();
        Path adapters = folder.resolve("adapters");
        alterFloat(adapters.resolve("dora/expected.safetensors"), "merged.o_proj.weight", 3 * 40 + 7, 1e-5f);
        Path scaled = adapters.resolve("patterns/adapter_config.json");
        Files.writeString(scaled, Files.readString(scaled).replace("\"q_proj\": 7", "\"q_proj\": 8"));
        Result two = run(folder, Precision.FLOAT32);
        assertThat(two.differ).isEqualTo(2);
        assertThat(two.lines.get(0)).startsWith("differs: adapter dora o_proj: [3, 7], recorded ");
        assertThat(two.lines.get(1)).startsWith("differs: adapter patterns q_proj: ");
        Path partial = adapters.resolve("rslora/adapter_config.json");
        Files.writeString(partial, Files.readString(partial).replace("\"o_proj\"", "\"other\""));
        Result refused = run(folder, Precision.FLOAT32);
        assertThat(refused.differ).isEqualTo(3);
        assertThat(refused.lines).anyMatch(line -> line.startsWith("differs: adapters: cannot be run: The adapter holds layers that target_modules"));
    }

    @Test
    void weightsThatTheRecipeDoesNotGiveAreNoFamily(@TempDir Path folder) throws IOException {
        Path family = copy("h2ovl-2b", folder);
        ObjectNode recipe = (ObjectNode) JSON.readTree(family.resolve("weights.json").toFile());
        JSON.writeValue(family.resolve("weights.json").toFile(), recipe.put("seed", 12345));
        Result result = run(folder, Precision.FLOAT32);
        assertThat(result.differ).isEqualTo(1);
        assertThat(result.lines).anyMatch(line -> line.startsWith("differs: h2ovl-2b: cannot be run: ") && line.contains("has the digest"));
    }

    @Test
    void aModelThatCannotRunIsADifference(@TempDir Path folder) throws IOException {
        Files.createDirectories(folder.resolve("llava/checkpoint"));
        Files.writeString(folder.resolve("llava/golden.json"), "{}");
        Files.writeString(folder.resolve("llava/checkpoint/config.json"), "{\"model_type\":\"llava\"}");
        Result result = run(folder, Precision.FLOAT32);
        assertThat(result.lines).singleElement().asString().startsWith("differs: llava: cannot be run: config.json: model_type is 'llava'");
        assertThat(result.differ).isEqualTo(1);
        assertThat(run(Files.createDirectory(folder.resolve("empty")), Precision.FLOAT32).differ).isEqualTo(1);
    }

    private static Path copy(String family, Path folder) throws IOException {
        for (String part : List.of("images", family)) {
            try (Stream<Path> files = Files.walk(GOLDENS.resolve(part))) {
                for (Path file : files.toList()) {
                    Files.copy(file, folder.resolve(GOLDENS.relativize(file).toString()));
                }
            }
        }
        return folder.resolve(family);
    }

    private static void alterFloat(Path file, String tensor, int index) throws IOException {
        alterFloat(file, tensor, index, 0.1f);
    }

    private static void alterFloat(Path file, String tensor, int index, float by) throws IOException {
        ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
        int header = Math.toIntExact(bytes.getLong());
        int start = JSON.readTree(new String(bytes.array(), 8, header, StandardCharsets.UTF_8))
                .path(tensor).path("data_offsets").get(0).asInt();
        int at = 8 + header + start + 4 * index;
        bytes.putFloat(at, bytes.getFloat(at) + by);
        Files.write(file, bytes.array());
    }
}
