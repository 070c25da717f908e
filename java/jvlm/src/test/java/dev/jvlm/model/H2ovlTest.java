package dev.jvlm.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.error.JvlmException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

class H2ovlTest {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path CONFIGS = Path.of(System.getProperty("jvlm.root"), "tests/configs");

    @TempDir
    Path folder;

    private static Path published(String model) {
        return CONFIGS.resolve("h2ovl-mississippi-" + model + ".json");
    }

    private static JsonNode with(String model, String key, String value) {
        return ChangedJson.with(JSON.readTree(published(model).toFile()), key, value);
    }

    @ParameterizedTest
    @CsvSource({"800m, 493, 826, 1536, 96, 16, 100000", "2b, 565, 2152, 2560, 80, 24, 10000"})
    void publishedModelsHaveTheirKnownShape(
            String model, int tensors, long millions, int hidden, int headSize, int layers, double ropeTheta) {
        Blueprint blueprint = Blueprint.read(published(model));
        assertThat(blueprint.weights().stream().map(Weight::name)).hasSize(tensors).doesNotHaveDuplicates();
        assertThat(Math.round(blueprint.parameters() / 1e6)).isEqualTo(millions);
        assertThat(blueprint.notes()).isEmpty();
        assertThat(blueprint.spec().rowsPerTile()).isEqualTo(256);
        assertThat(blueprint.tiling()).isEqualTo(new Tiling.Grid(448, 1, 6, true, model.equals("2b")));
        assertThat(blueprint.ocrQuestion()).isEqualTo("Read the text and provide word by word ocr for the document.");
        ModelSpec.Decoder decoder = blueprint.spec().decoder();
        assertThat(List.of(decoder.hidden(), decoder.headSize(), decoder.layers(), decoder.window(), decoder.context()))
                .isEqualTo(List.of(hidden, headSize, layers, 0, 8192));
        assertThat(decoder.ropeTheta()).isEqualTo(ropeTheta);
    }

    @ParameterizedTest
    @ValueSource(strings = {"800m", "2b"})
    void partsCoverEveryTargetExactly(String model) {
        Map<String, Long> rows = new HashMap<>();
        Map<String, Long> columns = new HashMap<>();
        for (Weight w : Blueprint.read(published(model)).weights()) {
            assertThat(w.rows() * w.columns()).as(w.name()).isEqualTo(w.shape().stream().reduce(1L, (a, b) -> a * b));
            // In the order of the list, each part begins where the one before it ended.
            assertThat(w.firstRow()).as(w.name()).isEqualTo(rows.getOrDefault(w.target(), 0L));
            rows.merge(w.target(), w.rows(), Long::sum);
            assertThat(columns.merge(w.target(), w.columns(), (a, b) -> a)).as(w.name()).isEqualTo(w.columns());
        }
        ModelSpec.Decoder decoder = Blueprint.read(published(model)).spec().decoder();
        assertThat(rows.get("decoder.0.attn.qkv.weight"))
                .isEqualTo((decoder.heads() + 2L * decoder.kvHeads()) * decoder.headSize());
        assertThat(rows.get("decoder.0.mlp.gate_up.weight")).isEqualTo(2L * decoder.mlp());
        assertThat(rows.get("vision.patch.weight")).isEqualTo(1024);
        assertThat(columns.get("vision.patch.weight")).isEqualTo(588);
        assertThat(rows.get("vision.positions")).isEqualTo(1025);
        assertThat(rows.get("vision.class")).isEqualTo(1024);
    }

    @Test
    void specAsNativeCodeReadsIt() {
        assertThat(Blueprint.read(published("800m")).spec().toText())
                .isEqualTo(
                        """
                        vision.hidden 1024
                        vision.heads 16
                        vision.head_size 64
                        vision.mlp 4096
                        vision.layers 24
                        vision.patch 14
                        vision.image 448
                        vision.class_token 1
                        vision.norm layer_norm
                        vision.eps 1.0E-6
                        vision.activation gelu
                        vision.mean 0.485 0.456 0.406
                        vision.std 0.229 0.224 0.225
                        connector.kind pixel_shuffle
                        connector.eps 1.0E-5
                        decoder.hidden 1536
                        decoder.heads 16
                        decoder.kv_heads 8
                        decoder.head_size 96
                        decoder.mlp 4096
                        decoder.layers 16
                        decoder.vocabulary 32010
                        decoder.eps 1.0E-5
                        decoder.rope_theta 100000.0
                        decoder.rope plain
                        decoder.window 0
                        decoder.context 8192
                        decoder.activation silu
                        """);
    }

