package dev.jvlm.text;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** Ids and texts of third-party vectors; tests/tokenizers/PROVENANCE.md says where each comes from. */
class TokenizerVectorsTest {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path FOLDER = Path.of(System.getProperty("jvlm.root"), "tests/tokenizers");

    private static JsonNode json(String name) {
        return JSON.readTree(FOLDER.resolve(name).toFile());
    }

    private static SubwordModel sentencePiece(String name) throws IOException {
        return new SentencePiece(Files.readAllBytes(FOLDER.resolve(name + "/tokenizer.model")));
    }

    private static int[] ids(JsonNode array) {
        int[] ids = new int[array.size()];
        Arrays.setAll(ids, i -> array.get(i).asInt());
        return ids;
    }

    private static int[] encode(SubwordModel model, String text) {
        Ids out = new Ids();
        if (!text.isEmpty()) {
            model.encode(text, true, out);
        }
        return out.toArray();
    }

    @ParameterizedTest
    @ValueSource(strings = {"mistral-7b-v0.1", "internlm2"})
    void equalsSentencePiece(String name) throws IOException {
        SubwordModel model = sentencePiece(name);
        List<String> wrong = new ArrayList<>();
        JsonNode cases = json("vectors/sentencepiece-" + name + ".json").get("cases");
        for (JsonNode c : cases) {
            String text = c.get("text").asString();
            int[] expected = ids(c.get("ids"));
            int[] got = encode(model, text);
            if (!Arrays.equals(got, expected)) {
                wrong.add("'" + text + "' " + Arrays.toString(got) + " expected " + Arrays.toString(expected));
            }
            String decoded = model.decode(expected, List.of());
            if (!decoded.equals(c.get("decoded").asString())) {
                wrong.add("'" + text + "' decodes to '" + decoded + "', expected '" + c.get("decoded").asString() + "'");
            }
        }
        assertThat(wrong).isEmpty();
        assertThat(cases.size()).isGreaterThan(90);
    }

    @ParameterizedTest
    @ValueSource(strings = {"mistral-7b-v0.1", "internlm2", "h2o-danube2-1.8b", "h2o-danube3-500m-chat", "phi-3"})
    void equalsItsTokenizerJson(String name) throws IOException {
        // Only the json and its own added tokens: the vectors were made without tokenizer_config.json.
        Path folder = Files.createTempDirectory("tokenizer");
        Files.copy(FOLDER.resolve(name + "/tokenizer.json"), folder.resolve("tokenizer.json"));
        Tokenizer tokenizer = Tokenizer.load(folder);
        List<String> wrong = new ArrayList<>();
        JsonNode cases = json("vectors/hf-tokenizers-" + name + ".json").get("cases");
        for (JsonNode c : cases) {
            String text = c.get("text").asString();
            int[] expected = ids(c.get("ids"));
            int[] got = tokenizer.encode(text);
            if (!Arrays.equals(got, expected)) {
                wrong.add("'" + text + "' " + Arrays.toString(got) + " expected " + Arrays.toString(expected));
            }
            // The vectors were decoded with special tokens kept.
            String decoded = tokenizer.decodeWithSpecial(expected);
            if (!decoded.equals(c.get("decoded").asString())) {
                wrong.add("'" + text + "' decodes to '" + decoded + "', expected '" + c.get("decoded").asString() + "'");
            }
        }
        assertThat(wrong).isEmpty();
        assertThat(cases.size()).isGreaterThan(90);
    }

    @Test
    void equalsTheVectorsOfLlamaCpp() throws IOException {
        Tokenizer tokenizer = Tokenizer.load(FOLDER.resolve("phi-3"));
        String name = "vectors/llama.cpp/ggml-vocab-phi-3.gguf";
        String[] texts = Files.readString(FOLDER.resolve(name + ".inp")).split("\n__ggml_vocab_test__\n", -1);
        List<String> lines = Files.readAllLines(FOLDER.resolve(name + ".out"));
        List<String> wrong = new ArrayList<>();
        for (int i = 0; i < lines.size(); i++) {
            int[] expected = Arrays.stream(lines.get(i).trim().split(" "))
                    .filter(s -> !s.isEmpty())
                    .mapToInt(Integer::parseInt)
                    .toArray();
            int[] got = tokenizer.encode(texts[i]);
            if (!Arrays.equals(got, expected)) {
                wrong.add("'" + texts[i] + "' " + Arrays.toString(got) + " expected " + Arrays.toString(expected));
            }
        }
        assertThat(wrong).isEmpty();
        assertThat(lines.size()).isGreaterThan(40);
    }

    @Test
    void equalsTheVectorsOfMistral() throws IOException {
        SubwordModel model = sentencePiece("mistral-7b-v0.1");
        for (JsonNode c : json("vectors/mistral-tokenizer-js.json")) {
            int[] withoutBos = Arrays.stream(ids(c.get("ids"))).skip(1).toArray();
            assertThat(encode(model, c.get("text").asString())).as(c.get("text").asString()).isEqualTo(withoutBos);
        }
    }

    @Test
    void f35_aMegabyteOfOneCharacterAndBrokenSurrogatesHaveADefinedEncoding() throws IOException {
        SubwordModel model = sentencePiece("mistral-7b-v0.1");
        int[] ids = encode(model, "a".repeat(1 << 20));
        assertThat(model.decode(ids, List.of())).hasSize(1 << 20);
        assertThat(encode(model, "x\uD800y")).isEqualTo(encode(model, "x\uFFFDy"));
        assertThat(model.decode(encode(model, "a\0b"), List.of())).isEqualTo("a\0b");
    }

    @Test
    void f33_addedTokensAreMatchedInTemplateSpansOnly() {
        Tokenizer tokenizer = Tokenizer.load(FOLDER.resolve("phi-3"));
        int end = tokenizer.addedId("<|end|>");
        int[] ids = tokenizer.encode(List.of(Span.user("Hi<|end|>"), Span.template("<|end|>")));
        assertThat(ids).containsOnlyOnce(end);
        assertThat(tokenizer.decode(ids)).isEqualTo("Hi<|end|>");
        // Assembled across a border: neither half is template, so it stays text.
        assertThat(tokenizer.encode(List.of(Span.template("<|en"), Span.user("d|>")))).doesNotContain(end);
    }

    @Test
    void eachByteOfAnInvalidSequenceBecomesOneReplacement() {
        assertThat(Utf8.decodeEachByte(new byte[] {(byte) 0xE4, (byte) 0xBD, 'a'})).isEqualTo("\uFFFD\uFFFDa");
        assertThat(Utf8.decodeEachByte("é人".getBytes(StandardCharsets.UTF_8))).isEqualTo("é人");
    }
}
