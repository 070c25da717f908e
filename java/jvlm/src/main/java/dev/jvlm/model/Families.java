package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import java.util.List;
import java.util.stream.Collectors;
import tools.jackson.databind.JsonNode;

/** The families that this version knows. */
final class Families {

    private static final List<ModelFamily> ALL = List.of(new H2ovl(), new InternVl());

    private Families() {}

    static Blueprint read(JsonNode configJson) {
        Config config = Config.of(configJson);
        for (ModelFamily family : ALL) {
            if (family.accepts(config)) {
                return family.read(config);
            }
        }
        throw config.unsupported("model_type", ALL.stream().map(ModelFamily::name).collect(Collectors.joining(", ")));
    }
}
