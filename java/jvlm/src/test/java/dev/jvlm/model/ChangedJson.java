package dev.jvlm.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import dev.jvlm.error.JvlmException;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ObjectNode;

/** A JSON object in which one key has another value. */
final class ChangedJson {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final List<String> VALUES = List.of("null", "0", "-1", "1", "7", "1e99", "0.5", "true", "false", "''", "'x'", "[]", "{}", "[null]",
            "2147483647", "9223372036854775807", "99999999999999999999");

    private ChangedJson() {}

    /** The object with one key, at any depth, replaced by a JSON value; "missing" takes it away. */
    static JsonNode with(JsonNode object, String key, String value) {
        JsonNode root = object.deepCopy();
        JsonNode section = root;
        String[] path = key.split("\\.");
        for (int i = 0; i < path.length - 1; i++) {
            section = section.path(path[i]);
        }
        String name = path[path.length - 1];
        if (value.equals("missing")) {
            ((ObjectNode) section).remove(name);
        } else {
            ((ObjectNode) section).set(name, JSON.readTree(value.replace('\'', '"')));
        }
        return root;
    }

    /** Reads the object with any value of any key, one at a time: each is read or refused with our exception. Returns how many are refused. */
    static int refused(JsonNode object, Consumer<JsonNode> read) {
        List<String> keys = new ArrayList<>();
        collect("", object, keys);
        int refused = 0;
        for (String key : keys) {
            for (String value : VALUES) {
                Throwable thrown = catchThrowable(() -> read.accept(with(object, key, value)));
                if (thrown != null) {
                    refused++;
                    assertThat(thrown).as(key + " = " + value).isInstanceOf(JvlmException.class);
                }
            }
        }
        return refused;
    }

    private static void collect(String prefix, JsonNode object, List<String> keys) {
        object.propertyNames().forEach(name -> {
            keys.add(prefix + name);
            collect(prefix + name + ".", object.path(name), keys);
        });
    }
}
