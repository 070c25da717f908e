package dev.jvlm.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import dev.jvlm.error.JvlmException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.function.Predicate;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ObjectNode;

class AdapterTest {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path NANO = Path.of(System.getProperty("jvlm.root"), "weights/nano");
    private static final String WRAPPER = "base_model.model.";
    private static final String LAYER = "language_model.model.layers.";

    @TempDir
    Path temp;

    private PeftFolder adapter;
    private int written;

    @BeforeEach
    void ofTwoKindsOfLayers() throws IOException {
        adapter = PeftFolder.on(NANO, List.of("q_proj", "fc1"), false, 3);
    }

    private Checkpoint open() throws IOException {
        return Checkpoint.open(NANO, adapter.write(temp.resolve("adapter" + written++)));
    }

    private void assertRefused(JvlmException.Code code, String... saying) {
        assertThatThrownBy(this::open)
                .isInstanceOf(JvlmException.class)
                .hasMessageContainingAll(saying)
                .hasMessageNotContainingAny(temp.toString())
                .extracting("code")
                .isEqualTo(code);
    }

    private void assertConfigRefused(JvlmException.Code code, String key, String value) throws IOException {
        ObjectNode before = adapter.config.deepCopy();
        adapter.config.set(key, JSON.readTree(value));
        assertRefused(code, "adapter_config.json: " + key + " is ");
        adapter.config.setAll(before);
        if (!before.has(key)) {
            adapter.config.remove(key);
        }
    }

    private static String a(String module) {
        return WRAPPER + module + ".lora_A.weight";
    }

    private static String b(String module) {
        return WRAPPER + module + ".lora_B.weight";
    }

    private void keep(Predicate<String> which) {
        adapter.tensors.keySet().removeIf(which.negate());
    }

    private static List<String> targets(Checkpoint checkpoint) {
        return checkpoint.manifest().updates().stream().map(u -> u.target() + " " + u.firstRow()).toList();
    }

    // ---- what is read -------------------------------------------------------------------------------------------------------------

    @Test
    void eachLayerGetsWhatTheFileHoldsForIt() throws IOException {
        Checkpoint checkpoint = open();
        assertThat(targets(checkpoint)).containsExactlyInAnyOrder("vision.0.mlp.up.weight 0", "vision.1.mlp.up.weight 0",
                "vision.2.mlp.up.weight 0", "vision.3.mlp.up.weight 0", "decoder.0.attn.qkv.weight 0",
                "decoder.1.attn.qkv.weight 0", "decoder.2.attn.qkv.weight 0", "decoder.3.attn.qkv.weight 0");
        SafeTensors file = SafeTensors.read(ModelFolder.open(temp.resolve("adapter0")), "adapter_model.safetensors");
        Manifest.Update q = checkpoint.manifest().updates().stream().filter(u -> u.target().startsWith("decoder.2.")).findFirst().orElseThrow();
        SafeTensors.Tensor a = file.get(a(LAYER + "2.self_attn.q_proj"));
        SafeTensors.Tensor b = file.get(b(LAYER + "2.self_attn.q_proj"));
        assertThat(q).isEqualTo(new Manifest.Update("decoder.2.attn.qkv.weight", 0, 4, 2, a.file().toString(),
                new Manifest.Numbers("BF16", a.offset()), new Manifest.Numbers("F16", b.offset()), null));
        assertThat(checkpoint.manifest().toText().lines().filter(line -> line.startsWith("adapter\tdecoder.2.")))
                .containsExactly("adapter\tdecoder.2.attn.qkv.weight\t0\t4\t2.0\t" + a.file() + "\tBF16\t" + a.offset() + "\tF16\t"
                        + b.offset());
        assertThat(checkpoint.notes()).contains("Adapter merged into 8 layers: LoRA, rank 4; trained from 'some/base'");
        assertThat(checkpoint.manifest().pieces()).isEqualTo(Checkpoint.open(NANO).manifest().pieces());
    }

