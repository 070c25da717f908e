package dev.jvlm.model;

import java.nio.file.Path;
import java.util.List;
import tools.jackson.databind.JsonNode;

/**
 * What a {@code config.json} alone says of a model, without its weights.
 *
 * @param family the family's name, for people
 * @param weights every tensor that a checkpoint must hold
 * @param ocrQuestion what to ask for the text of a picture
 * @param notes what a user should know: keys not used, code not run
 * @param imageToken the id that the configuration gives to the template's row token, or {@link #UNNAMED}
 */
public record Blueprint(String family, ModelSpec spec, List<Weight> weights, Tiling tiling, ChatTemplate template, String ocrQuestion,
        List<String> notes, int imageToken) {

    /** The configuration leaves the token's id to the tokenizer. */
    public static final int UNNAMED = -1;

    private static final String PREPROCESSOR = "preprocessor_config.json";

    public Blueprint {
        weights = List.copyOf(weights);
        notes = List.copyOf(notes);
    }

    /**
     * Reads a configuration file, and {@code preprocessor_config.json} if there is one beside it; nothing else need be there.
     *
     * @throws dev.jvlm.error.JvlmException MODEL_FORMAT naming field, value and allowed range; MODEL_UNSUPPORTED naming what is not
     *     implemented
     */
    public static Blueprint read(Path configFile) {
        Path absolute = configFile.toAbsolutePath();
        return read(ModelFolder.open(absolute.getParent()), absolute.getFileName().toString());
    }

    static Blueprint read(ModelFolder folder, String configName) {
        JsonNode config = folder.json(configName);
        return folder.has(PREPROCESSOR) ? Families.read(config, folder.json(PREPROCESSOR)) : Families.read(config);
    }

    /** The same model where it was not trained to chat. */
    Blueprint completing() {
        return new Blueprint(family, spec, weights, tiling, template.completing(), ocrQuestion, notes, imageToken);
    }

    /** The same model with a decoder of no layers: what a benchmark of the tower needs. */
    public Blueprint withoutDecoderLayers() {
        List<Weight> rest = weights.stream().filter(w -> !w.target().matches("decoder\\.\\d+\\..*")).toList();
        ModelSpec.Decoder d = spec.decoder();
        ModelSpec.Decoder none = new ModelSpec.Decoder(d.hidden(), d.heads(), d.kvHeads(), d.headSize(), d.mlp(), 0, d.vocabulary(), d.eps(),
                d.ropeTheta(), d.rope(), d.window(), d.context(), d.activation());
        return new Blueprint(family, new ModelSpec(spec.vision(), spec.connector(), none), rest, tiling, template, ocrQuestion, notes, imageToken);
    }

    /** How many numbers the weights are. */
    public long parameters() {
        return weights.stream().mapToLong(w -> w.rows() * w.columns()).sum();
    }
}
