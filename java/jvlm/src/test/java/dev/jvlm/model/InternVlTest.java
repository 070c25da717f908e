package dev.jvlm.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import dev.jvlm.Jvlm;
import dev.jvlm.Options;
import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import dev.jvlm.request.Part;
import dev.jvlm.request.Turn;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ObjectNode;

class InternVlTest {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path CONFIGS = Path.of(System.getProperty("jvlm.root"), "tests/configs");
    private static final String LARGE = "internvl-chat-v1-5";
    private static final String INTERNLM = "mini-internvl-chat-2b-v1-5";
    private static final String PHI = "mini-internvl-chat-4b-v1-5";

    private static Blueprint published(String model) {
        return Blueprint.read(CONFIGS.resolve(model + ".json"));
    }

    private static JsonNode json(String model) {
        return JSON.readTree(CONFIGS.resolve(model + ".json").toFile());
    }

    private static JsonNode with(String model, String key, String value) {
        return ChangedJson.with(json(model), key, value);
    }

    @ParameterizedTest
    @CsvSource({
        "internvl-chat-v1-5, 934, 25514, 3200, 128, 45, 6144, 128, 48, 92553",
        "mini-internvl-chat-2b-v1-5, 517, 2206, 1024, 64, 24, 2048, 128, 24, 92553",
        "mini-internvl-chat-4b-v1-5, 541, 4147, 1024, 64, 24, 3072, 96, 32, 32020",
    })
    void publishedModelsHaveTheirKnownShape(String model, int tensors, long millions, int visionHidden, int visionHeadSize, int visionLayers,
            int hidden, int headSize, int layers, int vocabulary) {
        Blueprint blueprint = published(model);
        assertThat(blueprint.weights().stream().map(Weight::name).distinct()).hasSize(tensors);
        assertThat(Math.round(blueprint.parameters() / 1e6)).isEqualTo(millions);
        assertThat(blueprint.notes()).isEmpty();
        assertThat(blueprint.tiling()).isEqualTo(new Tiling.Grid(448, 1, 12, true, false));
        assertThat(blueprint.spec().rowsPerTile()).isEqualTo(256);
        ModelSpec.Vision vision = blueprint.spec().vision();
        assertThat(List.of(vision.hidden(), vision.headSize(), vision.layers())).isEqualTo(List.of(visionHidden, visionHeadSize, visionLayers));
        assertThat(vision.norm()).isEqualTo(model.equals(LARGE) ? ModelSpec.Norm.RMS_NORM : ModelSpec.Norm.LAYER_NORM);
        ModelSpec.Decoder decoder = blueprint.spec().decoder();
        assertThat(List.of(decoder.hidden(), decoder.headSize(), decoder.layers(), decoder.vocabulary(), decoder.window()))
                .isEqualTo(List.of(hidden, headSize, layers, vocabulary, 0));
    }

    /** From the configuration alone, by the engine's own code: two bytes a weight, and a little for norms and biases in float32. */
    @ParameterizedTest
    @ValueSource(strings = {LARGE, INTERNLM, PHI})
    void memoryIsPlannedWithoutWeights(String model) {
        Blueprint blueprint = published(model);
        Map<String, Long> plan = Jvlm.memoryPlan(blueprint, Options.DEFAULT.withDevice("cpu").withPrecision(Options.Precision.BF16));
        assertThat(plan.get("weights")).isBetween(2 * blueprint.parameters(), 2 * blueprint.parameters() + (64L << 20));
    }

    @ParameterizedTest
    @ValueSource(strings = {LARGE, INTERNLM, PHI})
    void everyRowOfEveryTensorGoesToOneRowOfATarget(String model) {
        Map<String, List<Weight>> bySource = new HashMap<>();
        Map<String, List<Weight>> byTarget = new HashMap<>();
        for (Weight w : published(model).weights()) {
            bySource.computeIfAbsent(w.name(), n -> new ArrayList<>()).add(w);
            byTarget.computeIfAbsent(w.target(), n -> new ArrayList<>()).add(w);
        }
        bySource.forEach((name, parts) -> {
            long next = 0;
            for (Weight w : parts.stream().sorted((a, b) -> Long.compare(a.sourceRow(), b.sourceRow())).toList()) {
                assertThat(w.sourceRow()).as(name).isEqualTo(next);
                next += w.rows();
                assertThat(w.shape()).as(name).isEqualTo(parts.get(0).shape());
                assertThat(w.columns()).as(name).isEqualTo(parts.get(0).columns());
            }
            assertThat(next * parts.get(0).columns()).as(name).isEqualTo(parts.get(0).shape().stream().reduce(1L, (a, b) -> a * b));
        });
        byTarget.forEach((target, parts) -> {
            long next = 0;
            for (Weight w : parts.stream().sorted((a, b) -> Long.compare(a.firstRow(), b.firstRow())).toList()) {
                assertThat(w.firstRow()).as(target).isEqualTo(next);
                next += w.rows();
            }
        });
    }

