package dev.jvlm.model;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ObjectNode;

/**
 * Recorded adapters (tests/goldens/adapters): for each layer that one changes a model whose token table is that layer's weight, so that
 * running the ids 0, 1, ... shows the merged matrix as it was loaded.
 */
public final class AdapterVectors {

    private static final ObjectMapper JSON = new ObjectMapper();

    /** Of float32: half of the distance between 1 and the next number. */
    private static final double UNIT = 0x1p-24;

    /**
     * One layer.
     *
     * @param rows of the weight, and ids of the model
     * @param expected (rows, columns)
     * @param tolerance for each number of {@code expected}
     */
    public record Layer(String name, Checkpoint checkpoint, int rows, int columns, float[] expected, double[] tolerance) {}

    private AdapterVectors() {}

    /** The folders in a folder that hold a recorded adapter. */
    public static List<Path> cases(Path folder) throws IOException {
        try (Stream<Path> all = Files.list(folder)) {
            return all.filter(c -> Files.exists(c.resolve("adapter_config.json")) && Files.exists(c.resolve("expected.safetensors")))
                    .sorted()
                    .toList();
        }
    }

    /**
     * The layers of a case.
     *
     * @param modelConfig the config.json of a small model, of which only the layer's shape is changed
     */
    public static List<Layer> layers(Path folder, Path modelConfig) throws IOException {
        Map<String, PeftFolder.Tensor> recorded = PeftFolder.read(folder, "expected.safetensors");
        Map<String, PeftFolder.Tensor> trained = PeftFolder.read(folder, "adapter_model.safetensors");
        SafeTensors files = SafeTensors.read(ModelFolder.open(folder), "expected.safetensors");
        WeightMap map = new WeightMap();
        recorded.forEach((name, w) -> {
            if (name.startsWith("base.") && name.endsWith(".weight")) {
                map.matrix(name, name.substring("base.".length()), w.rows(), w.columns());
            }
        });
        Adapter adapter = Adapter.open(folder, map.weights());
        List<Layer> layers = new ArrayList<>();
        for (Weight weight : map.weights()) {
            String module = weight.name().replaceAll("\\.weight$", "");
            PeftFolder.Tensor w = recorded.get(weight.target());
            Blueprint blueprint = model(modelConfig, w.rows(), w.columns());
            String table = "decoder.embed.weight";
            List<Manifest.Piece> pieces = new ArrayList<>(Manifest.seeded(blueprint.weights(), 1).pieces());
            pieces.removeIf(p -> p.target().equals(table));
            SafeTensors.Tensor base = files.get(weight.target());
            pieces.add(new Manifest.Piece(table, 0, w.rows(), w.columns(), base.dtype(), base.file().toString(), base.offset()));
            Manifest.Update u = adapter.update(weight);
            Manifest manifest = new Manifest(
                    pieces, List.of(new Manifest.Update(table, 0, u.rank(), u.scale(), u.file(), u.a(), u.b(), u.magnitude())));
            PeftFolder.Tensor magnitude = trained.get("base_model.model." + module + ".lora_magnitude_vector");
            layers.add(new Layer(
                    module,
                    new Checkpoint(blueprint, null, manifest, List.of(), List.of(), "", List.of(), ""),
                    w.rows(),
                    w.columns(),
                    recorded.get("merged." + module + ".weight").values(),
                    tolerance(w, trained.get("base_model.model." + module + ".lora_A.weight"),
                            trained.get("base_model.model." + module + ".lora_B.weight"), u.scale(),
                            magnitude == null ? null : magnitude.values())));
        }
        return layers;
    }

    /** A model's configuration with another vocabulary, width of the decoder, and a single layer. */
    public static Blueprint model(Path config, int vocabulary, int hidden) throws IOException {
        ObjectNode json = (ObjectNode) JSON.readTree(config.toFile());
        ((ObjectNode) json.path("llm_config")).put("vocab_size", vocabulary).put("hidden_size", hidden).put("num_hidden_layers", 1);
        return Families.read(json);
    }

    /**
     * How far apart two float32 computations of the formula may lie, each off by at most half of it. Each term of a sum of r products takes
     * part in at most r + 1 roundings: of the product, of r - 1 sums, of scale times that. Adding W rounds once more. With magnitudes the
     * row's length is off, relative to itself, by what the row's numbers are off together and by its own roundings, n / 2 + 1 where n
     * squares are summed; division and product add two.
     */
    private static double[] tolerance(PeftFolder.Tensor w, PeftFolder.Tensor a, PeftFolder.Tensor b, double scale, float[] m) {
        double[] v = PeftFolder.merge(w, a, b, scale, null);
        int in = w.columns();
        double[] off = new double[v.length];
        for (int o = 0; o < w.rows(); o++) {
            double length = 0;
            double offTogether = 0;
            for (int i = 0; i < in; i++) {
                double magnitudes = 0;
                for (int r = 0; r < a.rows(); r++) {
                    magnitudes += Math.abs((double) b.values()[o * a.rows() + r] * a.values()[r * in + i]);
                }
                int at = o * in + i;
                off[at] = UNIT * ((a.rows() + 1) * Math.abs(scale) * magnitudes + Math.abs(v[at]));
                length += v[at] * v[at];
                offTogether += off[at] * off[at];
            }
            length = Math.sqrt(length);
            for (int i = 0; m != null && i < in; i++) {
                int at = o * in + i;
                off[at] = Math.abs(m[o]) / length
                        * (off[at] + Math.abs(v[at]) * (Math.sqrt(offTogether) / length + UNIT * (in / 2.0 + 3)));
            }
        }
        for (int i = 0; i < off.length; i++) {
            off[i] *= 2;
        }
        return off;
    }
}