    @ParameterizedTest
    @CsvSource({"missing, 4096", "null, 0", "2048, 2048"})
    void mistralsWindowIs4096UnlessTheKeySaysOtherwise(String value, int window) {
        assertThat(Families.read(with("2b", "llm_config.sliding_window", value)).spec().decoder().window()).isEqualTo(window);
    }

    @Test
    void headDimOverridesWidthByHeads() {
        assertThat(Families.read(with("2b", "llm_config.head_dim", "128")).spec().decoder().headSize()).isEqualTo(128);
        assertThat(Families.read(with("2b", "llm_config.head_dim", "null")).spec().decoder().headSize()).isEqualTo(80);
        // Then the widths of query and output differ from the residual stream's.
        Blueprint wide = Families.read(with("2b", "llm_config.head_dim", "128"));
        assertThat(wide.weights())
                .filteredOn(w -> w.name().equals("language_model.model.layers.0.self_attn.o_proj.weight"))
                .extracting(Weight::shape)
                .containsExactly(List.of(2560L, 4096L));
    }

    @ParameterizedTest
    @CsvSource({"-1, 24", "-2, 23", "-24, 1", "missing, 24"})
    void selectLayerLeavesOutTheBlocksBehindIt(String value, int layers) {
        assertThat(Families.read(with("800m", "select_layer", value)).spec().vision().layers()).isEqualTo(layers);
    }

    @Test
    void missingKeysHaveThePublishedClassesDefaults() {
        assertThat(Families.read(with("800m", "llm_config.num_key_value_heads", "missing")).spec().decoder().kvHeads()).isEqualTo(16);
        assertThat(Families.read(with("800m", "llm_config.rope_theta", "missing")).spec().decoder().ropeTheta()).isEqualTo(10_000);
        assertThat(Families.read(with("2b", "use_msac", "missing")).tiling()).isEqualTo(new Tiling.Grid(448, 1, 6, true, false));
        assertThat(Families.read(with("800m", "vision_config.qkv_bias", "missing")).weights()).hasSize(493 - 24);
        assertThat(Families.read(with("800m", "force_image_size", "null")).tiling()).isEqualTo(new Tiling.Grid(448, 1, 6, true, false));
    }

    @ParameterizedTest
    @CsvSource({
        "vision_config.num_attention_heads, 0", "vision_config.num_attention_heads, -16", "vision_config.num_hidden_layers, 1000000000",
        "vision_config.hidden_size, -1", "vision_config.hidden_size, 1e30", "vision_config.hidden_size, 1024.0",
        "vision_config.hidden_size, '''1024'''", "vision_config.hidden_size, null", "vision_config.hidden_size, missing",
        "vision_config.patch_size, 0", "vision_config.image_size, 0", "vision_config.intermediate_size, 99999999999999999999",
        "vision_config.layer_norm_eps, 0", "vision_config.layer_norm_eps, -1e-6", "vision_config.layer_norm_eps, 2",
        "vision_config.qkv_bias, 1", "llm_config.num_attention_heads, 0", "llm_config.num_key_value_heads, 0",
        "llm_config.num_hidden_layers, 0", "llm_config.num_hidden_layers, 2147483648", "llm_config.vocab_size, 0",
        "llm_config.vocab_size, -32010", "llm_config.max_position_embeddings, 0", "llm_config.rms_norm_eps, 0",
        "llm_config.rope_theta, 0", "llm_config.rope_theta, 1e300", "llm_config.head_dim, 0", "llm_config.head_dim, 4096",
        "llm_config.sliding_window, 0", "select_layer, 0", "select_layer, -25", "max_dynamic_patch, 0", "max_dynamic_patch, 1000000",
        "min_dynamic_patch, 7", "use_thumbnail, '''yes'''", "template, 5",
    })
    void f54_valuesOutOfRangeAreRefusedWithFieldValueAndRange(String key, String value) {
        String model = key.endsWith("sliding_window") ? "2b" : "800m";
        assertThatThrownBy(() -> Families.read(with(model, key, value)))
                .isInstanceOf(JvlmException.class)
                .hasMessageStartingWith("config.json: " + key + " is ")
                .hasMessageContaining("Allowed: ")
                .extracting("code")
                .isEqualTo(JvlmException.Code.MODEL_FORMAT);
    }