    @Test
    void magnitudesAreReadWithDora() throws IOException {
        adapter = PeftFolder.on(NANO, List.of("k_proj"), true, 3);
        adapter.config.put("use_rslora", true);
        Checkpoint checkpoint = open();
        assertThat(checkpoint.notes()).contains("Adapter merged into 4 layers: DoRA with rsLoRA's scale, rank 4; trained from 'some/base'");
        assertThat(checkpoint.manifest().updates()).hasSize(4).allSatisfy(u -> {
            assertThat(u.firstRow()).isEqualTo(192); // behind the queries
            assertThat(u.scale()).isEqualTo(4);
            assertThat(u.magnitude().dtype()).isEqualTo("F32");
        });
        assertThat(checkpoint.manifest().toText().lines().filter(line -> line.startsWith("adapter\t")))
                .allSatisfy(line -> assertThat(line.split("\t")).hasSize(12));
    }

    @Test
    void fingerprintsTellAdaptersApart() throws IOException {
        String with = open().fingerprint();
        assertThat(open().fingerprint()).isEqualTo(with);
        assertThat(with).isNotEqualTo(Checkpoint.open(NANO).fingerprint());
        adapter.config.put("lora_alpha", 9);
        String scaled = open().fingerprint();
        assertThat(scaled).isNotEqualTo(with);
        adapter.config.put("lora_alpha", 8);
        adapter.tensors.values().iterator().next().values()[0] += 1;
        assertThat(open().fingerprint()).isNotEqualTo(with).isNotEqualTo(scaled);
    }

    /** A tensor that becomes parts of several rows: B and magnitudes follow them, A is for all. */
    @Test
    void rowsOfATensorTakeTheirRowsOfTheAdapter() throws IOException {
        adapter = PeftFolder.on(NANO, List.of("fc1"), true, 3);
        String name = "vision_model.encoder.layers.0.mlp.fc1";
        keep(tensor -> tensor.startsWith(WRAPPER + name));
        PeftFolder.Tensor held = adapter.tensors.get(b(name));
        WeightMap map = new WeightMap();
        map.rowsOf(name + ".weight", held.rows(), 0, "one", 7, 5, 128);
        map.rowsOf(name + ".weight", held.rows(), 5, "two", 0, held.rows() - 5, 128);
        Adapter opened = Adapter.open(adapter.write(temp.resolve("rows")), map.weights());
        Manifest.Update first = opened.update(map.weights().get(0));
        Manifest.Update second = opened.update(map.weights().get(1));
        assertThat(first.firstRow()).isEqualTo(7);
        assertThat(second.a()).isEqualTo(first.a());
        assertThat(second.b().offset()).isEqualTo(first.b().offset() + 5 * 4 * 2); // rank 4, float16
        assertThat(second.magnitude().offset()).isEqualTo(first.magnitude().offset() + 5 * 4);
    }

    @Test
    void anAdapterOfTheLanguageModelAloneFindsItsLayers() throws IOException {
        adapter = PeftFolder.on(NANO, List.of("q_proj", "v_proj"), false, 3);
        List<Manifest.Update> whole = open().manifest().updates();
        Map<String, PeftFolder.Tensor> renamed = new TreeMap<>();
        adapter.tensors.forEach((name, tensor) -> renamed.put(name.replace("language_model.", ""), tensor));
        adapter.tensors.clear();
        adapter.tensors.putAll(renamed);
        List<Manifest.Update> alone = open().manifest().updates();
        assertThat(alone).extracting(Manifest.Update::target).containsExactlyElementsOf(whole.stream().map(Manifest.Update::target).toList());
        assertThat(alone).hasSize(8);
    }

    @Test
    void namesThatSeveralPartsHaveAreRefused() throws IOException {
        WeightMap map = new WeightMap();
        map.matrix("x", "left.proj.weight", 6, 5);
        map.matrix("y", "right.proj.weight", 6, 5);
        keep(name -> false);
        adapter.tensors.put(a("proj"), new PeftFolder.Tensor("F32", List.of(4L, 5L), new float[20]));
        adapter.tensors.put(b("proj"), new PeftFolder.Tensor("F32", List.of(6L, 4L), new float[24]));
        adapter.config.set("target_modules", JSON.readTree("[\"proj\"]"));
        Path folder = adapter.write(temp.resolve("parts"));
        assertThatThrownBy(() -> Adapter.open(folder, map.weights()))
                .hasMessage("The adapter was trained on a part of a model, and this one has several such parts: 'left.', 'right.'. Save it from"
                        + " the whole model");
    }

