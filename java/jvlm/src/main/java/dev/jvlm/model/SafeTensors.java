package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/**
 * Where the tensors of a checkpoint lie: the headers of its safetensors files, fully checked. No weights are read.
 *
 * <p>A file is an 8-byte little-endian header length, the header (a JSON object: name to dtype, shape, data_offsets) and the data.
 */
final class SafeTensors {

    private static final String SINGLE = "model.safetensors";
    private static final String INDEX = "model.safetensors.index.json";

    /** The format's own limit. */
    private static final long MOST_HEADER_BYTES = 100_000_000;

    private static final int MOST_DIMENSIONS = 8;

    private static final int SAMPLES = 64;
    private static final int SAMPLE_BYTES = 4096;

    private static final Map<String, Integer> ELEMENT_BYTES = Map.ofEntries(
            Map.entry("F64", 8), Map.entry("I64", 8), Map.entry("U64", 8),
            Map.entry("F32", 4), Map.entry("I32", 4), Map.entry("U32", 4),
            Map.entry("F16", 2), Map.entry("BF16", 2), Map.entry("I16", 2), Map.entry("U16", 2),
            Map.entry("I8", 1), Map.entry("U8", 1), Map.entry("BOOL", 1), Map.entry("F8_E4M3", 1), Map.entry("F8_E5M2", 1));

    private static final ObjectMapper JSON = new ObjectMapper();

    /**
     * A tensor in a file.
     *
     * @param offset where its bytes start, from the start of the file
     */
    record Tensor(String name, String dtype, List<Long> shape, Path file, long offset, long bytes) {}

    private final Map<String, Tensor> tensors = new LinkedHashMap<>();
    /** Each file's name, size, header and samples of its data: what tells two checkpoints apart without reading all their weights. */
    private final List<byte[]> identity = new ArrayList<>();

    private SafeTensors() {}

