package dev.jvlm.cli;

import dev.jvlm.Jvlm;
import dev.jvlm.Options;
import dev.jvlm.error.JvlmException;
import dev.jvlm.model.Blueprint;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.Tiling;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/** What a model is and what it would take; its weights are not loaded. */
@Command(name = "describe", description = "Says what a model is, what it would take in memory, and on what it would run. Loads no weights.")
final class Describe implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Mixin
    private ModelOptions model;

    @Parameters(
            arity = "0..1",
            paramLabel = "CONFIG",
            description = "A config.json alone, before its weights are fetched. Default: the model of --model.")
    private Path config;

    @Option(names = "--tensors", description = "Also the tensors that the model's files must hold, with their shapes.")
    private boolean tensors;

    @Option(names = "--json", description = "One JSON object.")
    private boolean json;

    @Override
    public Integer call() {
        Console console = main.console();
        Options options = model.options();
        if (config != null && model.named()) {
            throw new JvlmException(JvlmException.Code.REQUEST, "A configuration alone has no weights; leave out --model and --adapter");
        }
        Checkpoint checkpoint = config == null ? Checkpoint.open(model.folder(), options.adapter()) : null;
        Blueprint blueprint = config == null ? checkpoint.blueprint() : Blueprint.read(config);
        Map<String, Long> plan = Jvlm.memoryPlan(blueprint, options);
        long total = plan.values().stream().mapToLong(Long::longValue).sum();
        String device = options.device().equals("auto") ? Jvlm.devices().keySet().iterator().next() : options.device();
        String ocrQuestion = checkpoint == null ? blueprint.ocrQuestion() : checkpoint.ocrQuestion();
        List<String> notes = checkpoint == null ? blueprint.notes() : checkpoint.notes();
        Map<String, String> spec = spec(blueprint);
        if (json) {
            Map<String, Object> object = new LinkedHashMap<>();
            object.put("model", checkpoint == null ? Map.of("family", blueprint.family()) : model.json(checkpoint));
            object.put("parameters", blueprint.parameters());
            object.put("spec", spec);
            object.put("tiling", blueprint.tiling());
            object.put("ocrQuestion", ocrQuestion);
            object.put("notes", notes);
            object.put("device", device + " (" + Jvlm.devices().get(device) + ")");
            object.put("precision", options.precision().label());
            object.put("memoryPlan", plan);
            object.put("memoryBytes", total);
            if (tensors) {
                object.put("tensors", tensors(blueprint));
            }
            console.json(object);
            return Main.OK;
        }
        console.answer(checkpoint == null ? ModelOptions.describe(config, blueprint) : model.describe(checkpoint));
        if (checkpoint != null) {
            console.answer("fingerprint " + checkpoint.fingerprint());
        }
        console.answer("pictures    " + pictures(blueprint.tiling(), blueprint.spec().rowsPerTile()));
        console.answer("ocr asks    " + ocrQuestion);
        console.answer("device      " + device + " (" + Jvlm.devices().get(device) + "), " + options.precision().label());
        console.answer("");
        console.answer("memory at most, with " + options.precision().label() + " and " + options.sequences() + " requests at a time:");
        plan.forEach((part, bytes) -> console.answer(String.format(Locale.ROOT, "  %-10s %10.1f MiB", part, mib(bytes))));
        console.answer(String.format(Locale.ROOT, "  %-10s %10.1f MiB", "total", mib(total)));
        console.answer("");
        console.answer("shape:");
        spec.forEach((key, value) -> console.answer(String.format("  %-20s %s", key, value)));
        if (tensors) {
            Map<String, List<Long>> all = tensors(blueprint);
            console.answer("");
            console.answer(all.size() + " tensors:");
            all.forEach((name, shape) -> console.answer("  " + name + " " + shape));
        }
        notes.forEach(note -> console.answer("note: " + note));
        return Main.OK;
    }

    /** By name; a tensor may become several parts of the engine's. */
    private static Map<String, List<Long>> tensors(Blueprint blueprint) {
        Map<String, List<Long>> tensors = new LinkedHashMap<>();
        blueprint.weights().forEach(w -> tensors.put(w.name(), w.shape()));
        return tensors;
    }

    private static String pictures(Tiling tiling, int rows) {
        if (tiling instanceof Tiling.Grid grid) {
            return grid.minTiles() + " to " + grid.maxTiles() + " tiles of " + grid.tileSize() + " pixels"
                    + (grid.thumbnail() ? " and a thumbnail" : "") + ", " + rows + " tokens each"
                    + (grid.msac() ? "; a single picture in two grids (MSAC)" : "");
        }
        Tiling.Aspect aspect = (Tiling.Aspect) tiling;
        return "in their own aspect ratio, sides of " + aspect.shortest() + " to " + aspect.longest() + " pixels"
                + (aspect.split() ? ", as four quarters and a whole" : "") + ", " + rows + " tokens each";
    }

    private static double mib(long bytes) {
        return bytes / (double) (1 << 20);
    }

    private static Map<String, String> spec(Blueprint blueprint) {
        Map<String, String> spec = new LinkedHashMap<>();
        blueprint.spec().toText().lines().map(line -> line.split(" ", 2)).forEach(f -> spec.put(f[0], f[1]));
        return spec;
    }
}
