package dev.jvlm.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

class CommandLineTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path ROOT = Path.of(System.getProperty("jvlm.root"));
    private static final Path SAMPLES = ROOT.resolve("weights/nano/samples");

    @TempDir
    private Path temp;

    private record Ran(int code, String out, String err) {
        List<String> lines() {
            return out.lines().toList();
        }

        String firstWords() {
            return err.lines().findFirst().orElse("");
        }
    }

    @BeforeAll
    static void home() {
        System.setProperty("jvlm.home", ROOT.toString());
    }

    private static Ran jvlm(String... args) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        int code = Main.run(out, err, args);
        return new Ran(code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    }

    private static JsonNode sample(int i) {
        return JSON.readTree(SAMPLES.resolve("samples.json").toFile()).path("samples").get(i);
    }

    private static String file(int i) {
        return SAMPLES.resolve(sample(i).path("file").asString()).toString();
    }

    private static String text(int i) {
        return sample(i).path("greedy").asString();
    }

    // ---- the command line itself --------------------------------------------------------------------------------------------------

    @ParameterizedTest
    @ValueSource(strings = {"ask", "ocr", "describe", "doctor", "bench"})
    void helpIsAnAnswerAndListsTheExitCodes(String command) {
        Ran ran = jvlm(command, "--help");
        assertThat(ran.code).isZero();
        assertThat(ran.err).isEmpty();
        assertThat(ran.out).contains("Usage: jvlm " + command).contains("Exit codes:").contains("64").contains("69").contains("70");
    }

    @Test
    void withoutACommandTheUsageIsShownAsAnError() {
        Ran ran = jvlm();
        assertThat(ran.code).isEqualTo(64);
        assertThat(ran.out).isEmpty();
        assertThat(ran.firstWords()).isEqualTo("jvlm: Say what to do, for example: jvlm ocr PICTURE");
        assertThat(ran.err).contains("ask").contains("doctor");
    }

    @Test
    void f43_whatIsWrongOnTheCommandLineIsSaidBeforeAnyModelIsLoaded() {
        for (String[] args : new String[][] {
            {"ocr"},
            {"ocr", "--max-tokens", "many", "a.png"},
            {"ocr", "--max-tokens", "0", "a.png"},
            {"ocr", "--logprobs", "3", "a.png"},
            {"ocr", "--max-tiles", "1000", "a.png"},
            {"ocr", "--split=maybe", "a.png"},
            {"ocr", "--colour", "a.png"},
            {"ask"},
            {"ask", "--temperature", "-1", "What?", "a.png"},
            {"ask", "--temperature", "NaN", "What?", "a.png"},
            {"ask", "--top-p", "0", "What?", "a.png"},
            {"ask", "--stop", "", "What?", "a.png"},
            {"ask", "--min-tokens", "9", "--max-tokens", "3", "What?", "a.png"},
            {"ask", "--stream", "--json", "What?", "a.png"},
            {"describe", "--precision", "int4"},
            {"describe", "--context", "-5"},
            {"describe", "--context", "1000000"},
            {"describe", "--model", "weights/nano", "weights/nano/config.json"},
            {"bench", "--shape", "h2ovl-3b"},
            {"bench", "--shape", "h2ovl-2b", "--stages", "vision,dreams"},
            {"bench", "--shape", "h2ovl-2b", "--precision", "bf16,int4"},
            {"bench", "--shape", "h2ovl-2b", "--model", "weights/nano"},
            {"bench", "--shape", "h2ovl-2b", "--adapter", "tests/goldens/adapters/lora"},
            {"bench", "--stages", "vision"},
            {"bench", "--precision", "bf16,int8"},
            {"reed"},
        }) {
            Ran ran = jvlm(args);
            assertThat(ran.code).as(String.join(" ", args)).isEqualTo(64);
            assertThat(ran.out).as(String.join(" ", args)).isEmpty();
            assertThat(ran.firstWords()).as(String.join(" ", args)).startsWith("jvlm: ").doesNotContain("xception");
            assertThat(ran.err).as(String.join(" ", args)).doesNotContain("\tat ").doesNotContain("jvlm: cpu");
        }
    }

    @Test
    void aMistypedCommandIsNamedAndTheCommandsAreListed() {
        assertThat(jvlm("orc", "a.png").err).startsWith("jvlm: There is no command 'orc'").contains("ocr").contains("describe");
        assertThat(jvlm(file(0)).err).contains("jvlm ocr " + file(0));
    }

    // ---- models -------------------------------------------------------------------------------------------------------------------

    @Test
    void aMissingModelIsOneLineAndTheStackOnlyWhenAskedFor() {
        Ran ran = jvlm("ocr", "--model", temp.resolve("none").toString(), file(8));
        assertThat(ran.code).isEqualTo(69);
        assertThat(ran.out).isEmpty();
        assertThat(ran.err.lines()).hasSize(1);
        assertThat(ran.err).startsWith("jvlm: The model is no folder");
        Ran verbose = jvlm("ocr", "-v", "--model", temp.resolve("none").toString(), file(8));
        assertThat(verbose.code).isEqualTo(69);
        assertThat(verbose.err).contains("\tat dev.jvlm.");
    }

    @Test
    void aDeviceThatIsNotThereIsNotReplaced() {
        Ran ran = jvlm("ocr", "--device", "cuda:0", file(8));
        assertThat(ran.code).isEqualTo(69);
        assertThat(ran.out).isEmpty();
        assertThat(ran.err).contains("'cuda:0'").contains("cpu");
    }

    @Test
    void describeTellsWhatAModelIsWithoutLoadingIt() {
        Ran ran = jvlm("describe");
        assertThat(ran.code).isZero();
        assertThat(ran.err).isEmpty();
        assertThat(ran.out).contains("model nano").contains("fingerprint").contains("total").contains("decoder.layers");
        JsonNode object = JSON.readTree(jvlm("describe", "--json", "--precision", "int8", "--context", "512").out);
        assertThat(object.path("parameters").asLong()).isEqualTo(2_625_984);
        long sum = 0;
        for (JsonNode part : object.path("memoryPlan")) {
            sum += part.asLong();
        }
        assertThat(object.path("memoryBytes").asLong()).isEqualTo(sum).isPositive();
        assertThat(object.path("precision").asString()).isEqualTo("int8");
        assertThat(object.path("model").path("fingerprint").asString()).hasSize(64);
    }

    /** Tensors as models.md counts them, weights in bf16: two bytes each, or four where they are vectors. */
    @ParameterizedTest
    @CsvSource({"h2ovl-mississippi-800m, 493, 0.83", "h2ovl-mississippi-2b, 565, 2.15", "internvl-chat-v1-5, 934, 25.51",
        "mini-internvl-chat-2b-v1-5, 517, 2.21", "mini-internvl-chat-4b-v1-5, 541, 4.15", "idefics2-8b, 763, 8.40",
        "idefics2-8b-base, 763, 8.40", "idefics2-8b-chatty, 763, 8.40"})
    void describeTellsFromAConfigurationAlone(String model, int tensors, double billions) {
        String config = Path.of(System.getProperty("jvlm.root"), "tests/configs", model + ".json").toString();
        JsonNode object = JSON.readTree(jvlm("describe", "--json", "--tensors", config).out);
        assertThat(object.path("tensors").size()).isEqualTo(tensors);
        assertThat(object.path("parameters").asDouble() / 1e9).isCloseTo(billions, within(0.01));
        double weights = object.path("memoryPlan").path("weights").asDouble();
        assertThat(weights / object.path("parameters").asDouble()).isBetween(2.0, 2.05);
        Ran ran = jvlm("describe", "--precision", "int8", config);
        assertThat(ran.code).isZero();
        assertThat(ran.out).contains("illion parameters").contains("total").doesNotContain("fingerprint").doesNotContain("tensors:");
    }

    @Test
    void anAdapterIsMergedAndTold() throws IOException {
        String idle = adapter("idle", 0).toString();
        Ran plain = jvlm("ocr", file(0));
        Ran with = jvlm("ocr", "--adapter", idle, file(0));
        assertThat(with.code).as(with.err).isZero();
        assertThat(with.out).isEqualTo(plain.out);
        assertThat(with.firstWords()).contains("model nano ").endsWith(" with the adapter idle");
        Ran strong = jvlm("ocr", "--json", "--adapter", adapter("strong", 0.5f).toString(), file(0));
        assertThat(strong.code).as(strong.err).isZero();
        assertThat(JSON.readTree(strong.out).path("text").asString()).isNotEqualTo(text(0));
        assertThat(JSON.readTree(strong.out).path("model").path("adapter").asString()).isEqualTo("strong");

        Ran described = jvlm("describe", "--adapter", idle);
        assertThat(described.out).contains(" with the adapter idle").contains("note: Adapter merged into 1 layer: LoRA, rank 1");
        JsonNode model = JSON.readTree(jvlm("describe", "--json", "--adapter", idle).out).path("model");
        assertThat(model.path("adapter").asString()).isEqualTo("idle");
        JsonNode without = JSON.readTree(jvlm("describe", "--json").out).path("model");
        assertThat(without.has("adapter")).isFalse();
        assertThat(model.path("fingerprint")).isNotEqualTo(without.path("fingerprint"));

        Ran foreign = jvlm("ocr", "--adapter", ROOT.resolve("tests/goldens/adapters/lora").toString(), file(0));
        assertThat(foreign.code).isEqualTo(69);
        assertThat(foreign.err).startsWith("jvlm: The adapter belongs to another model");
    }

    /** An adapter of rank 1 for the last layer of the bundled model's connector: A is all ones, B all {@code b}. */
    private Path adapter(String name, float b) throws IOException {
        int width = 192;
        Path folder = Files.createDirectory(temp.resolve(name));
        Files.writeString(folder.resolve("adapter_config.json"), "{\"peft_type\":\"LORA\",\"r\":1,\"target_modules\":[\"mlp1.3\"]}");
        String layer = "\"base_model.model.mlp1.3.lora_";
        byte[] header = ("{" + layer + "A.weight\":{\"dtype\":\"F32\",\"shape\":[1,192],\"data_offsets\":[0,768]}," + layer
                + "B.weight\":{\"dtype\":\"F32\",\"shape\":[192,1],\"data_offsets\":[768,1536]}}").getBytes(StandardCharsets.UTF_8);
        ByteBuffer file = ByteBuffer.allocate(8 + header.length + 8 * width).order(ByteOrder.LITTLE_ENDIAN);
        file.putLong(header.length).put(header);
        for (int i = 0; i < 2 * width; i++) {
            file.putFloat(i < width ? 1 : b);
        }
        Files.write(folder.resolve("adapter_model.safetensors"), file.array());
        return folder;
    }

    @Test
    void doctorFindsThisMachineFit() {
        Ran ran = jvlm("doctor");
        assertThat(ran.out).contains("jvlm can work here.").doesNotContain("MISSING");
        assertThat(ran.code).isZero();
        JsonNode object = JSON.readTree(jvlm("doctor", "--json").out);
        assertThat(object.path("sound").asBoolean()).isTrue();
        List<String> what = new ArrayList<>();
        object.path("findings").forEach(f -> what.add(f.path("what").asString()));
        assertThat(what).contains("java", "system", "cpu", "memory", "cache", "native", "device", "pictures", "model");
    }

    // ---- answers ------------------------------------------------------------------------------------------------------------------

    @Test
    void ocrPrintsTheTextAndNothingElse() {
        Ran ran = jvlm("ocr", "--precision", "float32", file(8));
        assertThat(ran.code).isZero();
        assertThat(ran.out).isEqualTo(text(8) + System.lineSeparator());
        assertThat(ran.firstWords()).startsWith("jvlm: cpu (").contains("float32").contains("nano");
        assertThat(ran.err.lines()).hasSize(1);
    }

    @Test
    void aBrokenPictureDoesNotKeepTheOthersFromBeingReadInOrder() throws IOException {
        Path broken = Files.writeString(temp.resolve("broken.png"), "no picture");
        Path renamed = Files.copy(Path.of(file(0)), temp.resolve("ein Wort é.png"));
        List<String> args = new ArrayList<>(List.of("ocr", "--json", "--precision", "float32"));
        List<String> names = new ArrayList<>();
        for (int i = 0; i < 12; i++) {
            names.add(i == 3 ? broken.toString() : i == 5 ? temp.resolve("none.png").toString() : i == 7 ? renamed.toString() : file(i));
        }
        args.addAll(names);
        Ran ran = jvlm(args.toArray(String[]::new));
        assertThat(ran.code).isEqualTo(1);
        assertThat(ran.lines()).hasSize(12);
        for (int i = 0; i < 12; i++) {
            JsonNode object = JSON.readTree(ran.lines().get(i));
            assertThat(object.path("picture").asString()).isEqualTo(names.get(i));
            if (i == 3 || i == 5) {
                assertThat(object.path("error").path("code").asString()).isEqualTo("IMAGE");
                assertThat(object.path("error").path("message").asString()).isNotBlank();
                assertThat(object.has("text")).isFalse();
                assertThat(ran.err).contains(names.get(i) + ": " + object.path("error").path("message").asString());
            } else {
                assertThat(object.path("text").asString()).isEqualTo(text(i == 7 ? 0 : i));
            }
        }
    }

    @Test
    void anAnswerInJsonHasItsParts() {
        Ran ran = jvlm("ocr", "--json", "--logprobs", "2", "--precision", "float32", file(0));
        assertThat(ran.code).isZero();
        assertThat(ran.lines()).hasSize(1);
        JsonNode object = JSON.readTree(ran.out);
        assertThat(object.propertyNames()).containsExactly(
                "picture", "text", "ids", "finishReason", "usage", "timings", "logprobs", "device", "model");
        List<Integer> ids = new ArrayList<>();
        object.path("ids").forEach(id -> ids.add(id.asInt()));
        assertThat(object.path("finishReason").asString()).isEqualTo("END");
        assertThat(object.path("usage").path("completionTokens").asInt()).isEqualTo(ids.size());
        assertThat(object.path("usage").path("promptTokens").asInt()).isPositive();
        assertThat(object.path("timings").path("totalMs").asDouble()).isPositive();
        assertThat(object.path("logprobs")).hasSize(ids.size());
        JsonNode first = object.path("logprobs").get(0);
        assertThat(first.path("id").asInt()).isEqualTo(ids.get(0));
        assertThat(first.path("top")).hasSize(2);
        assertThat(object.path("device").asString()).startsWith("cpu (").endsWith("float32");
        assertThat(object.path("model").path("name").asString()).isEqualTo("nano");
    }

    @Test
    void severalTextsAreToldApart() {
        Ran ran = jvlm("ocr", file(0), file(1));
        assertThat(ran.code).isZero();
        assertThat(ran.lines()).contains("==> " + file(0) + " <==", "==> " + file(1) + " <==");
    }

    @Test
    void askStreamsTheSameAnswerThatItPrintsAtOnce() {
        Ran atOnce = jvlm("ask", "Read the text.", file(8));
        Ran streamed = jvlm("ask", "--stream", "Read the text.", file(8));
        assertThat(atOnce.code).isZero();
        assertThat(atOnce.out).isNotBlank();
        assertThat(streamed.out).isEqualTo(atOnce.out);
        assertThat(streamed.firstWords()).startsWith("jvlm: cpu (");
    }

    @Test
    void askSaysWhenAnAnswerWasCut() {
        Ran ran = jvlm("ask", "--max-tokens", "2", "--json", "Read the text.", file(8));
        assertThat(ran.code).isZero();
        assertThat(ran.err).contains("cut after 2 tokens");
        JsonNode object = JSON.readTree(ran.out);
        assertThat(object.path("finishReason").asString()).isEqualTo("LENGTH");
        assertThat(object.path("pictures").get(0).asString()).isEqualTo(file(8));
        assertThat(object.path("question").asString()).isEqualTo("Read the text.");
    }

    @Test
    void anAnswerLongerThanTheContextIsRefusedWithBothNumbers() {
        for (String[] args : new String[][] {{"ocr", "--max-tokens", "1025", file(8)}, {"ask", "--max-tokens", "1025", "What?", file(8)}}) {
            Ran ran = jvlm(args);
            assertThat(ran.code).isEqualTo(64);
            assertThat(ran.out).isEmpty();
            assertThat(ran.err).contains("1025").contains("1024");
        }
    }

    @Test
    void askWithABrokenPictureFails() throws IOException {
        Path broken = Files.writeString(temp.resolve("broken.png"), "no picture");
        Ran ran = jvlm("ask", "--json", "What?", file(0), broken.toString());
        assertThat(ran.code).isEqualTo(1);
        assertThat(JSON.readTree(ran.out).path("error").path("code").asString()).isEqualTo("IMAGE");
        assertThat(ran.err).contains(broken + ": ");
    }

    @Test
    void theSameSeedGivesTheSameAnswer() {
        String[] args = {"ask", "--temperature", "1.5", "--seed", "7", "Read the text.", file(8)};
        assertThat(jvlm(args).out).isEqualTo(jvlm(args).out);
    }

    @Tag("full")
    @Test
    void benchMeasuresFromPictureToAnswer() {
        Ran ran = jvlm("bench", "--json");
        assertThat(ran.code).isZero();
        JsonNode object = JSON.readTree(ran.out);
        assertThat(object.path("secondsToFirstToken").asDouble()).isPositive();
        assertThat(object.path("tokensPerSecond").asDouble()).isPositive();
        assertThat(object.path("usage").path("completionTokens").asInt()).isEqualTo(64);
        assertThat(jvlm("bench").out).startsWith("a page of 3000 x 4000 pixels, ").contains("tokens/s");
    }
}
