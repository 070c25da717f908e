package dev.jvlm.model;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** Builds the checkpoints of the goldens from their recipe, {@code weights.json} (weights/tiny/README.md), and proves them by digest. */
public final class SeededWeights {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long GAMMA = 0x9E3779B97F4A7C15L;

    private SeededWeights() {}

    /**
     * Builds the folder that a user would open.
     *
     * @param golden a family's folder: weights.json and checkpoint/
     * @param target is made if need be; its files are replaced
     * @return {@code target}
     */
    public static Path build(Path golden, Path target) {
        try {
            Files.createDirectories(target);
            try (Stream<Path> files = Files.list(golden.resolve("checkpoint"))) {
                for (Path file : files.toList()) {
                    Files.copy(file, target.resolve(file.getFileName()), StandardCopyOption.REPLACE_EXISTING);
                }
            }
            JsonNode recipe = JSON.readTree(golden.resolve("weights.json").toFile());
            for (Map.Entry<String, JsonNode> file : recipe.path("files").properties()) {
                // Under another name first: whoever looks meanwhile sees a whole file or none.
                Path unfinished = Files.createTempFile(target, "weights", ".tmp");
                Files.write(unfinished, file(recipe, file.getValue()));
                Files.move(unfinished, target.resolve(file.getKey()), StandardCopyOption.ATOMIC_MOVE);
            }
            return target;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** The bytes of one safetensors file. */
    private static byte[] file(JsonNode recipe, JsonNode tensors) {
        String dtype = recipe.path("dtype").asString();
        Map<String, Object> header = new LinkedHashMap<>();
        List<byte[]> data = new ArrayList<>();
        int end = 0;
        for (Map.Entry<String, JsonNode> e : tensors.properties()) {
            byte[] bytes = tensor(e.getKey(), e.getValue(), recipe.path("seed").asLong(), dtype);
            String digest = HexFormat.of().formatHex(sha256(bytes));
            if (!digest.equals(e.getValue().path("sha256").asString())) {
                throw new IllegalStateException(e.getKey() + " has the digest " + digest);
            }
            header.put(
                    e.getKey(),
                    Map.of("dtype", dtype, "shape", e.getValue().path("shape"), "data_offsets", List.of(end, end + bytes.length)));
            data.add(bytes);
            end += bytes.length;
        }
        byte[] json = JSON.writeValueAsString(header).getBytes(StandardCharsets.UTF_8);
        ByteBuffer file = ByteBuffer.allocate(8 + json.length + end).order(ByteOrder.LITTLE_ENDIAN);
        file.putLong(json.length).put(json);
        data.forEach(file::put);
        return file.array();
    }

    private static byte[] tensor(String name, JsonNode recipe, long seed, String dtype) {
        int count = 1;
        for (JsonNode dimension : recipe.path("shape")) {
            count *= dimension.asInt();
        }
        double step = Math.scalb(1.0, -recipe.path("exponent").asInt());
        int shift = recipe.path("shift").asInt();
        double offset = recipe.path("offset").asDouble();
        boolean bf16 = dtype.equals("BF16");
        long key = fnv1a(name) ^ seed * GAMMA;
        ByteBuffer out = ByteBuffer.allocate(count * (bf16 ? 2 : 4)).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < count; i++) {
            int b = (byte) (splitMix(key + (i + 1L) * GAMMA) >>> 56);
            float value = (float) (shift == 0 ? (2 * b + 1) * step : offset + (b >> shift) * step);
            if (bf16) {
                out.putShort((short) (Float.floatToRawIntBits(value) >>> 16));
            } else {
                out.putFloat(value);
            }
        }
        return out.array();
    }

    private static long splitMix(long x) {
        x = (x ^ x >>> 30) * 0xBF58476D1CE4E5B9L;
        x = (x ^ x >>> 27) * 0x94D049BB133111EBL;
        return x ^ x >>> 31;
    }

    private static long fnv1a(String name) {
        long hash = 0xCBF29CE484222325L;
        for (byte b : name.getBytes(StandardCharsets.UTF_8)) {
            hash = (hash ^ b & 0xFF) * 0x100000001B3L;
        }
        return hash;
    }

    static byte[] sha256(byte[] bytes) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(bytes);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
