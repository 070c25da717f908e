package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import tools.jackson.databind.JsonNode;

/**
 * PEFT's {@code adapter_config.json} for LoRA: which layers it changes, by which rank and scale. A module's name is that in the model
 * that was trained; it is matched as PEFT 0.12 matches it.
 */
final class AdapterConfig {

    static final String FILE = "adapter_config.json";

    /** Keys that say nothing about what a trained adapter computes. */
    private static final Set<String> INERT = Set.of(
            "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "inference_mode", "lora_dropout",
            "megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config", "task_type");

    private static final int MOST_RANK = 1 << 20;
    private static final double MOST_ALPHA = 1e9;
    private static final int MOST_LAYERS = 1 << 20;

    /** Far above what people write; deeper nesting than this allows could exhaust the stack. */
    private static final int LONGEST_EXPRESSION = 4096;

    /** How often a match may look at a letter of a name: an expression that can match in ever so many ways would try them all. */
    private static final int MOST_LOOKS = 1_000_000;

    private final boolean dora;
    private final boolean rsLora;
    private final int rank;
    private final double alpha;
    private final Map<String, Double> ranks;
    private final Map<String, Double> alphas;
    private final Map<String, Pattern> expressions = new LinkedHashMap<>();
    private final Selection targets;
    private final Selection excluded;
    private final List<Integer> layers;
    private final List<String> layersPattern;
    private final String base;

    /**
     * Reads the configuration.
     *
     * @throws JvlmException MODEL_FORMAT naming key, value and allowed range; MODEL_UNSUPPORTED naming what is not implemented, among
     *     it every key that is set and unknown
     */
    AdapterConfig(JsonNode json) {
        Config config = Config.of(json, FILE);
        config.requireText("peft_type", "", "LORA");
        config.requireText("bias", "none", "none");
        config.requireFlag("fan_in_fan_out", false, false);
        // Other ways to begin training change the base model too, of which the folder holds nothing.
        JsonNode init = json.path("init_lora_weights");
        if (config.isSet("init_lora_weights") && !init.isBoolean()) {
            config.requireText("init_lora_weights", "", "gaussian", "eva");
        }
        dora = config.flag("use_dora", false);
        rsLora = config.flag("use_rslora", false);
        rank = config.integer("r", 1, MOST_RANK, 8);
        alpha = config.number("lora_alpha", -MOST_ALPHA, MOST_ALPHA, 8);
        ranks = numbers(config, json, "rank_pattern", 1, MOST_RANK, true);
        alphas = numbers(config, json, "alpha_pattern", -MOST_ALPHA, MOST_ALPHA, false);
        targets = selection(config, json, "target_modules");
        if (targets == null) {
            throw config.contradiction("target_modules is missing; it must name the layers that the adapter changes");
        }
        excluded = selection(config, json, "exclude_modules");
        layers = layers(config, json);
        layersPattern = names(config, json, "layers_pattern");
        if (targets.expression != null && (layers != null || layersPattern != null)) {
            throw config.contradiction("layers_to_transform and layers_pattern need target_modules that are a list of names");
        }
        base = config.text("base_model_name_or_path", "");
        config.refuseUnread(INERT);
    }

    boolean dora() {
        return dora;
    }

    /** What to call it: LoRA, rsLoRA, DoRA or both. */
    String kind() {
        return dora ? rsLora ? "DoRA with rsLoRA's scale" : "DoRA" : rsLora ? "rsLoRA" : "LoRA";
    }

    /** The model that it says it was trained from, or "". */
    String base() {
        return base;
    }

    /** Whether the adapter changes the linear layer of this name. */
    boolean targets(String module) {
        if (!targets.holds(module) || excluded != null && excluded.holds(module)) {
            return false;
        }
        // PEFT asks for the layer's number only where a name in the list stands for many layers.
        return layers == null || targets.names.contains(module) || layers.contains(layer(module));
    }

    /** The number of the layer that a module is in, or -1. */
    private int layer(String module) {
        List<String> patterns = layersPattern == null || layersPattern.isEmpty() ? List.of("[^.]*") : layersPattern;
        for (String pattern : patterns) {
            Matcher matcher = matcher(".*\\." + pattern + "\\.(\\d{1,9})\\.", module);
            if (lookingAt(matcher)) {
                return Integer.parseInt(matcher.group(matcher.groupCount()));
            }
        }
        return -1;
    }

    int rank(String module) {
        return ranks.getOrDefault(patternKey(module), (double) rank).intValue();
    }

    /** By what the product of a layer's matrices is multiplied: alpha / rank, with rsLoRA alpha / sqrt(rank). */
    double scale(String module) {
        double by = alphas.getOrDefault(patternKey(module), alpha);
        return by / (rsLora ? Math.sqrt(rank(module)) : rank(module));
    }

    /** One key for both maps: the first of the ranks' keys that fits, or else the first of the alphas', or else the name itself. */
    private String patternKey(String module) {
        String ofRanks = firstKey(ranks, module);
        String ofAlphas = ofRanks == null ? firstKey(alphas, module) : ofRanks;
        return ofAlphas == null ? module : ofAlphas;
    }