    // ---- which layers are meant ---------------------------------------------------------------------------------------------------

    private AdapterConfig config(String json) throws IOException {
        ObjectNode config = adapter.config.deepCopy();
        config.setAll((ObjectNode) JSON.readTree(json));
        return new AdapterConfig(config);
    }

    @Test
    void targetModulesAreEndingsOrOneExpression() throws IOException {
        AdapterConfig names = config("{\"target_modules\":[\"q_proj\",\"a.b\"]}");
        assertThat(names.targets("x.q_proj")).isTrue();
        assertThat(names.targets("q_proj")).isTrue();
        assertThat(names.targets("x.qq_proj")).isFalse();
        assertThat(names.targets("q_proj.x")).isFalse();
        assertThat(names.targets("x.a.b")).isTrue();
        AdapterConfig expression = config("{\"target_modules\":\".*text.*(q|v)_proj\"}");
        assertThat(expression.targets("m.text.1.q_proj")).isTrue();
        assertThat(expression.targets("m.text.1.q_proj.x")).isFalse();
        assertThat(expression.targets("m.vision.1.q_proj")).isFalse();
    }

    @Test
    void excludedModulesAreNot() throws IOException {
        AdapterConfig names = config("{\"target_modules\":[\"q_proj\"],\"exclude_modules\":[\"vision.q_proj\"]}");
        assertThat(names.targets("x.text.q_proj")).isTrue();
        assertThat(names.targets("x.vision.q_proj")).isFalse();
        assertThat(config("{\"target_modules\":[\"q_proj\"],\"exclude_modules\":\"x.v.*\"}").targets("x.vision.q_proj")).isFalse();
    }

    @Test
    void layersAreChosenByNumber() throws IOException {
        AdapterConfig two = config("{\"target_modules\":[\"q_proj\",\"x.layers.7.q_proj\"],\"layers_to_transform\":[0,2]}");
        assertThat(two.targets("x.layers.0.q_proj")).isTrue();
        assertThat(two.targets("x.layers.1.q_proj")).isFalse();
        assertThat(two.targets("x.layers.12.q_proj")).isFalse();
        assertThat(two.targets("x.blocks.2.q_proj")).isTrue();
        assertThat(two.targets("x.layers.7.q_proj")).isTrue(); // named as a whole
        assertThat(two.targets("a.q_proj")).isFalse();
        AdapterConfig pattern = config("{\"target_modules\":[\"q_proj\"],\"layers_to_transform\":2,\"layers_pattern\":\"layers\"}");
        assertThat(pattern.targets("x.layers.2.q_proj")).isTrue();
        assertThat(pattern.targets("x.blocks.2.q_proj")).isFalse();
        assertThat(config("{\"layers_to_transform\":[],\"layers_pattern\":\"\"}").targets("x.q_proj")).isTrue();
        assertThatThrownBy(() -> config("{\"target_modules\":\".*\",\"layers_to_transform\":[1]}")).hasMessageContaining("list of names");
    }

    /** As PEFT 0.12's {@code LoraModel._create_and_replace} computes them. */
    @Test
    void ranksAndScalesFollowTheirPatterns() throws IOException {
        AdapterConfig c = config("{\"r\":4,\"lora_alpha\":6,\"rank_pattern\":{\"q_proj\":3,\"layers\\\\.[01]\\\\.k_proj\":2,\"top\":16},"
                + "\"alpha_pattern\":{\"q_proj\":12,\"v_proj\":1,\"1.k_proj\":100,\"^x.z\":2}}");
        assertThat(c.rank("x.q_proj")).isEqualTo(3);
        assertThat(c.scale("x.q_proj")).isEqualTo(4);
        assertThat(c.rank("x.qq_proj")).isEqualTo(4);
        assertThat(c.scale("x.qq_proj")).isEqualTo(1.5);
        assertThat(c.rank("x.layers.1.k_proj")).isEqualTo(2);
        assertThat(c.rank("x.layers.2.k_proj")).isEqualTo(4);
        assertThat(c.scale("x.v_proj")).isEqualTo(0.25);
        assertThat(c.rank("top")).isEqualTo(16); // the whole name
        assertThat(c.rank("top.x")).isEqualTo(4);
        // One key for both maps: that of the ranks, so the alpha's own does not count.
        assertThat(c.scale("x.layers.1.k_proj")).isEqualTo(3);
        assertThat(c.ambiguous("x.layers.1.k_proj")).isTrue();
        assertThat(c.ambiguous("x.layers.0.k_proj")).isFalse();
        assertThat(c.ambiguous("x.q_proj")).isFalse();
        assertThat(c.scale("x.z")).isEqualTo(1.5);
        assertThat(c.ambiguous("x.z")).isTrue();
        assertThat(config("{\"r\":8,\"lora_alpha\":3,\"use_rslora\":true}").scale("x")).isCloseTo(3 / Math.sqrt(8), within(1e-15));
        ObjectNode bare = JSON.createObjectNode().put("peft_type", "LORA");
        bare.set("target_modules", JSON.readTree("[\"x\"]"));
        assertThat(new AdapterConfig(bare).rank("x")).isEqualTo(8);
        assertThat(new AdapterConfig(bare).scale("x")).isEqualTo(1);
    }

