package dev.jvlm.cli;

import dev.jvlm.Jvlm;
import dev.jvlm.Options;
import dev.jvlm.error.JvlmException;
import dev.jvlm.model.Blueprint;
import dev.jvlm.model.Checkpoint;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import picocli.CommandLine.Option;

/** Which model, and how it is opened. */
final class ModelOptions {
    @Option(
            names = "--model",
            paramLabel = "DIR",
            description = "The model's folder: config.json, tokenizer and safetensors as published. Default: the small line reader that"
                    + " comes with jvlm.")
    private Path folder;

    @Option(
            names = "--adapter",
            paramLabel = "DIR",
            description = "The folder of a LoRA, rsLoRA or DoRA adapter as PEFT writes it, merged into the model as it is loaded.")
    private Path adapter;

    @Option(names = "--device", paramLabel = "NAME", description = "auto, cuda:0 or cpu. Default: auto.")
    private String device;

    @Option(
            names = "--precision",
            paramLabel = "P",
            description = "float32, bf16 or int8 (weights of the decoder only). Default: bf16.")
    private String precision;

    @Option(
            names = "--context",
            paramLabel = "TOKENS",
            description = "The longest prompt and answer together. Default: what the model allows, at most 8192.")
    private Integer context;

    /** The model's folder, or that of the bundled model. */
    Path folder() {
        if (folder != null) {
            return folder;
        }
        Path bundled = bundled();
        if (bundled == null) {
            throw new JvlmException(JvlmException.Code.REQUEST, "Which model? Give its folder with --model DIR");
        }
        return bundled;
    }

    /** The model that comes with the repository, or null where only the jars are. */
    static Path bundled() {
        String home = System.getProperty("jvlm.home");
        return home == null ? null : Path.of(home, "weights", "nano");
    }

    /** @throws JvlmException REQUEST if an option's value is none of those it takes */
    Options options() {
        Options options = Options.DEFAULT.withAdapter(adapter);
        if (device != null) {
            options = options.withDevice(device);
        }
        if (precision != null) {
            options = options.withPrecision(Options.Precision.of(precision));
        }
        return context == null ? options : options.withContext(context);
    }

    /** What --precision says, or null. */
    String precision() {
        return precision;
    }

    /** Whether a model or an adapter was chosen. */
    boolean named() {
        return folder != null || adapter != null;
    }

    /** What --device says, or null. */
    String device() {
        return device;
    }

    /** Whether anything but precision and device was chosen. */
    boolean chosen() {
        return named() || context != null;
    }

    /** Loads the model, with a bar where that takes a while and someone watches; then says what computes which model. */
    Jvlm open(Console console) {
        Path folder = folder();
        Options options = options();
        Jvlm vlm;
        try (LoadingBar bar = new LoadingBar(name(folder))) {
            vlm = Jvlm.open(folder, options.withProgress(bar));
        }
        console.say(vlm.device() + "; " + describe(vlm.checkpoint()));
        return vlm;
    }

    /** The chosen model and adapter, in a line. */
    String describe(Checkpoint checkpoint) {
        return describe(folder(), checkpoint.blueprint()) + (adapter == null ? "" : " with the adapter " + name(adapter));
    }

    static String describe(Path folder, Blueprint blueprint) {
        String family = blueprint.family().replaceAll(" \\(.*", ""); // Without the key by which its folders are recognised.
        return "model " + name(folder) + " (" + family + ", " + parameters(blueprint.parameters()) + " parameters)";
    }

    static String parameters(long count) {
        return count < 1_000_000_000
                ? String.format(Locale.ROOT, "%.1f million", count / 1e6)
                : String.format(Locale.ROOT, "%.2f billion", count / 1e9);
    }

    static String name(Path folder) {
        Path name = folder.toAbsolutePath().normalize().getFileName();
        return name == null ? folder.toString() : name.toString();
    }

    /** What a JSON object says of the model. */
    Map<String, Object> json(Checkpoint checkpoint) {
        Map<String, Object> model = new LinkedHashMap<>();
        model.put("name", name(folder()));
        if (adapter != null) {
            model.put("adapter", name(adapter));
        }
        model.put("family", checkpoint.blueprint().family());
        model.put("fingerprint", checkpoint.fingerprint());
        return model;
    }
}
