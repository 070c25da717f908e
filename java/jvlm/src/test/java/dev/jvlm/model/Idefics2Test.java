package dev.jvlm.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.error.JvlmException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

class Idefics2Test {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path TESTS = Path.of(System.getProperty("jvlm.root"), "tests");

    private static Path published(String model) {
        return TESTS.resolve("configs/idefics2-8b" + model + ".json");
    }

    private static JsonNode preprocessor() {
        return JSON.readTree(TESTS.resolve("goldens/idefics2/checkpoint/preprocessor_config.json").toFile());
    }

    private static Blueprint read(String key, String value) {
        return Families.read(ChangedJson.with(JSON.readTree(published("").toFile()), key, value));
    }

    private static Blueprint readPreprocessor(String key, String value) {
        return Families.read(JSON.readTree(published("").toFile()), ChangedJson.with(preprocessor(), key, value));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "-base", "-chatty"})
    void publishedModelsHaveTheirKnownTensors(String model) {
        Blueprint blueprint = Blueprint.read(published(model));
        assertThat(Math.round(blueprint.parameters() / 1e6)).isEqualTo(8403);
        assertThat(blueprint.weights().stream().collect(Collectors.toMap(Weight::name, Weight::shape))).isEqualTo(expected());
        assertThat(blueprint.notes()).singleElement().asString().contains("preprocessor_config.json");
        assertThat(blueprint.tiling()).isEqualTo(new Tiling.Aspect(980, 378, false));
        assertThat(blueprint.spec().rowsPerTile()).isEqualTo(64);
        assertThat(blueprint.imageToken()).isEqualTo(32_001);
    }

    /** The published models' table of tensors, written out once more. */
    private static Map<String, List<Long>> expected() {
        Map<String, List<Long>> all = new HashMap<>();
        String vision = "model.vision_model.";
        all.put(vision + "embeddings.patch_embedding.weight", List.of(1152L, 3L, 14L, 14L));
        all.put(vision + "embeddings.patch_embedding.bias", List.of(1152L));
        all.put(vision + "embeddings.position_embedding.weight", List.of(4900L, 1152L));
        Stream<String> blocks = IntStream.range(0, 27).mapToObj(i -> vision + "encoder.layers." + i + ".");
        blocks.forEach(block -> {
            for (String linear : List.of("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")) {
                all.put(block + linear + ".weight", List.of(1152L, 1152L));
                all.put(block + linear + ".bias", List.of(1152L));
            }
            for (String norm : List.of("layer_norm1", "layer_norm2")) {
                all.put(block + norm + ".weight", List.of(1152L));
                all.put(block + norm + ".bias", List.of(1152L));
            }
            all.put(block + "mlp.fc1.weight", List.of(4304L, 1152L));
            all.put(block + "mlp.fc1.bias", List.of(4304L));
            all.put(block + "mlp.fc2.weight", List.of(1152L, 4304L));
            all.put(block + "mlp.fc2.bias", List.of(1152L));
        });
        all.put(vision + "post_layernorm.weight", List.of(1152L));
        all.put(vision + "post_layernorm.bias", List.of(1152L));
        String projection = "model.connector.modality_projection.";
        all.put(projection + "gate_proj.weight", List.of(14_336L, 1152L));
        all.put(projection + "up_proj.weight", List.of(14_336L, 1152L));
        all.put(projection + "down_proj.weight", List.of(4096L, 14_336L));
        String resampler = "model.connector.perceiver_resampler.";
        all.put(resampler + "latents", List.of(64L, 4096L));
        all.put(resampler + "norm.weight", List.of(4096L));
        for (int i = 0; i < 3; i++) {
            String layer = resampler + "layers." + i + ".";
            for (String norm : List.of("input_latents_norm", "input_context_norm", "post_attention_layernorm")) {
                all.put(layer + norm + ".weight", List.of(4096L));
            }
            all.put(layer + "self_attn.q_proj.weight", List.of(1536L, 4096L));
            all.put(layer + "self_attn.k_proj.weight", List.of(384L, 4096L));
            all.put(layer + "self_attn.v_proj.weight", List.of(384L, 4096L));
            all.put(layer + "self_attn.o_proj.weight", List.of(4096L, 1536L));
            all.put(layer + "mlp.gate_proj.weight", List.of(16_384L, 4096L));
            all.put(layer + "mlp.up_proj.weight", List.of(16_384L, 4096L));
            all.put(layer + "mlp.down_proj.weight", List.of(4096L, 16_384L));
        }
        all.put("model.text_model.embed_tokens.weight", List.of(32_003L, 4096L));
        all.put("model.text_model.norm.weight", List.of(4096L));
        all.put("lm_head.weight", List.of(32_003L, 4096L));
        for (int i = 0; i < 32; i++) {
            String layer = "model.text_model.layers." + i + ".";
            all.put(layer + "self_attn.q_proj.weight", List.of(4096L, 4096L));
            all.put(layer + "self_attn.k_proj.weight", List.of(1024L, 4096L));
            all.put(layer + "self_attn.v_proj.weight", List.of(1024L, 4096L));
            all.put(layer + "self_attn.o_proj.weight", List.of(4096L, 4096L));
            all.put(layer + "mlp.gate_proj.weight", List.of(14_336L, 4096L));
            all.put(layer + "mlp.up_proj.weight", List.of(14_336L, 4096L));
            all.put(layer + "mlp.down_proj.weight", List.of(4096L, 14_336L));
            all.put(layer + "input_layernorm.weight", List.of(4096L));
            all.put(layer + "post_attention_layernorm.weight", List.of(4096L));
        }
        return all;
    }

    @Test
    void partsCoverEveryTargetExactly() {
        Map<String, Long> rows = new HashMap<>();
        Map<String, Long> columns = new HashMap<>();
        for (Weight w : Blueprint.read(published("")).weights()) {
            assertThat(w.rows() * w.columns()).as(w.name()).isEqualTo(w.shape().stream().reduce(1L, (a, b) -> a * b));
            // In the order of the list, each part begins where the one before it ended.
            assertThat(w.firstRow()).as(w.name()).isEqualTo(rows.getOrDefault(w.target(), 0L));
            rows.merge(w.target(), w.rows(), Long::sum);
            assertThat(columns.merge(w.target(), w.columns(), (a, b) -> a)).as(w.name()).isEqualTo(w.columns());
        }
        assertThat(rows)
                .containsEntry("vision.26.attn.qkv.weight", 3456L)
                .containsEntry("vision.26.attn.qkv.bias", 3456L)
                .containsEntry("vision.positions", 4900L)
                .containsEntry("vision.norm.bias", 1152L)
                .containsEntry("connector.projection.gate_up.weight", 28_672L)
                .containsEntry("connector.2.attn.kv.weight", 768L)
                .containsEntry("connector.2.mlp.gate_up.weight", 32_768L)
                .doesNotContainKey("vision.class")
                .doesNotContainKey("vision.0.scale1");
    }

    @Test
    void specAsNativeCodeReadsIt() {
        assertThat(Blueprint.read(published("")).spec().toText())
                .startsWith(
                        """
                        vision.hidden 1152
                        vision.heads 16
                        vision.head_size 72
                        vision.mlp 4304
                        vision.layers 27
                        vision.patch 14
                        vision.image 980
                        vision.class_token 0
                        vision.norm layer_norm
                        vision.eps 1.0E-6
                        vision.activation gelu_tanh
                        vision.mean 0.5 0.5 0.5
                        vision.std 0.5 0.5 0.5
                        connector.kind perceiver
                        connector.eps 1.0E-5
                        connector.projection 14336
                        connector.latents 64
                        connector.layers 3
                        connector.heads 16
                        connector.kv_heads 4
                        connector.head_size 96
                        connector.mlp 16384
                        connector.activation silu
                        decoder.hidden 4096
                        decoder.heads 32
                        decoder.kv_heads 8
                        decoder.head_size 128
                        decoder.mlp 14336
                        decoder.layers 32
                        decoder.vocabulary 32003
                        decoder.eps 1.0E-5
                        """)
                .contains("decoder.window 4096\ndecoder.context 32768\ndecoder.activation silu\n");
    }

    /** Hugging Face leaves out what equals its class's default. */
    @ParameterizedTest
    @ValueSource(strings = {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "rope_theta", "sliding_window", "hidden_act"})
    void missingKeysOfTheTextModelHaveMistralsDefaults(String key) {
        ModelSpec.Decoder whole = Blueprint.read(published("")).spec().decoder();
        assertThat(read("text_config." + key, "missing").spec().decoder()).isEqualTo(whole);
    }

    @Test
    void otherMissingKeysHaveTheLibrarysDefaults() {
        // 32,000 words, so that there is no room for the picture's token.
        assertThatThrownBy(() -> read("text_config.vocab_size", "missing")).hasMessageContaining("Allowed: a whole number from 0 to 31999");
        assertThat(read("text_config.max_position_embeddings", "missing").spec().decoder().context()).isEqualTo(131_072);
        assertThat(read("text_config.rms_norm_eps", "missing").spec().connector().eps()).isEqualTo(1e-6);
        assertThat(read("text_config.architectures", "['MistralForCausalLM']").spec().decoder().window()).isEqualTo(4096);
        assertThat(read("text_config.sliding_window", "null").spec().decoder().window()).isZero();
        assertThat(read("vision_config.layer_norm_eps", "missing").spec().vision().eps()).isEqualTo(1e-6);
        assertThat(read("vision_config.tie_word_embeddings", "true").notes()).hasSize(1);
        assertThat(read("image_token_id", "missing").imageToken()).isEqualTo(32_001);
        assertThat(read("perceiver_config.rms_norm_eps", "1e-6").spec().connector().eps()).isEqualTo(1e-5);
        assertThat(read("perceiver_config.rms_norm_eps", "1e-6").notes())
                .contains("config.json: not used: 'perceiver_config.rms_norm_eps'");
    }

    @Test
    void preprocessingComesFromItsOwnFile() {
        Blueprint blueprint = Families.read(JSON.readTree(published("").toFile()), preprocessor());
        assertThat(blueprint.notes()).isEmpty();
        assertThat(blueprint.tiling()).isEqualTo(new Tiling.Aspect(980, 378, true));
        assertThat(readPreprocessor("do_image_splitting", "missing").tiling()).isEqualTo(new Tiling.Aspect(980, 378, false));
        assertThat(readPreprocessor("size", "{'longest_edge':700,'shortest_edge':14}").tiling()).isEqualTo(new Tiling.Aspect(700, 14, true));
        assertThat(readPreprocessor("size", "missing").tiling()).isEqualTo(new Tiling.Aspect(980, 378, true));
        assertThat(readPreprocessor("image_mean", "[0.25, 0.5, 0.75]").spec().vision().mean()).containsExactly(0.25, 0.5, 0.75);
        assertThat(readPreprocessor("mystery", "5").notes()).containsExactly("preprocessor_config.json: not used: 'mystery'");
    }

    @ParameterizedTest
    @CsvSource(quoteCharacter = '~', value = {
        "perceiver_config.resampler_depth, missing", "perceiver_config.num_key_value_heads, missing",
        "perceiver_config.resampler_n_heads, missing", "perceiver_config.resampler_head_dim, missing",
        "perceiver_config.resampler_n_latents, missing", "perceiver_config.resampler_n_latents, 0", "vision_config.hidden_size, missing",
        "vision_config.image_size, missing", "vision_config.patch_size, missing", "vision_config.num_hidden_layers, missing",
        "vision_config.num_attention_heads, 0", "vision_config.intermediate_size, -1", "text_config.hidden_size, 'x'",
        "image_token_id, 32003", "image_token_id, -1",
    })
    void f54_valuesOutOfRangeAreRefusedWithFieldValueAndRange(String key, String value) {
        assertThatThrownBy(() -> read(key, value))
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.MODEL_FORMAT))
                .hasMessageStartingWith("config.json: " + key + " is ")
                .hasMessageContaining("Allowed: ");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '~', value = {
        "image_mean | [0.5, 0.5]", "image_mean | 0.5", "image_mean | [0.5, 0.5, 'x']", "image_std | [0.5, 0.5, 0]", "do_resize | 1",
        "rescale_factor | 'x'", "size.longest_edge | 981", "size.longest_edge | 13", "size.shortest_edge | 981", "size.shortest_edge | 'x'",
    })
    void f54_damagedPreprocessingIsRefused(String key, String value) {
        assertThatThrownBy(() -> readPreprocessor(key, value))
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.MODEL_FORMAT))
                .hasMessageStartingWith("preprocessor_config.json: " + key + " is ")
                .hasMessageContaining("Allowed: ");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '~', value = {
        "do_resize | false", "do_rescale | false", "do_normalize | false", "do_pad | false", "do_convert_rgb | false", "resample | 3",
        "rescale_factor | 0.0039",
    })
    void preprocessingThatIsNotImplementedIsRefused(String key, String value) {
        assertThatThrownBy(() -> readPreprocessor(key, value))
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.MODEL_UNSUPPORTED))
                .hasMessageStartingWith("preprocessor_config.json: " + key + " is ")
                .hasMessageContaining("Supported: ");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '~', value = {
        "tie_word_embeddings | true", "quantization_config | {}", "vision_config.hidden_act | 'gelu'", "vision_config.num_channels | 1",
        "perceiver_config.hidden_act | 'gelu'", "perceiver_config.hidden_size | 1024", "text_config.model_type | 'llama'",
        "text_config.hidden_act | 'gelu'", "text_config.tie_word_embeddings | true", "text_config.rope_scaling | {'type':'linear'}",
    })
    void whatIsNotImplementedIsRefusedByName(String key, String value) {
        assertThatThrownBy(() -> read(key, value))
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.MODEL_UNSUPPORTED))
                .hasMessageStartingWith("config.json: " + key.replace("model_type", "architectures") + " is ")
                .hasMessageContaining("Supported: ");
    }

    @Test
    void f54_anyValueOfAnyKeyIsReadOrRefused() {
        JsonNode config = JSON.readTree(published("").toFile());
        JsonNode preprocessor = preprocessor();
        int refused = ChangedJson.refused(config, changed -> Families.read(changed, preprocessor))
                + ChangedJson.refused(preprocessor, changed -> Families.read(config, changed));
        assertThat(refused).isGreaterThan(250);
    }
}
