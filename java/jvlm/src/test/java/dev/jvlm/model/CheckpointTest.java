package dev.jvlm.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import dev.jvlm.error.JvlmException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ObjectNode;

class CheckpointTest {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path NANO = Path.of(System.getProperty("jvlm.root"), "weights/nano");

    @TempDir
    Path root;

    private Path folder;

    @BeforeEach
    void copyOfTheBundledModel() throws IOException {
        folder = Files.createDirectory(root.resolve("model"));
        for (String name : List.of("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                "added_tokens.json", "preprocessor_config.json", "model.safetensors", "jvlm.json")) {
            Files.copy(NANO.resolve(name), folder.resolve(name));
        }
    }

    private void assertRefused(JvlmException.Code code, String... saying) {
        assertThatThrownBy(() -> Checkpoint.open(folder))
                .isInstanceOf(JvlmException.class)
                .hasMessageContainingAll(saying)
                .hasMessageNotContainingAny(folder.toString())
                .extracting("code")
                .isEqualTo(code);
    }

    private void edit(String file, Consumer<ObjectNode> change) throws IOException {
        Path path = folder.resolve(file);
        ObjectNode root = (ObjectNode) JSON.readTree(path.toFile());
        change.accept(root);
        Files.write(path, JSON.writeValueAsBytes(root));
    }

    /** Rewrites the header of the weights; the data stay. */
    private void editHeader(Consumer<ObjectNode> change) throws IOException {
        Path path = folder.resolve("model.safetensors");
        ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
        byte[] header = new byte[(int) file.getLong()];
        file.get(header);
        ObjectNode root = (ObjectNode) JSON.readTree(header);
        change.accept(root);
        byte[] changed = JSON.writeValueAsBytes(root);
        Files.write(path, ByteBuffer.allocate(8 + changed.length + file.remaining())
                .order(ByteOrder.LITTLE_ENDIAN)
                .putLong(changed.length)
                .put(changed)
                .put(file)
                .array());
    }

    @Test
    void manifestNamesEveryByteOfTheWeightsOnce() throws IOException {
        Checkpoint checkpoint = Checkpoint.open(folder);
        Path file = folder.toRealPath().resolve("model.safetensors");
        assertThat(checkpoint.manifest().bytes()).isEqualTo(2 * 2_625_984);
        long header = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN).getLong();
        long next = 8 + header;
        List<Manifest.Piece> byOffset = new ArrayList<>(checkpoint.manifest().pieces());
        byOffset.sort((a, b) -> Long.compare(a.offset(), b.offset()));
        for (Manifest.Piece piece : byOffset) {
            assertThat(piece.offset()).as(piece.toString()).isEqualTo(next);
            next += piece.bytes();
        }
        assertThat(next).isEqualTo(Files.size(file));
        String text = checkpoint.manifest().toText();
        assertThat(text.lines()).hasSize(checkpoint.blueprint().weights().size());
        assertThat(text.lines().filter(l -> l.startsWith("decoder.3.attn.qkv.weight")))
                .extracting(l -> l.replaceAll("\t[^\t]*\t\\d+$", ""))
                .containsExactly(
                        "decoder.3.attn.qkv.weight\t0\t192\t192\tBF16",
                        "decoder.3.attn.qkv.weight\t192\t64\t192\tBF16",
                        "decoder.3.attn.qkv.weight\t256\t64\t192\tBF16");
        assertThat(Manifest.seeded(checkpoint.blueprint().weights(), 7).toText().lines())
                .hasSize(checkpoint.blueprint().weights().size())
                .allMatch(l -> l.endsWith("\tBF16\tseed:7\t0"));
    }

    @Test
    void f53_missingAndMisshapenTensorsAreNamed() throws IOException {
        editHeader(h -> {
            h.set("other.weight", h.remove("language_model.lm_head.weight"));
            ObjectNode norm = (ObjectNode) h.path("language_model.model.norm.weight");
            norm.set("shape", JSON.readTree("[2,96]"));
            ((ObjectNode) h.path("mlp1.3.bias")).put("dtype", "I16");
        });
        assertRefused(
                JvlmException.Code.MODEL_FORMAT,
                "language_model.lm_head.weight is missing",
                "language_model.model.norm.weight has the shape [2, 96] instead of [192]",
                "mlp1.3.bias has the dtype I16");
    }

    @Test
    void f53_atMostTenAreNamed() throws IOException {
        edit("config.json", c -> ((ObjectNode) c.path("llm_config")).put("num_hidden_layers", 9));
        assertThatThrownBy(() -> Checkpoint.open(folder))
                .hasMessageContaining("; and 35 more")
                .satisfies(e -> assertThat(e.getMessage().split("is missing", -1)).hasSize(11));
    }

    @Test
    void f53_extraTensorsAreNotedOnce() throws IOException {
        edit("config.json", c -> ((ObjectNode) c.path("llm_config")).put("num_hidden_layers", 3));
        List<String> notes = Checkpoint.open(folder).notes();
        assertThat(notes).hasSize(1);
        assertThat(notes.get(0)).startsWith("Tensors of the checkpoint that the model does not use: 'language_model.model.layers.3.");
    }

    @Test
    void f55_aMissingTokenizerIsRefused() throws IOException {
        Files.delete(folder.resolve("tokenizer.json"));
        assertRefused(JvlmException.Code.MODEL_FORMAT, "tokenizer.model", "tokenizer.json");
    }

    @Test
    void f55_aTokenizerLargerThanTheVocabularyIsRefused() throws IOException {
        edit("config.json", c -> ((ObjectNode) c.path("llm_config")).put("vocab_size", 100));
        assertRefused(JvlmException.Code.MODEL_FORMAT, "another model", "ids up to 105", "vocabulary of 100");
    }

