package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.IntNode;
import tools.jackson.databind.node.MissingNode;

/**
 * A {@code config.json}, or a section of one, read by type and range. It remembers which keys were read, so that none which could
 * matter is passed over in silence.
 */
final class Config {

    /**
     * Keys that say nothing about what the model computes: bookkeeping, training, and the defaults for generation that Hugging Face
     * writes into every section.
     */
    private static final Set<String> INERT = Set.of(
            "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "add_cross_attention",
            "architectures", "attention_dropout", "attn_implementation", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
            "chunk_size_feed_forward", "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample",
            "drop_path_rate", "dropout", "dtype", "early_stopping", "embd_pdrop", "encoder_no_repeat_ngram_size", "eos_token_id",
            "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id",
            "hidden_dropout_prob", "id2label", "image_processor_type", "initializer_factor", "initializer_range", "is_decoder", "is_encoder_decoder",
            "label2id", "length_penalty", "max_length", "max_window_layers", "min_length", "model_type", "no_repeat_ngram_size",
            "num_beam_groups", "num_beams", "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores",
            "pad_token_id", "prefix", "pretraining_tp", "problem_type", "processor_class", "pruned_heads", "remove_invalid_values",
            "repetition_penalty", "resid_pdrop", "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
            "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder", "tokenizer_class", "top_k", "top_p",
            "torch_dtype", "torchscript", "transformers_version", "typical_p", "use_bfloat16", "use_cache", "use_flash_attn");

    private static final int MOST_NAMED = 10;

    private final JsonNode node;
    /** "config.json" and the path to this section, for messages. */
    private final String place;

    /** What keys that are not there stand for, where the library's classes differ from what the readers below take. */
    private final Map<String, Integer> defaults;

    private final Config preprocessor;
    private final Set<String> read = new LinkedHashSet<>();
    private final List<Config> sections = new ArrayList<>();

    private Config(JsonNode node, String place, Map<String, Integer> defaults, Config preprocessor) {
        this.node = node;
        this.place = place;
        this.defaults = defaults;
        this.preprocessor = preprocessor;
    }

    /** The configuration in a file of another name than {@code config.json}. */
    static Config of(JsonNode json, String file) {
        return new Config(json, file + ": ", Map.of(), null);
    }

    /** @param preprocessorJson the content of preprocessor_config.json, or a missing node */
    static Config of(JsonNode configJson, JsonNode preprocessorJson) {
        return new Config(configJson, "config.json: ", Map.of(), of(preprocessorJson, "preprocessor_config.json"));
    }

    /** The {@code preprocessor_config.json} beside the configuration, empty if there is none; of the whole file, not of a section. */
    Config preprocessor() {
        return preprocessor;
    }

    boolean isEmpty() {
        return node.isEmpty();
    }

    /** A section, which must be there. */
    Config section(String key) {
        return section(key, Map.of());
    }

