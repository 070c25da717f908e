package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * A LoRA, rsLoRA or DoRA adapter as PEFT saves it: {@code adapter_config.json} and {@code adapter_model.safetensors}, checked against
 * the model that it is merged into. With W (out, in) a layer's weight, A (rank, in), B (out, rank) and magnitudes m (out):
 * V = W + scale * B * A, with DoRA row o of it times m[o] / ||V[o]||.
 */
final class Adapter {

    private static final String WEIGHTS = "adapter_model.safetensors";

    /** What PEFT puts in front of the name that a module has in the model that was trained. */
    private static final String WRAPPER = "base_model.model.";

    private static final String A = ".lora_A.weight";
    private static final String B = ".lora_B.weight";
    private static final String MAGNITUDE = ".lora_magnitude_vector";

    /** Tables that rows are taken from: {@code nn.Embedding}, for which PEFT has another formula. */
    private static final List<String> TABLES = List.of("decoder.embed.weight", "vision.positions");

    private static final int MOST_NAMED = 10;

    /** One layer's tensors in the adapter's file; null what it lacks, and without DoRA the magnitude. */
    private static final class Layer {
        private SafeTensors.Tensor a;
        private SafeTensors.Tensor b;
        private SafeTensors.Tensor magnitude;
        private int rank;
        private double scale;
    }

    private final SafeTensors tensors;
    private final byte[] configuration;
    /** By the name that the layer's weight has in the checkpoint. */
    private final Map<String, Layer> layers = new HashMap<>();
    private final List<String> notes = new ArrayList<>();

    private Adapter(SafeTensors tensors, byte[] configuration) {
        this.tensors = tensors;
        this.configuration = configuration;
    }

    /**
     * Opens an adapter's folder for a model.
     *
     * @param weights the model's, among which the linear layers are
     * @throws JvlmException MODEL_FORMAT if a file is missing or damaged, or the adapter does not fit the model or its own configuration;
     *     MODEL_UNSUPPORTED if it is of another kind
     */
    static Adapter open(Path path, List<Weight> weights) {
        if (!Files.isDirectory(path)) {
            throw wrong("is no folder; give the folder that holds " + AdapterConfig.FILE + " and " + WEIGHTS);
        }
        ModelFolder folder = ModelFolder.open(path);
        if (!folder.has(AdapterConfig.FILE)) {
            throw wrong("has no " + AdapterConfig.FILE + "; give the folder that PEFT's save_pretrained wrote");
        }
        if (!folder.has(WEIGHTS)) {
            throw folder.has("adapter_model.bin")
                    ? new JvlmException(
                            JvlmException.Code.MODEL_UNSUPPORTED,
                            "The adapter holds its weights as adapter_model.bin only: a pickle, which can run code when it is read. Convert it"
                                    + " to safetensors where you trust it (load it with PEFT and call save_pretrained)")
                    : wrong("has no " + WEIGHTS + "; download it completely");
        }
        AdapterConfig config = new AdapterConfig(folder.json(AdapterConfig.FILE));
        Adapter adapter = new Adapter(SafeTensors.read(folder, WEIGHTS), folder.bytes(AdapterConfig.FILE));
        adapter.match(config, weights);
        return adapter;
    }

    /** What a user should know of it. */
    List<String> notes() {
        return notes;
    }

    /** What tells two adapters apart. */
    List<byte[]> identity() {
        List<byte[]> identity = new ArrayList<>(tensors.identity());
        identity.add(configuration);
        return identity;
    }

    /** What the adapter adds to the rows that a weight takes from its tensor, or null if it leaves them as they are. */
    Manifest.Update update(Weight weight) {
        Layer layer = isLinear(weight) ? layers.get(weight.name()) : null;
        return layer == null
                ? null
                : new Manifest.Update(weight.target(), weight.firstRow(), layer.rank, layer.scale, layer.a.file().toString(),
                        from(layer.a, 0), from(layer.b, weight.sourceRow()),
                        layer.magnitude == null ? null : from(layer.magnitude, weight.sourceRow()));
    }

    private static Manifest.Numbers from(SafeTensors.Tensor tensor, long row) {
        return new Manifest.Numbers(tensor.dtype(), tensor.offset() + row * (tensor.bytes() / tensor.shape().get(0)));
    }

    private static boolean isLinear(Weight weight) {
        return weight.shape().size() == 2 && weight.name().endsWith(".weight") && !TABLES.contains(weight.target());
    }