    @Test
    void whereVersionsReadPatternsDifferentlyIsNoted() throws IOException {
        adapter.config.set("rank_pattern", JSON.readTree("{\"q_proj\":4}"));
        adapter.config.set("alpha_pattern", JSON.readTree("{\"layers.1.self_attn.q_proj\":2}"));
        assertThat(open().notes()).anyMatch(n -> n.startsWith("Adapter: later versions of PEFT read alpha_pattern") && n.contains("'" + LAYER + "1."));
    }

    @Test
    void expressionsWithoutEndAreRefused() {
        for (String expression : List.of("(a|aa)+$|(.*.*)*(.*.*)*(.*.*)*y", "(", "x".repeat(5000), "(?P<name>x)")) {
            adapter.config.put("target_modules", expression);
            assertRefused(JvlmException.Code.MODEL_UNSUPPORTED, "adapter_config.json: the regular expression '",
                    "name the modules in a list");
        }
    }

    // ---- what is refused ----------------------------------------------------------------------------------------------------------

    @Test
    void configurationsOfOtherKindsAreRefused() throws IOException {
        Map<String, List<String>> unsupported = new TreeMap<>(Map.of(
                "peft_type", List.of("\"IA3\"", "\"ADALORA\"", "null"),
                "bias", List.of("\"all\"", "\"lora_only\""),
                "fan_in_fan_out", List.of("true"),
                "modules_to_save", List.of("[\"lm_head\"]"),
                "layer_replication", List.of("[[0,2]]"),
                "init_lora_weights", List.of("\"pissa\"", "\"pissa_niter_4\"", "\"olora\"", "\"loftq\"", "\"corda\"", "\"lora_ga\"")));
        unsupported.put("loftq_config", List.of("{\"loftq_bits\":4}"));
        unsupported.put("megatron_config", List.of("{\"a\":1}"));
        unsupported.put("lora_bias", List.of("true"));
        unsupported.put("trainable_token_indices", List.of("[1]"));
        unsupported.put("target_parameters", List.of("[\"x\"]"));
        unsupported.put("use_something_new", List.of("true", "1", "\"x\""));
        for (Map.Entry<String, List<String>> e : unsupported.entrySet()) {
            for (String value : e.getValue()) {
                assertConfigRefused(JvlmException.Code.MODEL_UNSUPPORTED, e.getKey(), value);
            }
        }
        for (String harmless : List.of("{\"loftq_config\":{},\"lora_bias\":false,\"megatron_config\":null,\"megatron_core\":\"megatron.core\"}",
                "{\"init_lora_weights\":\"gaussian\"}", "{\"init_lora_weights\":false,\"peft_version\":\"0.18.0\",\"modules_to_save\":[]}")) {
            adapter.config.setAll((ObjectNode) JSON.readTree(harmless));
            assertThat(open().manifest().updates()).hasSize(8);
        }
    }

