package dev.jvlm.model;

import java.nio.file.Path;
import java.util.List;

/**
 * What a {@code config.json} alone says of a model, without its weights.
 *
 * @param family the family's name, for people
 * @param weights every tensor that a checkpoint must hold
 * @param ocrQuestion what to ask for the text of a picture
 * @param notes what a user should know: keys not used, code not run
 */
public record Blueprint(String family, ModelSpec spec, List<Weight> weights, Tiling tiling, ChatTemplate template, String ocrQuestion,
        List<String> notes) {

    public Blueprint {
        weights = List.copyOf(weights);
        notes = List.copyOf(notes);
    }

    /**
     * Reads a configuration file; nothing else need be there.
     *
     * @throws dev.jvlm.error.JvlmException MODEL_FORMAT naming field, value and allowed range; MODEL_UNSUPPORTED naming what is not
     *     implemented
     */
    public static Blueprint read(Path configFile) {
        Path absolute = configFile.toAbsolutePath();
        return Families.read(ModelFolder.open(absolute.getParent()).json(absolute.getFileName().toString()));
    }

    /** How many numbers the weights are. */
    public long parameters() {
        return weights.stream().mapToLong(w -> w.rows() * w.columns()).sum();
    }
}