    /**
     * Reads {@code model.safetensors}, or else the files that {@code model.safetensors.index.json} names.
     *
     * @throws JvlmException MODEL_FORMAT naming the file and the tensor, MODEL_UNSUPPORTED if there are only pickled weights
     */
    static SafeTensors read(ModelFolder folder) {
        SafeTensors result = new SafeTensors();
        if (folder.has(SINGLE)) {
            result.readFile(folder, SINGLE);
        } else if (folder.has(INDEX)) {
            result.readShards(folder);
        } else if (folder.has("pytorch_model.bin") || folder.has("pytorch_model.bin.index.json")) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_UNSUPPORTED,
                    "The model folder holds its weights as pytorch_model.bin only: a pickle, which can run code when it is read. "
                            + "Convert it to safetensors where you trust it (load the model with transformers and call "
                            + "save_pretrained with safe_serialization=True)");
        } else {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT,
                    "The model folder holds no weights: neither " + SINGLE + " nor " + INDEX + "; download the model completely");
        }
        return result;
    }

    /** Reads one file, as {@link #read(ModelFolder)}. */
    static SafeTensors read(ModelFolder folder, String file) {
        SafeTensors result = new SafeTensors();
        result.readFile(folder, file);
        return result;
    }

    Collection<Tensor> tensors() {
        return tensors.values();
    }

    /** The tensor of this name, or null. */
    Tensor get(String name) {
        return tensors.get(name);
    }

    List<byte[]> identity() {
        return identity;
    }

    private void readShards(ModelFolder folder) {
        JsonNode map = folder.json(INDEX).path("weight_map");
        if (!map.isObject() || map.isEmpty()) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, INDEX + " has no weight_map");
        }
        TreeSet<String> files = new TreeSet<>();
        map.properties().forEach(e -> {
            if (!e.getValue().isString()) {
                throw new JvlmException(
                        JvlmException.Code.MODEL_FORMAT, INDEX + " names no file for the tensor " + Quote.of(e.getKey()));
            }
            files.add(e.getValue().asString());
        });
        files.forEach(file -> readFile(folder, file));
        map.properties().forEach(e -> {
            Tensor tensor = tensors.get(e.getKey());
            if (tensor == null) {
                throw new JvlmException(
                        JvlmException.Code.MODEL_FORMAT,
                        INDEX + " places the tensor " + Quote.of(e.getKey()) + " in " + Quote.of(e.getValue().asString())
                                + ", which does not hold it");
            }
        });
    }

    private void readFile(ModelFolder folder, String name) {
        Path file = folder.file(name);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            long size = channel.size();
            byte[] start = read(channel, 0, (int) Math.min(size, 8));
            if (new String(start, StandardCharsets.ISO_8859_1).equals("version ")) {
                throw damaged(name, "is a Git LFS pointer, not the weights; fetch them with 'git lfs pull'");
            }
            if (size < 8) {
                throw damaged(name, "is cut short: it has " + size + " bytes");
            }
            long length = ByteBuffer.wrap(start).order(ByteOrder.LITTLE_ENDIAN).getLong();
            // Negative: beyond 2^63 as the unsigned number that it is.
            if (length < 0 || length > MOST_HEADER_BYTES) {
                throw damaged(
                        name,
                        "announces a header of " + Long.toUnsignedString(length) + " bytes; at most " + MOST_HEADER_BYTES
                                + " are allowed");
            }
            if (length > size - 8) {
                throw damaged(name, "is cut short: its header has " + length + " bytes, the file " + size);
            }
            byte[] header = read(channel, 8, (int) length);
            new Header(name, file, 8 + length, size).parse(header);
            identity.add((name + ' ' + size).getBytes(StandardCharsets.UTF_8));
            identity.add(header);
            for (int i = 0; i < SAMPLES; i++) {
                long at = 8 + length + (size - 8 - length) / SAMPLES * i;
                identity.add(read(channel, at, (int) Math.min(SAMPLE_BYTES, size - at)));
            }
        } catch (IOException e) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT, Quote.of(name) + " cannot be read; check the disk and its permissions", e);
        }
    }

    private static byte[] read(FileChannel channel, long at, int count) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(count);
        while (bytes.hasRemaining()) {
            if (channel.read(bytes, at + bytes.position()) < 0) {
                throw new EOFException();
            }
        }
        return bytes.array();
    }

    private static JvlmException damaged(String file, String what) {
        return damaged(file, what, null);
    }

    private static JvlmException damaged(String file, String what, Exception cause) {
        return new JvlmException(JvlmException.Code.MODEL_FORMAT, Quote.of(file) + " " + what, cause);
    }

    /** The header of one file. */
    private final class Header {

        private final String fileName;
        private final Path file;
        private final long dataStart;
        private final long dataBytes;
        private final List<Tensor> here = new ArrayList<>();

        Header(String fileName, Path file, long dataStart, long fileBytes) {
            this.fileName = fileName;
            this.file = file;
            this.dataStart = dataStart;
            this.dataBytes = fileBytes - dataStart;
        }

        void parse(byte[] header) {
            try (JsonParser in = JSON.createParser(header)) {
                if (in.nextToken() != JsonToken.START_OBJECT) {
                    throw noHeader(null);
                }
                while (in.nextToken() == JsonToken.PROPERTY_NAME) {
                    String name = in.currentName();
                    in.nextToken();
                    if (name.equals("__metadata__")) {
                        in.skipChildren();
                    } else {
                        Tensor tensor = tensor(name, in);
                        here.add(tensor);
                        if (tensors.put(name, tensor) != null) {
                            throw wrong(name, "occurs twice");
                        }
                    }
                }
                if (in.nextToken() != null) {
                    throw noHeader(null);
                }
            } catch (JacksonException e) {
                throw noHeader(e);
            }
            checkThatTheyFillTheData();
        }

        private JvlmException noHeader(JacksonException cause) {
            return damaged(fileName, "is no safetensors file: its header is no JSON object of tensors", cause);
        }

        private JvlmException wrong(String tensor, String what) {
            return damaged(fileName, "is damaged: the tensor " + Quote.of(tensor) + " " + what + "; download the file again");
        }

        private Tensor tensor(String name, JsonParser in) {
            if (in.currentToken() != JsonToken.START_OBJECT) {
                throw wrong(name, "has no description");
            }
            String dtype = null;
            List<Long> shape = null;
            List<Long> offsets = null;
            while (in.nextToken() == JsonToken.PROPERTY_NAME) {
                String key = in.currentName();
                in.nextToken();
                switch (key) {
                    case "dtype" -> {
                        once(name, key, dtype);
                        dtype = in.currentToken() == JsonToken.VALUE_STRING ? in.getString() : "";
                    }
                    case "shape" -> {
                        once(name, key, shape);
                        shape = numbers(name, in);
                    }
                    case "data_offsets" -> {
                        once(name, key, offsets);
                        offsets = numbers(name, in);
                    }
                    default -> throw wrong(name, "has the unknown property " + Quote.of(key));
                }
            }
            if (dtype == null || shape == null || offsets == null || offsets.size() != 2) {
                throw wrong(name, "lacks one of dtype, shape and two data_offsets");
            }
            Integer elementBytes = ELEMENT_BYTES.get(dtype);
            if (elementBytes == null) {
                throw wrong(name, "has the unknown dtype " + Quote.of(dtype));
            }
            long bytes = bytes(name, shape, elementBytes);
            long begin = offsets.get(0);
            long end = offsets.get(1);
            if (begin > end) {
                throw wrong(name, "ends at byte " + end + ", before it begins at " + begin);
            }
            if (end > dataBytes) {
                throw wrong(name, "ends at byte " + end + " of the data, which has " + dataBytes + ": the file is cut short");
            }
            if (end - begin != bytes) {
                throw wrong(name, "has " + (end - begin) + " bytes, but " + dtype + " of shape " + shape + " takes " + bytes);
            }
            return new Tensor(name, dtype, shape, file, dataStart + begin, bytes);
        }

        private void once(String tensor, String key, Object earlier) {
            if (earlier != null) {
                throw wrong(tensor, "has " + key + " twice");
            }
        }

        private List<Long> numbers(String name, JsonParser in) {
            if (in.currentToken() != JsonToken.START_ARRAY) {
                throw wrong(name, "has a shape or offsets that are no list");
            }
            long[] numbers = new long[MOST_DIMENSIONS];
            int count = 0;
            while (in.nextToken() != JsonToken.END_ARRAY) {
                boolean whole = in.currentToken() == JsonToken.VALUE_NUMBER_INT
                        && in.getNumberType() != JsonParser.NumberType.BIG_INTEGER;
                if (!whole || in.getLongValue() < 0 || count == MOST_DIMENSIONS) {
                    throw wrong(name, "has a shape or offsets that are not at most " + MOST_DIMENSIONS + " whole numbers below 2^63");
                }
                numbers[count++] = in.getLongValue();
            }
            return Arrays.stream(numbers, 0, count).boxed().toList();
        }

        private long bytes(String name, List<Long> shape, int elementBytes) {
            try {
                long product = elementBytes;
                for (long dimension : shape) {
                    product = Math.multiplyExact(product, dimension);
                }
                return product;
            } catch (ArithmeticException e) {
                throw wrong(name, "has the impossible shape " + shape);
            }
        }

        private void checkThatTheyFillTheData() {
            here.sort(Comparator.comparingLong(Tensor::offset).thenComparingLong(Tensor::bytes));
            long next = dataStart;
            for (Tensor tensor : here) {
                if (tensor.offset < next) {
                    throw wrong(tensor.name, "overlaps the one before it by " + (next - tensor.offset) + " bytes");
                }
                if (tensor.offset > next) {
                    throw wrong(tensor.name, "begins after a gap of " + (tensor.offset - next) + " bytes");
                }
                next += tensor.bytes;
            }
            if (next != dataStart + dataBytes) {
                throw damaged(
                        fileName,
                        "is damaged: " + (dataStart + dataBytes - next) + " bytes after its last tensor belong to none; "
                                + "download the file again");
            }
        }
    }
}