    @Test
    void valuesOutOfRangeAreRefused() throws IOException {
        Map<String, List<String>> values = Map.of(
                "r", List.of("0", "-1", "1.5", "\"8\""),
                "lora_alpha", List.of("\"8\"", "1e300", "true"),
                "rank_pattern", List.of("[]", "{\"q_proj\":0}", "{\"q_proj\":1.5}", "{\"q_proj\":\"2\"}"),
                "alpha_pattern", List.of("[]", "{\"q_proj\":\"2\"}"),
                "target_modules", List.of("3", "[3]", "{}"),
                "exclude_modules", List.of("[true]"),
                "layers_to_transform", List.of("\"1\"", "[1.5]", "[-1]", "[99999999999]"),
                "layers_pattern", List.of("1"),
                "use_dora", List.of("1"));
        for (Map.Entry<String, List<String>> e : values.entrySet()) {
            for (String value : e.getValue()) {
                assertConfigRefused(JvlmException.Code.MODEL_FORMAT, e.getKey(), value);
            }
        }
        adapter.config.putNull("target_modules");
        assertRefused(JvlmException.Code.MODEL_FORMAT, "target_modules is missing");
    }

    @Test
    void partialAdaptersAreRefused() throws IOException {
        String one = LAYER + "3.self_attn.q_proj";
        keep(name -> !name.contains(one));
        assertRefused(JvlmException.Code.MODEL_FORMAT, "is incomplete", "'" + one + "'");
        adapter = PeftFolder.on(NANO, List.of("q_proj", "fc1"), false, 3);
        adapter.tensors.remove(b(one));
        assertRefused(JvlmException.Code.MODEL_FORMAT, one + ".lora_B.weight is missing");
        adapter = PeftFolder.on(NANO, List.of("q_proj", "fc1"), false, 3);
        adapter.tensors.remove(a(one));
        assertRefused(JvlmException.Code.MODEL_FORMAT, one + ".lora_A.weight is missing");
        adapter.tensors.clear();
        assertRefused(JvlmException.Code.MODEL_FORMAT, "holds no layers");
    }

    @Test
    void layersThatTheConfigurationDoesNotMeanAreRefused() throws IOException {
        adapter.config.set("target_modules", JSON.readTree("[\"fc1\"]"));
        assertRefused(JvlmException.Code.MODEL_FORMAT, "target_modules in adapter_config.json does not mean", LAYER + "0.self_attn.q_proj'");
    }

    @Test
    void tensorsThatAreNoPartOfALayerAreRefused() {
        for (String name : List.of(WRAPPER + LAYER + "0.self_attn.q_proj.lora_embedding_A", WRAPPER + "language_model.lm_head.weight",
                LAYER + "0.self_attn.q_proj.lora_A.weight", a(LAYER + "0.self_attn.q_proj").replace("weight", "default.weight"))) {
            adapter.tensors.put(name, new PeftFolder.Tensor("F32", List.of(1L), new float[1]));
            assertRefused(JvlmException.Code.MODEL_UNSUPPORTED, "no part of a LoRA layer: '" + name + "'");
            adapter.tensors.remove(name);
        }
    }

    @Test
    void adaptersOfOtherModelsAreRefused() throws IOException {
        String other = "language_model.model.layers.9.self_attn.q_proj";
        adapter.tensors.put(a(other), adapter.tensors.get(a(LAYER + "0.self_attn.q_proj")));
        adapter.tensors.put(b(other), adapter.tensors.get(b(LAYER + "0.self_attn.q_proj")));
        assertRefused(JvlmException.Code.MODEL_FORMAT, "belongs to another model", "'" + other + "'");
        adapter = PeftFolder.on(NANO, List.of("embed_tokens"), false, 3);
        assertThat(adapter.tensors).hasSize(2);
        assertRefused(JvlmException.Code.MODEL_FORMAT, "no such linear layers: 'language_model.model.embed_tokens'");
    }