    /** The published rule, read the other way round: row (k (g+2) + s) D + d is query head k g + s, or key or value head k. */
    @ParameterizedTest
    @ValueSource(strings = {LARGE, INTERNLM})
    void wqkvIsTakenApartByKeyValueHead(String model) {
        Blueprint blueprint = published(model);
        ModelSpec.Decoder d = blueprint.spec().decoder();
        int size = d.headSize();
        int group = d.heads() / d.kvHeads();
        int[] sourceOf = new int[(d.heads() + 2 * d.kvHeads()) * size];
        Arrays.fill(sourceOf, -1);
        for (Weight w : blueprint.weights()) {
            if (w.target().equals("decoder.1.attn.qkv.weight")) {
                assertThat(w.name()).isEqualTo("language_model.model.layers.1.attention.wqkv.weight");
                for (int i = 0; i < w.rows(); i++) {
                    sourceOf[(int) w.firstRow() + i] = (int) w.sourceRow() + i;
                }
            }
        }
        for (int k = 0; k < d.kvHeads(); k++) {
            for (int s = 0; s < group + 2; s++) {
                int head = s < group ? k * group + s : s == group ? d.heads() + k : d.heads() + d.kvHeads() + k;
                for (int i = 0; i < size; i++) {
                    assertThat(sourceOf[head * size + i]).isEqualTo((k * (group + 2) + s) * size + i);
                }
            }
        }
    }

    private static String rope(Blueprint blueprint) {
        return blueprint.spec().toText().lines().filter(line -> line.startsWith("decoder.rope")).collect(Collectors.joining("\n"));
    }

    @Test
    void ropeAsNativeCodeReadsIt() {
        assertThat(rope(published(LARGE)))
                .isEqualTo("decoder.rope_theta 1000000.0\ndecoder.rope dynamic_ntk\ndecoder.rope_factor 3.0\ndecoder.rope_limit 32768");
        String ones = "1.0" + " 1.0".repeat(47);
        assertThat(rope(published(PHI)))
                .isEqualTo("decoder.rope_theta 10000.0\ndecoder.rope long\ndecoder.rope_limit 4096\ndecoder.rope_magnitude "
                        + Math.sqrt(1 + Math.log(32) / Math.log(4096)) + "\ndecoder.rope_short " + ones + "\ndecoder.rope_long " + ones);
        assertThat(rope(Families.read(with(INTERNLM, "llm_config.rope_scaling", "null"))))
                .isEqualTo("decoder.rope_theta 1000000.0\ndecoder.rope plain");
    }

    @Test
    void longRopesMagnitudeIsThePublishedOne() {
        ModelSpec.Rope.LongRope rope = (ModelSpec.Rope.LongRope) published(PHI).spec().decoder().rope();
        assertThat(rope.magnitude()).isEqualTo(1.190238, within(5e-7));
        Blueprint same = Families.read(with(PHI, "llm_config.max_position_embeddings", "4096"));
        assertThat(((ModelSpec.Rope.LongRope) same.spec().decoder().rope()).magnitude()).isEqualTo(1);
    }

    @Test
    void dynamicScalingHasNoEndAndOthersEndWithTheirPositions() {
        assertThat(published(LARGE).spec().decoder().context()).isEqualTo(1 << 24);
        assertThat(Families.read(with(LARGE, "llm_config.rope_scaling", "null")).spec().decoder().context()).isEqualTo(32768);
        assertThat(published(PHI).spec().decoder().context()).isEqualTo(131072);
    }

