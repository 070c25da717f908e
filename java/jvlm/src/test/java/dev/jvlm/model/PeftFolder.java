package dev.jvlm.model;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.stream.Stream;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ObjectNode;

/** Adapters for tests: written as PEFT writes them, and merged by the formula, in double. */
public final class PeftFolder {

    private static final ObjectMapper JSON = new ObjectMapper();

    /** A tensor of a safetensors file. */
    public record Tensor(String dtype, List<Long> shape, float[] values) {
        int rows() {
            return Math.toIntExact(shape.get(0));
        }

        int columns() {
            return values.length / rows();
        }
    }

    /** adapter_config.json. */
    public final ObjectNode config = JSON.createObjectNode();

    /** adapter_model.safetensors. */
    public final Map<String, Tensor> tensors = new TreeMap<>();

    /** The base weights, by name. */
    private final Map<String, Tensor> base;

    private PeftFolder(Map<String, Tensor> base) {
        this.base = base;
    }

    /**
     * A seeded adapter for all linear layers of a checkpoint. A and B are small multiples of 1/64, so that W + scale * B * A
     * is exact in float32 where W's numbers have few digits; scale is 2. Magnitudes are the base's lengths times 0.75 to 1.25.
     *
     * @param checkpoint its folder
     * @param targets {@code target_modules}: the layers' names, or the last parts of them
     */
    public static PeftFolder on(Path checkpoint, List<String> targets, boolean dora, long seed) throws IOException {
        PeftFolder adapter = new PeftFolder(values(SafeTensors.read(ModelFolder.open(checkpoint))));
        int rank = 4;
        adapter.config.put("peft_type", "LORA").put("r", rank).put("lora_alpha", 2 * rank).put("bias", "none").put("use_dora", dora)
                .put("use_rslora", false).put("base_model_name_or_path", "some/base").put("init_lora_weights", true)
                .put("inference_mode", true).put("lora_dropout", 0.05).putNull("modules_to_save");
        adapter.config.set("target_modules", JSON.valueToTree(targets));
        Random random = new Random(seed);
        adapter.base.forEach((name, w) -> {
            String module = name.replaceAll("\\.weight$", "");
            if (targets.stream().noneMatch(target -> module.endsWith("." + target) || module.equals(target))) {
                return;
            }
            String to = "base_model.model." + module;
            // Each dtype once, as far as they go: all these numbers are exact in any.
            adapter.tensors.put(to + ".lora_A.weight", dyadic("BF16", rank, w.columns(), random));
            adapter.tensors.put(to + ".lora_B.weight", dyadic("F16", w.rows(), rank, random));
            if (dora) {
                float[] magnitude = new float[w.rows()];
                for (int o = 0; o < magnitude.length; o++) {
                    double squares = 0;
                    for (int i = 0; i < w.columns(); i++) {
                        squares += Math.pow(w.values[o * w.columns() + i], 2);
                    }
                    magnitude[o] = (float) (Math.sqrt(squares) * (0.75 + 0.5 * random.nextDouble()));
                }
                adapter.tensors.put(to + ".lora_magnitude_vector", new Tensor("F32", List.of((long) w.rows()), magnitude));
            }
        });
        return adapter;
    }

    /** The names of all linear layers that a model has. */
    public static List<String> linear(Checkpoint checkpoint) {
        return checkpoint.blueprint().weights().stream()
                .filter(w -> w.shape().size() == 2 && w.name().endsWith(".weight") && !w.name().contains("embed"))
                .map(w -> w.name().replaceAll("\\.weight$", ""))
                .distinct()
                .toList();
    }

    private static Tensor dyadic(String dtype, long rows, long columns, Random random) {
        float[] values = new float[Math.toIntExact(rows * columns)];
        for (int i = 0; i < values.length; i++) {
            values[i] = (random.nextInt(7) - 3) / 64f;
        }
        return new Tensor(dtype, List.of(rows, columns), values);
    }

    /** Writes the two files of the adapter. */
    public Path write(Path folder) throws IOException {
        Files.createDirectories(folder);
        Files.write(folder.resolve("adapter_config.json"), JSON.writeValueAsBytes(config));
        write(folder.resolve("adapter_model.safetensors"), tensors);
        return folder;
    }