    @ParameterizedTest
    @CsvSource({
        "vision_config.num_attention_heads, 15, heads do not divide", "llm_config.num_attention_heads, 15, no multiple of",
        "llm_config.num_key_value_heads, 5, no multiple of", "vision_config.patch_size, 15, no even number",
        "llm_config.head_dim, 95, even number", "vision_config, 5, no object", "llm_config, missing, missing",
    })
    void f54_valuesThatContradictEachOtherAreRefused(String key, String value, String saying) {
        assertThatThrownBy(() -> Families.read(with("800m", key, value)))
                .hasMessageContaining(saying)
                .extracting("code")
                .isEqualTo(JvlmException.Code.MODEL_FORMAT);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '~', value = {
        "ps_version | 'v1'", "ps_version | missing", "template | 'internlm2-chat'", "dynamic_image_size | false", "pad2square | true",
        "downsample_ratio | 0.25", "use_llm_lora | 16", "use_backbone_lora | 8", "force_image_size | 224", "quantization_config | {}",
        "vision_config.norm_type | 'batch_norm'", "vision_config.hidden_act | 'gelu_pytorch_tanh'", "vision_config.num_channels | 4",
        "llm_config.rope_scaling | {'type':'dynamic','factor':2.0}", "llm_config.rope_parameters | {'rope_type':'default'}",
        "llm_config.attention_bias | true", "llm_config.mlp_bias | true", "llm_config.tie_word_embeddings | true",
        "llm_config.hidden_act | 'gelu'", "llm_config.sliding_window | 4096", "llm_config.partial_rotary_factor | 0.5",
        "llm_config.quantization_config | {'bits':4}", "llm_config.architectures | ['Qwen2ForCausalLM']", "llm_config.architectures | missing",
    })
    void whatIsNotImplementedIsRefusedByName(String key, String value) {
        assertThatThrownBy(() -> Families.read(with("800m", key, value)))
                .isInstanceOf(JvlmException.class)
                .hasMessageStartingWith("config.json: " + key + " is ")
                .hasMessageContaining("Supported: ")
                .extracting("code")
                .isEqualTo(JvlmException.Code.MODEL_UNSUPPORTED);
    }

    @ParameterizedTest
    @ValueSource(strings = {"'llava'", "missing", "null"})
    void unknownFamiliesAreRefusedWithTheListOfKnownOnes(String type) {
        assertThatThrownBy(() -> Families.read(with("800m", "model_type", type)))
                .isInstanceOf(JvlmException.class)
                .hasMessageContainingAll("model_type is ", "Supported: H2OVL-Mississippi");
    }

    @Tag("full")
    @Test
    void f54_anyValueOfAnyKeyIsReadOrRefused() {
        int refused = 0;
        for (String model : List.of("800m", "2b")) {
            refused += ChangedJson.refused(JSON.readTree(published(model).toFile()), Families::read);
        }
        assertThat(refused).isGreaterThan(500);
    }

    @Test
    void f57_codeOfTheModelIsIgnoredWithANote() {
        Blueprint blueprint = Families.read(with("800m", "auto_map", "{'AutoModel':'modeling_h2ovl_chat.H2OVLChatModel'}"));
        assertThat(blueprint.notes()).containsExactly("config.json: auto_map names code of the model's folder; it is never run");
    }

    @Test
    void unknownKeysAreNamed() {
        assertThat(Families.read(with("800m", "llm_config.mystery", "1")).notes())
                .containsExactly("config.json: not used: 'llm_config.mystery'");
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "5", "{\"a\":1,\"a\":2}", "{\"a\":NaN}", "\0"})
    void f54_aFileThatIsNoJsonObjectIsRefused(String text) throws Exception {
        Path file = Files.writeString(folder.resolve("config.json"), text);
        assertThatThrownBy(() -> Blueprint.read(file))
                .isInstanceOf(JvlmException.class)
                .hasMessageContaining("config.json")
                .hasMessageNotContainingAny(folder.toString());
    }

    @Test
    void f54_deepNestingIsRefused() throws Exception {
        Path file = Files.writeString(folder.resolve("config.json"), "{\"a\":".repeat(100_000));
        assertThatThrownBy(() -> Blueprint.read(file)).isInstanceOf(JvlmException.class).hasMessageContaining("no valid JSON");
    }
}