    @Test
    void theConfigurationsSystemMessageWins() {
        assertThat(published(LARGE).template().system().text()).startsWith("你是").contains("InternVL").endsWith("。");
        assertThat(published(PHI).template().system().text()).isEqualTo(published(LARGE).template().system().text());
        String old = "You are an AI assistant whose name is Phi-3.";
        assertThat(Families.read(with(PHI, "system_message", "'" + old + "'")).template().system().text()).isEqualTo(old);
    }

    /** Both ways in which InternVL's code has written several pictures, and no line break between turns. */
    @Test
    void promptsAreWrittenAsThePublishedCodeDid(@TempDir Path folder) {
        Path golden = Path.of(System.getProperty("jvlm.root"), "tests/goldens/mini-internvl-2b-v1-5");
        Checkpoint model = Checkpoint.open(SeededWeights.build(golden, folder));
        Image image = Image.of(1, 1, new byte[3]);
        String start = "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\n";
        String end = "<|im_end|><|im_start|>assistant\n";
        int[] rows = {2, 3};
        List<Part> oneBlock = List.of(Part.pictures(List.of(image, image)), Part.text("Compare."));
        assertThat(model.prompt("Be brief.", List.of(), oneBlock, rows, 500).ids())
                .isEqualTo(model.tokenizer().encode(start + "<img>" + "<IMG_CONTEXT>".repeat(5) + "</img>\nCompare." + end));
        List<Part> numbered = List.of(
                Part.text("Image-1: "), Part.image(image), Part.text("Image-2: "), Part.image(image), Part.text("Compare."));
        String written = "Image-1: <img><IMG_CONTEXT><IMG_CONTEXT></img>\nImage-2: <img>" + "<IMG_CONTEXT>".repeat(3) + "</img>\nCompare.";
        assertThat(model.prompt("Be brief.", List.of(), numbered, rows, 500).ids()).isEqualTo(model.tokenizer().encode(start + written + end));
        Turn turn = new Turn(oneBlock, "Alike.");
        assertThat(model.prompt("Be brief.", List.of(turn), List.of(Part.text("Why?")), rows, 500).ids())
                .isEqualTo(model.tokenizer().encode(start + "<img>" + "<IMG_CONTEXT>".repeat(5) + "</img>\nCompare." + end
                        + "Alike.<|im_end|><|im_start|>user\nWhy?" + end));
    }

    @Test
    void aLlamaInsideIsReadAsSuch() {
        ObjectNode root = (ObjectNode) with(INTERNLM, "llm_config.architectures", "['LlamaForCausalLM']");
        ((ObjectNode) root.path("llm_config")).remove(List.of("rope_scaling", "bias"));
        assertThat(Families.read(root).weights().stream().map(Weight::name))
                .contains("language_model.model.layers.23.self_attn.q_proj.weight")
                .noneMatch(name -> name.contains("wqkv"));
    }

    @Test
    void slidingWindowsAsLongAsTheContextAreNone() {
        assertThat(Families.read(with(PHI, "llm_config.sliding_window", "null")).spec().decoder().window()).isZero();
        assertThat(Families.read(with(PHI, "llm_config.sliding_window", "131072")).spec().decoder().window()).isZero();
    }