    @ParameterizedTest
    @ValueSource(strings = {"<img>", "</img>", "<IMG_CONTEXT>", "<|end|>"})
    void f55_aTokenizerWithoutTheFamilysTokensIsRefused(String token) throws IOException {
        for (String file : List.of("tokenizer.json", "tokenizer_config.json", "added_tokens.json")) {
            Path path = folder.resolve(file);
            Files.writeString(path, Files.readString(path).replace('"' + token + '"', "\"<other>\""));
        }
        assertRefused(JvlmException.Code.MODEL_FORMAT, "another model", token);
    }

    @Test
    void f55_anEndThatTheModelDoesNotKnowIsRefused() throws IOException {
        edit("generation_config.json", c -> c.set("eos_token_id", JSON.readTree("[2, 32009]")));
        assertRefused(JvlmException.Code.MODEL_FORMAT, "another model", "[2, 32009]", "[98]");
        edit("generation_config.json", c -> c.set("eos_token_id", JSON.readTree("[2, 98]")));
        assertThat(Checkpoint.open(folder).stopIds()).containsExactly(98);
        Files.delete(folder.resolve("generation_config.json"));
        assertThat(Checkpoint.open(folder).stopIds()).containsExactly(98);
    }

    @Test
    void f55_damagedTokenizerFilesAreRefused() throws IOException {
        Map<String, String> changes = Map.of(
                "tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"b\"}}}",
                "tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"<img>\"}}}",
                "added_tokens.json", "[");
        for (Map.Entry<String, String> change : changes.entrySet()) {
            byte[] whole = Files.readAllBytes(folder.resolve(change.getKey()));
            Files.writeString(folder.resolve(change.getKey()), change.getValue());
            assertRefused(JvlmException.Code.MODEL_FORMAT, "");
            Files.write(folder.resolve(change.getKey()), whole);
        }
    }

    @Tag("full")
    @Test
    void f55_randomlyChangedTokenizerFilesAreReadOrRefused() throws IOException {
        Random random = new Random(55);
        int refused = 0;
        for (String file : List.of("tokenizer.json", "tokenizer_config.json", "added_tokens.json", "generation_config.json")) {
            String whole = Files.readString(folder.resolve(file));
            for (int i = 0; i < 150; i++) {
                // A value or a key replaced by another, so that most stay JSON.
                String[] words = whole.split("(?<=[\\s\",:\\[\\]{}])|(?=[\\s\",:\\[\\]{}])");
                words[random.nextInt(words.length)] = List.of("null", "5", "-1", "[]", "{}", "\"\"", "x", "1e99", "true", "99999999999")
                        .get(random.nextInt(10));
                Files.writeString(folder.resolve(file), String.join("", words));
                Throwable thrown = catchThrowable(() -> Checkpoint.open(folder));
                if (thrown != null) {
                    refused++;
                    assertThat(thrown).as(file + ": " + String.join("", words)).isInstanceOf(JvlmException.class);
                }
            }
            Files.writeString(folder.resolve(file), whole);
        }
        assertThat(refused).isPositive();
    }

    @Test
    void f55_fingerprintsTellCheckpointsApart() throws IOException {
        String fingerprint = Checkpoint.open(folder).fingerprint();
        assertThat(fingerprint).hasSize(64).isEqualTo(Checkpoint.open(NANO).fingerprint());
        edit("tokenizer_config.json", c -> c.put("model_max_length", 5));
        String other = Checkpoint.open(folder).fingerprint();
        assertThat(other).isNotEqualTo(fingerprint);
        byte[] weights = Files.readAllBytes(folder.resolve("model.safetensors"));
        for (int i = weights.length / 2; i < weights.length / 2 + 100_000; i++) {
            weights[i] ^= 1;
        }
        Files.write(folder.resolve("model.safetensors"), weights);
        assertThat(Checkpoint.open(folder).fingerprint()).isNotEqualTo(other);
    }

    @Test
    void f55_aTokenizerBeyondReasonIsRefused() throws IOException {
        try (RandomAccessFile sparse = new RandomAccessFile(folder.resolve("tokenizer.model").toFile(), "rw")) {
            sparse.setLength(3L << 30);
        }
        assertRefused(JvlmException.Code.MODEL_FORMAT, "'tokenizer.model' has 3221225472 bytes");
    }

    @Test
    void f60_tokenizerLinksOutOfTheFolderAreRefused() throws IOException {
        Path outside = Files.move(folder.resolve("tokenizer.json"), root.resolve("tokenizer.json"));
        Files.createSymbolicLink(folder.resolve("tokenizer.json"), outside);
        assertRefused(JvlmException.Code.MODEL_FORMAT, "'tokenizer.json' is a link that leads out");
    }

    @Test
    void theFoldersOwnQuestionComesFirst() throws IOException {
        assertThat(Checkpoint.open(folder).ocrQuestion()).isEqualTo("Read the text.");
        Files.delete(folder.resolve("jvlm.json"));
        assertThat(Checkpoint.open(folder).ocrQuestion()).startsWith("Read the text and provide word by word");
        Files.write(folder.resolve("jvlm.json"), "{\"ocr_qestion\":\"x\"}".getBytes(StandardCharsets.UTF_8));
        assertRefused(JvlmException.Code.MODEL_FORMAT, "jvlm.json");
    }

    @Test
    void aFolderThatIsNoneIsRefused() {
        assertThatThrownBy(() -> Checkpoint.open(folder.resolve("gone")))
                .isInstanceOf(JvlmException.class)
                .hasMessageContaining("no folder");
        assertThatThrownBy(() -> Checkpoint.open(folder.resolve("config.json"))).isInstanceOf(JvlmException.class);
    }
}