    /**
     * A section, which must be there.
     *
     * @param defaults whole numbers for keys that are not there or null
     */
    Config section(String key, Map<String, Integer> defaults) {
        JsonNode value = get(key);
        if (!value.isObject()) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, place + key + " is missing or no object");
        }
        Config section = new Config(value, place + key + ".", defaults, null);
        sections.add(section);
        return section;
    }

    /** A section, empty if it is not there. */
    Config sectionIfThere(String key) {
        return isSet(key) ? section(key) : new Config(MissingNode.getInstance(), place + key + ".", Map.of(), null);
    }

    /** A whole number from {@code min} to {@code max}, which must be there. */
    int integer(String key, int min, int max) {
        JsonNode value = get(key);
        String allowed = "a whole number from " + min + " to " + max;
        if (!value.isIntegralNumber() || !value.canConvertToLong() || value.asLong() < min || value.asLong() > max) {
            throw outOfRange(key, value, allowed);
        }
        return (int) value.asLong();
    }

    int integer(String key, int min, int max, int ifMissing) {
        return isSet(key) ? integer(key, min, max) : ifMissing;
    }

    /** A number from {@code min} to {@code max}, which must be there. */
    double number(String key, double min, double max) {
        JsonNode value = get(key);
        String allowed = "a number from " + min + " to " + max;
        if (!value.isNumber() || !(value.asDouble() >= min && value.asDouble() <= max)) {
            throw outOfRange(key, value, allowed);
        }
        return value.asDouble();
    }

    double number(String key, double min, double max, double ifMissing) {
        return isSet(key) ? number(key, min, max) : ifMissing;
    }

    /** A list of so many numbers from {@code min} to {@code max}, which must be there. */
    double[] numbers(String key, int count, double min, double max) {
        JsonNode value = get(key);
        double[] numbers = value.valueStream().filter(JsonNode::isNumber).mapToDouble(JsonNode::asDouble).toArray();
        if (!value.isArray() || value.size() != count || numbers.length != count
                || Arrays.stream(numbers).anyMatch(n -> !(n >= min && n <= max))) {
            throw outOfRange(key, value, count + " numbers from " + min + " to " + max);
        }
        return numbers;
    }

    double[] numbers(String key, int count, double min, double max, double ifMissing) {
        if (isSet(key)) {
            return numbers(key, count, min, max);
        }
        double[] numbers = new double[count];
        Arrays.fill(numbers, ifMissing);
        return numbers;
    }

    boolean flag(String key, boolean ifMissing) {
        if (!isSet(key)) {
            return ifMissing;
        }
        JsonNode value = get(key);
        if (!value.isBoolean()) {
            throw outOfRange(key, value, "true or false");
        }
        return value.asBoolean();
    }

    String text(String key, String ifMissing) {
        if (!isSet(key)) {
            return ifMissing;
        }
        JsonNode value = get(key);
        if (!value.isString()) {
            throw outOfRange(key, value, "a text");
        }
        return value.asString();
    }

    /** The first of the class names that Hugging Face's {@code architectures} lists, or "". */
    String architecture() {
        return get("architectures").path(0).asString("");
    }

    /** Whether the key is there, null or not. */
    boolean has(String key) {
        read.add(key);
        return node.has(key);
    }

    /** Whether the key is there and not null. */
    boolean isSet(String key) {
        JsonNode value = get(key);
        return !value.isMissingNode() && !value.isNull();
    }

    /** Refuses a value other than null; also one that is not there is fine. */
    void requireUnset(String... keys) {
        for (String key : keys) {
            if (isSet(key)) {
                throw unsupported(key, "nothing or null");
            }
        }
    }

    /** Refuses a key that nobody has asked for and that is set: not null, false or empty. */
    void refuseUnread(Set<String> inert) {
        for (String key : node.propertyNames()) {
            JsonNode value = node.path(key);
            boolean unset = value.isNull() || value.isBoolean() && !value.asBoolean() || value.isContainer() && value.isEmpty();
            if (!read.contains(key) && !inert.contains(key) && !unset) {
                throw unsupported(key, "nothing or null");
            }
        }
    }

    void requireFlag(String key, boolean expected, boolean ifMissing) {
        if (flag(key, ifMissing) != expected) {
            throw unsupported(key, String.valueOf(expected));
        }
    }

    void requireText(String key, String ifMissing, String... supported) {
        if (!Arrays.asList(supported).contains(text(key, ifMissing))) {
            throw unsupported(key, String.join(", ", supported));
        }
    }

    void requireNumber(String key, double expected, double ifMissing) {
        if (number(key, -Double.MAX_VALUE, Double.MAX_VALUE, ifMissing) != expected) {
            throw unsupported(key, expected == Math.rint(expected) ? String.valueOf((long) expected) : String.valueOf(expected));
        }
    }

    /** The error for two values that do not fit together. */
    JvlmException contradiction(String what) {
        return new JvlmException(JvlmException.Code.MODEL_FORMAT, place + what);
    }

    /** The error for a sound value that this version does not implement. */
    JvlmException unsupported(String key, String supported) {
        JsonNode value = get(key);
        return new JvlmException(
                JvlmException.Code.MODEL_UNSUPPORTED,
                place + key + " is " + show(value) + ", which this version does not implement. Supported: " + supported);
    }

    /** The error for a value that no version could take. */
    JvlmException outOfRange(String key, JsonNode value, String allowed) {
        return new JvlmException(
                JvlmException.Code.MODEL_FORMAT, place + key + " is " + show(value) + ". Allowed: " + allowed);
    }

    private static String show(JsonNode value) {
        return value.isMissingNode() ? "missing" : Quote.of(value.isString() ? value.asString() : value.toString());
    }

    private JsonNode get(String key) {
        read.add(key);
        JsonNode value = node.path(key);
        return (value.isMissingNode() || value.isNull()) && defaults.containsKey(key) ? IntNode.valueOf(defaults.get(key)) : value;
    }

    /** What a user should know about keys that were not used: code that is never run, keys that nobody asked for. */
    List<String> notes() {
        List<String> notes = new ArrayList<>();
        if (node.has("auto_map")) {
            notes.add(place + "auto_map names code of the model's folder; it is never run");
        }
        List<String> unknown = new ArrayList<>();
        collectUnread("", unknown);
        if (!unknown.isEmpty()) {
            notes.add(place + "not used: " + list(unknown));
        }
        return notes;
    }

    private void collectUnread(String prefix, List<String> unknown) {
        node.propertyNames().stream()
                .filter(key -> !read.contains(key) && !INERT.contains(key) && !key.equals("auto_map"))
                .forEach(key -> unknown.add(prefix + key));
        sections.forEach(s -> s.collectUnread(prefix + s.place.substring(place.length()), unknown));
    }

    /** At most ten names, and how many more there are. */
    static String list(List<String> names) {
        String first = String.join(", ", names.stream().limit(MOST_NAMED).map(Quote::of).toList());
        return names.size() <= MOST_NAMED ? first : first + " and " + (names.size() - MOST_NAMED) + " more";
    }
}