    @Test
    void missingKeysHaveThePublishedClassesDefaults() {
        assertThat(Families.read(with(LARGE, "vision_config.norm_type", "missing")).spec().vision().norm()).isEqualTo(ModelSpec.Norm.RMS_NORM);
        assertThat(Families.read(with(LARGE, "vision_config.qk_normalization", "missing")).weights().stream().map(Weight::name))
                .contains("vision_model.encoder.layers.44.attn.q_norm.weight", "vision_model.encoder.layers.44.attn.k_norm.weight");
        assertThat(Families.read(with(INTERNLM, "llm_config.rms_norm_eps", "missing")).spec().decoder().eps()).isEqualTo(1e-6);
        assertThat(Families.read(with(PHI, "llm_config.rms_norm_eps", "missing")).spec().decoder().eps()).isEqualTo(1e-5);
        assertThat(rope(Families.read(with(PHI, "llm_config.original_max_position_embeddings", "missing")))).contains("rope_limit 4096");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '~', value = {
        "internvl-chat-v1-5 | ps_version | 'v1'", "internvl-chat-v1-5 | ps_version | missing",
        "internvl-chat-v1-5 | template | 'Hermes-2'", "internvl-chat-v1-5 | template | missing",
        "internvl-chat-v1-5 | dynamic_image_size | false", "internvl-chat-v1-5 | pad2square | true",
        "internvl-chat-v1-5 | use_llm_lora | 16", "internvl-chat-v1-5 | quantization_config | {}",
        "internvl-chat-v1-5 | llm_config.architectures | ['Qwen2ForCausalLM']", "internvl-chat-v1-5 | llm_config.architectures | missing",
        "internvl-chat-v1-5 | llm_config.bias | true", "internvl-chat-v1-5 | llm_config.bias | missing",
        "internvl-chat-v1-5 | llm_config.tie_word_embeddings | true", "internvl-chat-v1-5 | llm_config.hidden_act | 'gelu'",
        "internvl-chat-v1-5 | llm_config.head_dim | 64", "internvl-chat-v1-5 | llm_config.sliding_window | 4096",
        "internvl-chat-v1-5 | llm_config.rope_scaling.type | 'linear'", "internvl-chat-v1-5 | llm_config.rope_scaling.type | missing",
        "internvl-chat-v1-5 | llm_config.rope_parameters | {}",
        "mini-internvl-chat-4b-v1-5 | llm_config.attention_bias | true", "mini-internvl-chat-4b-v1-5 | llm_config.sliding_window | 2047",
        "mini-internvl-chat-4b-v1-5 | llm_config.rope_scaling.type | 'yarn'", "mini-internvl-chat-4b-v1-5 | llm_config.partial_rotary_factor | 0.4",
        "mini-internvl-chat-4b-v1-5 | llm_config.tie_word_embeddings | true", "mini-internvl-chat-4b-v1-5 | llm_config.quantization_config | {}",
    })
    void whatIsNotImplementedIsRefusedByName(String model, String key, String value) {
        assertThatThrownBy(() -> Families.read(with(model, key, value)))
                .isInstanceOf(JvlmException.class)
                .hasMessageStartingWith("config.json: " + key + " is ")
                .hasMessageContaining("Supported: ")
                .extracting("code")
                .isEqualTo(JvlmException.Code.MODEL_UNSUPPORTED);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '~', value = {
        "internvl-chat-v1-5 | llm_config.rope_scaling.factor | 0.5", "internvl-chat-v1-5 | llm_config.rope_scaling.factor | missing",
        "mini-internvl-chat-4b-v1-5 | llm_config.rope_scaling.short_factor | [1.0, 1.0]",
        "mini-internvl-chat-4b-v1-5 | llm_config.rope_scaling.long_factor | missing",
        "mini-internvl-chat-4b-v1-5 | llm_config.rope_scaling.long_factor | 5",
        "mini-internvl-chat-4b-v1-5 | llm_config.original_max_position_embeddings | 1",
        "mini-internvl-chat-4b-v1-5 | llm_config.sliding_window | 0", "internvl-chat-v1-5 | system_message | 5",
    })
    void f54_valuesOutOfRangeAreRefusedWithFieldValueAndRange(String model, String key, String value) {
        assertThatThrownBy(() -> Families.read(with(model, key, value)))
                .isInstanceOf(JvlmException.class)
                .hasMessageStartingWith("config.json: " + key + " is ")
                .hasMessageContaining("Allowed: ")
                .extracting("code")
                .isEqualTo(JvlmException.Code.MODEL_FORMAT);
    }

    @Test
    void f54_factorsThatAreNoPositiveNumbersAreRefused() {
        for (String bad : List.of("0", "-1", "null", "'1'", "1e99")) {
            String list = "[" + "1,".repeat(47) + bad + "]";
            assertThatThrownBy(() -> Families.read(with(PHI, "llm_config.rope_scaling.long_factor", list)))
                    .as(bad)
                    .hasMessageContaining("Allowed: 48 numbers from 1.0E-6 to 1000000.0");
        }
    }

    @Tag("full")
    @Test
    void f54_anyValueOfAnyKeyIsReadOrRefused() {
        int refused = 0;
        for (String model : List.of(LARGE, PHI)) {
            refused += ChangedJson.refused(json(model), Families::read);
        }
        assertThat(refused).isGreaterThan(500);
    }
}