    private void match(AdapterConfig config, List<Weight> weights) {
        Map<String, Weight> linear = new LinkedHashMap<>();
        weights.stream().filter(Adapter::isLinear).forEach(w -> linear.put(module(w), w));
        Map<String, Layer> held = held();
        String prefix = prefix(held.keySet(), linear.keySet());

        TreeSet<String> missing = new TreeSet<>();
        TreeSet<String> unfit = new TreeSet<>();
        TreeSet<Integer> ranks = new TreeSet<>();
        List<String> ambiguous = new ArrayList<>();
        linear.forEach((full, weight) -> {
            String module = full.startsWith(prefix) ? full.substring(prefix.length()) : null;
            if (module == null || !config.targets(module)) {
                return;
            }
            Layer layer = held.remove(module);
            if (layer == null) {
                missing.add(module);
                return;
            }
            layer.rank = config.rank(module);
            layer.scale = config.scale(module);
            ranks.add(layer.rank);
            if (config.ambiguous(module)) {
                ambiguous.add(module);
            }
            check(module, layer, weight, config.dora(), unfit);
            layers.put(weight.name(), layer);
        });
        if (!missing.isEmpty()) {
            throw wrong("is incomplete: target_modules in " + AdapterConfig.FILE + " means layers that " + WEIGHTS + " lacks: " + list(missing)
                    + ". Take both files from the same training run");
        }
        if (!held.isEmpty()) {
            throw wrong("holds layers that target_modules in " + AdapterConfig.FILE + " does not mean: " + list(held.keySet())
                    + ". Take both files from the same training run");
        }
        if (!unfit.isEmpty()) {
            throw wrong("does not fit: " + String.join("; ", unfit.stream().limit(MOST_NAMED).toList())
                    + (unfit.size() > MOST_NAMED ? "; and " + (unfit.size() - MOST_NAMED) + " more" : "")
                    + ". Use the model that it was trained from, and both of its files from the same training run");
        }
        notes.add("Adapter merged into " + layers.size() + (layers.size() == 1 ? " layer: " : " layers: ") + config.kind() + ", rank "
                + String.join(", ", ranks.stream().map(String::valueOf).toList())
                + (config.base().isEmpty() ? "" : "; trained from " + Quote.of(config.base())));
        if (!ambiguous.isEmpty()) {
            notes.add("Adapter: later versions of PEFT read alpha_pattern differently for these layers, and 0.12 is followed: "
                    + Config.list(ambiguous));
        }
    }

    private static String module(Weight weight) {
        return weight.name().substring(0, weight.name().length() - ".weight".length());
    }

    /** The layers of the adapter's file, by the names that they have in the model that was trained. */
    private Map<String, Layer> held() {
        Map<String, Layer> held = new TreeMap<>();
        TreeSet<String> others = new TreeSet<>();
        for (SafeTensors.Tensor tensor : tensors.tensors()) {
            String name = tensor.name();
            if (!name.startsWith(WRAPPER)) {
                others.add(name);
            } else if (name.endsWith(A)) {
                held.computeIfAbsent(layer(name, A), n -> new Layer()).a = tensor;
            } else if (name.endsWith(B)) {
                held.computeIfAbsent(layer(name, B), n -> new Layer()).b = tensor;
            } else if (name.endsWith(MAGNITUDE)) {
                held.computeIfAbsent(layer(name, MAGNITUDE), n -> new Layer()).magnitude = tensor;
            } else {
                others.add(name);
            }
        }
        if (!others.isEmpty()) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_UNSUPPORTED,
                    "The adapter holds tensors that are no part of a LoRA layer: " + list(others)
                            + ". Supported: lora_A.weight, lora_B.weight and lora_magnitude_vector of linear layers");
        }
        if (held.isEmpty()) {
            throw wrong("holds no layers; save it again with PEFT's save_pretrained");
        }
        return held;
    }

    private static String layer(String name, String suffix) {
        return name.length() < WRAPPER.length() + suffix.length() ? "" : name.substring(WRAPPER.length(), name.length() - suffix.length());
    }

    /**
     * What the checkpoint has in front of all the names: nothing, or the name of the part of the model that was trained alone, if just one
     * has them all.
     */
    private static String prefix(Collection<String> held, Collection<String> linear) {
        String first = held.iterator().next();
        List<String> prefixes = linear.stream()
                .filter(full -> full.equals(first) || full.endsWith("." + first))
                .map(full -> full.substring(0, full.length() - first.length()))
                .filter(p -> held.stream().allMatch(name -> linear.contains(p + name)))
                .toList();
        if (prefixes.contains("")) {
            return "";
        }
        if (prefixes.size() > 1) {
            throw wrong("was trained on a part of a model, and this one has several such parts: " + Config.list(prefixes)
                    + ". Save it from the whole model");
        }
        if (prefixes.isEmpty()) {
            List<String> unknown = held.stream()
                    .filter(name -> linear.stream().noneMatch(full -> full.equals(name) || full.endsWith("." + name)))
                    .toList();
            throw wrong("belongs to another model: this one has no such linear layers: "
                    + Config.list(unknown.isEmpty() ? List.copyOf(held) : unknown) + ". Use the model that it was trained from");
        }
        return prefixes.get(0);
    }

    private static void check(String module, Layer layer, Weight weight, boolean dora, TreeSet<String> unfit) {
        long out = weight.shape().get(0);
        long in = weight.shape().get(1);
        check(module + A, layer.a, List.of((long) layer.rank, in), unfit);
        check(module + B, layer.b, List.of(out, (long) layer.rank), unfit);
        if (dora) {
            check(module + MAGNITUDE, layer.magnitude, List.of(out), unfit);
        } else if (layer.magnitude != null) {
            unfit.add(module + MAGNITUDE + " is there, but use_dora in " + AdapterConfig.FILE + " is false");
        }
    }

    private static void check(String name, SafeTensors.Tensor tensor, List<Long> shape, TreeSet<String> unfit) {
        if (tensor == null) {
            unfit.add(name + " is missing");
        } else if (!tensor.shape().equals(shape)) {
            unfit.add(name + " has the shape " + tensor.shape() + " instead of " + shape);
        } else if (!Manifest.DTYPES.contains(tensor.dtype())) {
            unfit.add(name + " has the dtype " + tensor.dtype() + " instead of BF16, F16 or F32");
        }
    }

    private static String list(Collection<String> names) {
        return Config.list(List.copyOf(names));
    }

    private static JvlmException wrong(String how) {
        return new JvlmException(JvlmException.Code.MODEL_FORMAT, "The adapter " + how);
    }
}