    @Test
    void shapesThatDoNotFitAreRefused() throws IOException {
        String one = LAYER + "1.self_attn.q_proj";
        replace(a(one), "F32", 4, 191);
        assertRefused(JvlmException.Code.MODEL_FORMAT, one + ".lora_A.weight has the shape [4, 191] instead of [4, 192]");
        replace(a(one), "F32", 192, 4); // (in, rank)
        assertRefused(JvlmException.Code.MODEL_FORMAT, "[192, 4] instead of [4, 192]");
        replace(a(one), "F32", 4, 192);
        replace(b(one), "F32", 4, 192);
        assertRefused(JvlmException.Code.MODEL_FORMAT, one + ".lora_B.weight has the shape [4, 192] instead of [192, 4]");
        replace(b(one), "I16", 192, 4);
        assertRefused(JvlmException.Code.MODEL_FORMAT, one + ".lora_B.weight has the dtype I16");
        adapter = PeftFolder.on(NANO, List.of("q_proj", "fc1"), false, 3);
        adapter.config.put("r", 5);
        assertRefused(JvlmException.Code.MODEL_FORMAT, "has the shape [4, 192] instead of [5, 192]",
                "has the shape [192, 4] instead of [192, 5]", "and 6 more");
        adapter.config.put("r", 4).set("rank_pattern", JSON.readTree("{\"1.self_attn.q_proj\":2}"));
        assertRefused(JvlmException.Code.MODEL_FORMAT, one + ".lora_A.weight has the shape [4, 192] instead of [2, 192]");
    }

    private void replace(String name, String dtype, long rows, long columns) {
        adapter.tensors.put(name, new PeftFolder.Tensor(dtype, List.of(rows, columns), new float[(int) (rows * columns)]));
    }

    @Test
    void doraNeedsItsMagnitudesAndOnlyDora() throws IOException {
        adapter.config.put("use_dora", true);
        assertRefused(JvlmException.Code.MODEL_FORMAT, "q_proj.lora_magnitude_vector is missing");
        adapter = PeftFolder.on(NANO, List.of("q_proj"), true, 3);
        adapter.config.put("use_dora", false);
        assertRefused(JvlmException.Code.MODEL_FORMAT, "q_proj.lora_magnitude_vector is there, but use_dora");
        adapter.config.put("use_dora", true);
        adapter.tensors.put(WRAPPER + LAYER + "0.self_attn.q_proj.lora_magnitude_vector",
                new PeftFolder.Tensor("F32", List.of(1L, 192L), new float[192]));
        assertRefused(JvlmException.Code.MODEL_FORMAT, "q_proj.lora_magnitude_vector has the shape [1, 192] instead of [192]");
    }

    @Test
    void foldersThatHoldNoAdapterAreRefused() throws IOException {
        Map<Consumer<Path>, String> faults = new LinkedHashMap<>();
        faults.put(f -> delete(f, "adapter_config.json"), "The adapter has no adapter_config.json");
        faults.put(f -> delete(f, "adapter_model.safetensors"), "The adapter has no adapter_model.safetensors");
        faults.put(f -> write(f, "adapter_config.json", "{"), "adapter_config.json is no valid JSON");
        faults.put(f -> write(f, "adapter_config.json", "[]"), "adapter_config.json holds no JSON object");
        faults.put(f -> write(f, "adapter_model.safetensors", "short"), "'adapter_model.safetensors' is cut short");
        faults.put(f -> write(f, "adapter_model.safetensors", "version https://git-lfs"), "is a Git LFS pointer");
        faults.put(f -> {
            delete(f, "adapter_model.safetensors");
            write(f, "adapter_model.bin", "x");
        }, "a pickle, which can run code");
        int i = 0;
        for (Map.Entry<Consumer<Path>, String> fault : faults.entrySet()) {
            Path folder = adapter.write(temp.resolve("fault" + i++));
            fault.getKey().accept(folder);
            assertThatThrownBy(() -> Checkpoint.open(NANO, folder)).isInstanceOf(JvlmException.class).hasMessageContaining(fault.getValue())
                    .hasMessageNotContainingAny(temp.toString());
        }
        assertThatThrownBy(() -> Checkpoint.open(NANO, temp.resolve("gone"))).isInstanceOf(JvlmException.class)
                .hasMessageContaining("The adapter is no folder");
        Path linked = adapter.write(temp.resolve("linked"));
        Files.move(linked.resolve("adapter_model.safetensors"), temp.resolve("elsewhere"));
        Files.createSymbolicLink(linked.resolve("adapter_model.safetensors"), temp.resolve("elsewhere"));
        assertThatThrownBy(() -> Checkpoint.open(NANO, linked)).isInstanceOf(JvlmException.class).hasMessageContaining("leads out");
    }

    private static void delete(Path folder, String file) {
        try {
            Files.delete(folder.resolve(file));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void write(Path folder, String file, String text) {
        try {
            Files.writeString(folder.resolve(file), text);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
