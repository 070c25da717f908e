package dev.jvlm.suite;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/**
 * The recorded activations of a family's case 0: chosen rows of the first batch entries of each tensor, and sums over all of it.
 *
 * @param shape batch, rows, width of the whole tensor
 * @param rows which rows are stored
 * @param stored first batch entries, rows, width
 */
record Activations(int[] shape, int[] rows, int batch, double sum, double abs, double l2, float[] stored) {

    static Map<String, Activations> read(Path family) throws IOException {
        ObjectMapper json = new ObjectMapper();
        JsonNode described = json.readTree(family.resolve("activations.json").toFile());
        ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(family.resolve("activations.safetensors"))).order(ByteOrder.LITTLE_ENDIAN);
        byte[] header = new byte[Math.toIntExact(file.getLong())];
        file.get(header);
        int data = file.position();
        JsonNode tensors = json.readTree(new String(header, StandardCharsets.UTF_8));
        Map<String, Activations> all = new LinkedHashMap<>();
        for (Map.Entry<String, JsonNode> e : described.properties()) {
            JsonNode d = e.getValue();
            JsonNode tensor = tensors.path(e.getKey());
            if (!tensor.path("dtype").asString("").equals("F32")) {
                throw new IOException("activations.safetensors lacks " + e.getKey() + " in F32");
            }
            int[] shape = GoldenCase.ints(d.path("shape"));
            int[] rows = GoldenCase.ints(d.path("rows"));
            float[] stored = new float[d.path("batch").asInt() * rows.length * shape[2]];
            file.slice(data + tensor.path("data_offsets").get(0).asInt(), 4 * stored.length)
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .asFloatBuffer()
                    .get(stored);
            all.put(e.getKey(), new Activations(shape, rows, d.path("batch").asInt(), d.path("sum").asDouble(), d.path("abs").asDouble(),
                    d.path("l2").asDouble(), stored));
        }
        return all;
    }

    /** The stored rows out of a whole tensor. */
    float[] pick(float[] whole) {
        float[] picked = new float[stored.length];
        int width = shape[2];
        for (int b = 0; b < batch; b++) {
            for (int r = 0; r < rows.length; r++) {
                System.arraycopy(whole, (b * shape[1] + rows[r]) * width, picked, (b * rows.length + r) * width, width);
            }
        }
        return picked;
    }

    String place(int i) {
        return "[" + i / shape[2] / rows.length + ", " + rows[i / shape[2] % rows.length] + ", " + i % shape[2] + "]";
    }
}
