package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import java.util.List;
import java.util.stream.Collectors;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.MissingNode;

/** The families that this version knows. */
final class Families {

    private static final List<ModelFamily> ALL = List.of(new H2ovl(), new InternVl(), new Idefics2());

    private Families() {}

    /** What a configuration alone says. */
    static Blueprint read(JsonNode configJson) {
        return read(configJson, MissingNode.getInstance());
    }

    /** @param preprocessorJson the content of preprocessor_config.json, or a missing node */
    static Blueprint read(JsonNode configJson, JsonNode preprocessorJson) {
        Config config = Config.of(configJson, preprocessorJson);
        for (ModelFamily family : ALL) {
            if (family.accepts(config)) {
                return family.read(config);
            }
        }
        throw config.unsupported("model_type", ALL.stream().map(ModelFamily::name).collect(Collectors.joining(", ")));
    }
}