    /** Copies the checkpoint with the adapter merged into its weights, all of them in float32. */
    public Path merge(Path checkpoint, Path folder) throws IOException {
        Map<String, Tensor> all = new LinkedHashMap<>();
        double scale = config.path("lora_alpha").asDouble() / config.path("r").asInt();
        base.forEach((name, w) -> {
            String module = "base_model.model." + name.replaceAll("\\.weight$", "");
            Tensor a = tensors.get(module + ".lora_A.weight");
            float[] values = w.values;
            if (a != null) {
                Tensor m = tensors.get(module + ".lora_magnitude_vector");
                double[] merged = merge(w, a, tensors.get(module + ".lora_B.weight"), scale, m == null ? null : m.values);
                values = new float[merged.length];
                for (int i = 0; i < merged.length; i++) {
                    values[i] = (float) merged[i];
                }
            }
            all.put(name, new Tensor("F32", w.shape, values));
        });
        Files.createDirectories(folder);
        try (Stream<Path> files = Files.list(checkpoint)) {
            for (Path file : files.filter(f -> !f.toString().contains(".safetensors")).toList()) {
                Files.copy(file, folder.resolve(file.getFileName()));
            }
        }
        write(folder.resolve("model.safetensors"), all);
        return folder;
    }

    /** W + scale * B * A; with magnitudes, row o of that times m[o] over its length. */
    static double[] merge(Tensor w, Tensor a, Tensor b, double scale, float[] m) {
        int in = w.columns();
        double[] v = new double[w.values.length];
        for (int o = 0; o < w.rows(); o++) {
            double squares = 0;
            for (int i = 0; i < in; i++) {
                double sum = 0;
                for (int r = 0; r < a.rows(); r++) {
                    sum += (double) b.values[o * a.rows() + r] * a.values[r * in + i];
                }
                v[o * in + i] = w.values[o * in + i] + scale * sum;
                squares += v[o * in + i] * v[o * in + i];
            }
            for (int i = 0; m != null && i < in; i++) {
                v[o * in + i] *= m[o] / Math.sqrt(squares);
            }
        }
        return v;
    }

    /** The tensors of a file of F32 and BF16. */
    static Map<String, Tensor> read(Path folder, String file) throws IOException {
        return values(SafeTensors.read(ModelFolder.open(folder), file));
    }

    private static Map<String, Tensor> values(SafeTensors tensors) throws IOException {
        Map<String, Tensor> all = new LinkedHashMap<>();
        for (SafeTensors.Tensor t : tensors.tensors()) {
            ByteBuffer bytes = ByteBuffer.allocate(Math.toIntExact(t.bytes())).order(ByteOrder.LITTLE_ENDIAN);
            try (FileChannel in = FileChannel.open(t.file())) {
                while (bytes.hasRemaining() && in.read(bytes, t.offset() + bytes.position()) >= 0) {}
            }
            bytes.flip();
            float[] values = new float[bytes.remaining() / (t.dtype().equals("F32") ? 4 : 2)];
            for (int i = 0; i < values.length; i++) {
                values[i] = t.dtype().equals("F32") ? bytes.getFloat() : Float.intBitsToFloat(bytes.getShort() << 16);
            }
            all.put(t.name(), new Tensor(t.dtype(), t.shape(), values));
        }
        return all;
    }

    private static void write(Path file, Map<String, Tensor> tensors) throws IOException {
        Map<String, Object> header = new LinkedHashMap<>();
        long end = 0;
        for (Map.Entry<String, Tensor> e : tensors.entrySet()) {
            Tensor t = e.getValue();
            long bytes = t.values.length * (t.dtype.equals("F32") ? 4L : 2);
            header.put(e.getKey(), Map.of("dtype", t.dtype, "shape", t.shape, "data_offsets", List.of(end, end + bytes)));
            end += bytes;
        }
        byte[] json = JSON.writeValueAsString(header).getBytes(StandardCharsets.UTF_8);
        ByteBuffer out = ByteBuffer.allocate(Math.toIntExact(8 + json.length + end)).order(ByteOrder.LITTLE_ENDIAN);
        out.putLong(json.length).put(json);
        for (Tensor t : tensors.values()) {
            for (float x : t.values) {
                switch (t.dtype) {
                    case "F32" -> out.putFloat(x);
                    case "BF16" -> out.putShort((short) (Float.floatToRawIntBits(x) >>> 16));
                    default -> out.putShort(half(x));
                }
            }
        }
        Files.write(file, out.array());
    }

    /** For numbers that float16 has exactly, as normal ones. */
    private static short half(float x) {
        int bits = Float.floatToRawIntBits(x);
        int exponent = (bits >>> 23 & 255) - 127 + 15;
        return (short) (x == 0 ? 0 : bits >>> 16 & 0x8000 | exponent << 10 | bits >>> 13 & 1023);
    }
}
