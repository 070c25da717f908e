package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.json.JsonMapper;

/** A model folder: its files by plain name. Names and links that lead out of it are refused. */
final class ModelFolder {

    /** Far above any published configuration, index or tokenizer; keeps a wrong file from filling the heap. */
    private static final long MOST_BYTES = 64L << 20;

    private static final ObjectMapper JSON =
            JsonMapper.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build();

    private final Path folder;

    private ModelFolder(Path folder) {
        this.folder = folder;
    }

    static ModelFolder open(Path folder) {
        if (!Files.isDirectory(folder)) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT,
                    "The model is no folder; give the folder that holds config.json, the tokenizer and the safetensors files");
        }
        try {
            return new ModelFolder(folder.toRealPath());
        } catch (IOException e) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, "The model folder cannot be read; check its permissions", e);
        }
    }

    /** The folder itself, links resolved. */
    Path path() {
        return folder;
    }

    /** Whether there is a file of this plain name. */
    boolean has(String name) {
        return Files.exists(folder.resolve(name));
    }

    /**
     * The file of a plain name, links resolved.
     *
     * @throws JvlmException MODEL_FORMAT if there is none, or if the name or a link leads out of the folder
     */
    Path file(String name) {
        Path path = folder.resolve(plain(name));
        if (!Files.exists(path)) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT,
                    "The model folder lacks the file " + Quote.of(name) + "; copy it from where the model was published");
        }
        Path real;
        try {
            real = path.toRealPath();
        } catch (IOException e) {
            throw unreadable(name, e);
        }
        if (!real.startsWith(folder) && !isBlobOfThisSnapshot(real)) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT,
                    Quote.of(name) + " is a link that leads out of the model folder; put the file itself there");
        }
        if (!Files.isRegularFile(real)) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, Quote.of(name) + " is no regular file");
        }
        return real;
    }

    /** Hugging Face's download cache keeps a model as snapshots/REVISION/NAME, a link to blobs/DIGEST of the same model. */
    private boolean isBlobOfThisSnapshot(Path real) {
        Path snapshots = folder.getParent();
        return snapshots != null
                && snapshots.endsWith("snapshots")
                && snapshots.resolveSibling("blobs").equals(real.getParent());
    }

    private static String plain(String name) {
        boolean plain;
        try {
            plain = !name.contains("/")
                    && !name.contains("\\")
                    && !name.equals(".")
                    && !name.equals("..")
                    && Path.of(name).getNameCount() == 1
                    && !Path.of(name).toString().isEmpty()
                    && !Path.of(name).isAbsolute();
        } catch (InvalidPathException e) {
            plain = false;
        }
        if (!plain) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT,
                    "The model names the file " + Quote.of(name) + ", which is no plain name of a file in its folder");
        }
        return name;
    }

    /** As {@link #file}, for a file that is read whole: one of a size that no published one comes near is refused. */
    Path smallFile(String name) {
        Path file = file(name);
        try {
            if (Files.size(file) > MOST_BYTES) {
                throw new JvlmException(
                        JvlmException.Code.MODEL_FORMAT,
                        Quote.of(name) + " has " + Files.size(file) + " bytes, more than the " + MOST_BYTES + " allowed");
            }
            return file;
        } catch (IOException e) {
            throw unreadable(name, e);
        }
    }

    byte[] bytes(String name) {
        try {
            return Files.readAllBytes(smallFile(name));
        } catch (IOException e) {
            throw unreadable(name, e);
        }
    }

    /** A file that holds one JSON object. */
    JsonNode json(String name) {
        JsonNode node;
        try {
            node = JSON.readTree(bytes(name));
        } catch (JacksonException e) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT,
                    name + " is no valid JSON" + (e.getLocation() == null ? "" : " (line " + e.getLocation().getLineNr() + ")")
                            + "; copy it again from where the model was published",
                    e);
        }
        if (!node.isObject()) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, name + " holds no JSON object");
        }
        return node;
    }

    private static JvlmException unreadable(String name, IOException cause) {
        return new JvlmException(
                JvlmException.Code.MODEL_FORMAT, Quote.of(name) + " cannot be read; check its permissions", cause);
    }
}