    /** Whether later versions of PEFT, where each map has its own key and a key may be the whole name, would take another alpha. */
    boolean ambiguous(String module) {
        double later = alphas.keySet().stream()
                .filter(key -> lookingAt(matcher("(.*\\.)?(" + key + ")$", module)))
                .findFirst()
                .map(alphas::get)
                .orElse(alpha);
        return later != alphas.getOrDefault(patternKey(module), alpha);
    }

    private String firstKey(Map<String, Double> map, String module) {
        return map.keySet().stream().filter(key -> lookingAt(matcher(".*\\." + key + "$", module))).findFirst().orElse(null);
    }

    // ---- regular expressions ------------------------------------------------------------------------------------------------------

    /** Modules by name: a list of names and endings, or (where {@code expression} is not null) one expression for the whole name. */
    private final class Selection {
        private final List<String> names;
        private final String expression;

        Selection(List<String> names, String expression) {
            this.names = names;
            this.expression = expression;
        }

        boolean holds(String module) {
            return expression != null
                    ? matches(matcher(expression, module))
                    : names.stream().anyMatch(name -> module.equals(name) || module.endsWith("." + name));
        }
    }

    private Matcher matcher(String expression, String module) {
        Pattern pattern = expressions.computeIfAbsent(expression, e -> {
            if (e.length() > LONGEST_EXPRESSION) {
                throw badExpression(e, "is longer than " + LONGEST_EXPRESSION + " letters", null);
            }
            try {
                return Pattern.compile(e);
            } catch (PatternSyntaxException | StackOverflowError cause) {
                throw badExpression(e, "cannot be read", cause);
            }
        });
        return pattern.matcher(new Bounded(expression, module));
    }

    private static boolean lookingAt(Matcher matcher) {
        try {
            return matcher.lookingAt();
        } catch (StackOverflowError e) {
            throw badExpression(matcher.pattern().pattern(), "takes too long to match", e);
        }
    }

    private static boolean matches(Matcher matcher) {
        try {
            return matcher.matches();
        } catch (StackOverflowError e) {
            throw badExpression(matcher.pattern().pattern(), "takes too long to match", e);
        }
    }

    private static JvlmException badExpression(String expression, String why, Throwable cause) {
        return new JvlmException(
                JvlmException.Code.MODEL_UNSUPPORTED,
                FILE + ": the regular expression " + Quote.of(expression) + " " + why + "; name the modules in a list", cause);
    }

    /** A name that tells how often it is looked at. */
    private static final class Bounded implements CharSequence {
        private final String expression;
        private final String name;
        private int looks;

        Bounded(String expression, String name) {
            this.expression = expression;
            this.name = name;
        }

        @Override
        public char charAt(int index) {
            if (++looks > MOST_LOOKS) {
                throw badExpression(expression, "takes too long to match", null);
            }
            return name.charAt(index);
        }

        @Override
        public int length() {
            return name.length();
        }

        @Override
        public CharSequence subSequence(int start, int end) {
            return name.substring(start, end);
        }

        @Override
        public String toString() {
            return name;
        }
    }

    // ---- reading ------------------------------------------------------------------------------------------------------------------

    private static Map<String, Double> numbers(Config config, JsonNode json, String key, double min, double max, boolean whole) {
        Map<String, Double> numbers = new LinkedHashMap<>();
        if (config.isSet(key)) {
            JsonNode value = json.path(key);
            String allowed = "an object of " + (whole ? "whole numbers" : "numbers") + " from " + (long) min + " to " + (long) max;
            if (!value.isObject()) {
                throw config.outOfRange(key, value, allowed);
            }
            value.properties().forEach(e -> {
                JsonNode number = e.getValue();
                boolean good = (whole ? number.isIntegralNumber() : number.isNumber())
                        && number.asDouble() >= min && number.asDouble() <= max;
                if (!good) {
                    throw config.outOfRange(key, value, allowed);
                }
                numbers.put(e.getKey(), number.asDouble());
            });
        }
        return numbers;
    }

    private Selection selection(Config config, JsonNode json, String key) {
        if (!config.isSet(key)) {
            return null;
        }
        return json.path(key).isString() ? new Selection(null, json.path(key).asString()) : new Selection(names(config, json, key), null);
    }

    /** A text or a list of texts, or null. */
    private static List<String> names(Config config, JsonNode json, String key) {
        if (!config.isSet(key)) {
            return null;
        }
        JsonNode value = json.path(key);
        if (value.isString()) {
            return value.asString().isEmpty() ? List.of() : List.of(value.asString());
        }
        if (!value.isArray() || !value.valueStream().allMatch(JsonNode::isString)) {
            throw config.outOfRange(key, value, "a text or a list of texts");
        }
        return value.valueStream().map(JsonNode::asString).toList();
    }

    /** Layers by number, or null where all are meant. */
    private static List<Integer> layers(Config config, JsonNode json) {
        String key = "layers_to_transform";
        if (!config.isSet(key) || json.path(key).isArray() && json.path(key).isEmpty()) {
            return null;
        }
        JsonNode value = json.path(key);
        List<Integer> layers = new ArrayList<>();
        for (JsonNode layer : value.isArray() ? value.values() : List.of(value)) {
            if (!layer.isIntegralNumber() || layer.asDouble() < 0 || layer.asDouble() > MOST_LAYERS) {
                throw config.outOfRange(key, value, "a whole number from 0 to " + MOST_LAYERS + " or a list of such");
            }
            layers.add(layer.asInt());
        }
        return layers;
    }
}
