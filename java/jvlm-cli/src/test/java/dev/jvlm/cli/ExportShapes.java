package dev.jvlm.cli;

import dev.jvlm.Options.Precision;
import dev.jvlm.model.Blueprint;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import tools.jackson.databind.ObjectMapper;

/**
 * Writes what {@code jvlm bench --shape} gives to native code for a card, so that {@code tests/gpu/stages.py} can measure the same on a machine
 * without Java: {@code tests/gpu/shapes/} (README.md there says what each file holds). Run from the root of the repository with the tests' class path and
 * {@code -Djvlm.root=.}; its one argument is the folder to write.
 */
final class ExportShapes {
    private static final List<Precision> PRECISIONS = List.of(Precision.BF16, Precision.INT8);

    /**
     * A shape.
     *
     * @param config from the root of the repository
     * @param tiles pictures of a prompt, as model_stages.cc has them; one where it is small
     * @param text tokens of text behind them
     */
    private record Exported(String name, String config, int tiles, int text) {}

    private static final List<Exported> SHAPES = List.of(
            new Exported("h2ovl-0.8b", "tests/configs/h2ovl-mississippi-800m.json", 7, 64),
            new Exported("h2ovl-2b", "tests/configs/h2ovl-mississippi-2b.json", 7, 64),
            new Exported("tiny", "tests/goldens/h2ovl-2b/checkpoint/config.json", 1, 8));

    private ExportShapes() {}

    public static void main(String[] args) throws IOException {
        for (Map.Entry<String, String> file : files(Path.of(System.getProperty("jvlm.root"))).entrySet()) {
            Path path = Path.of(args[0]).resolve(file.getKey());
            Files.createDirectories(path.getParent());
            Files.writeString(path, file.getValue());
        }
    }

    /** The content of each file, by its name in the folder. */
    static Map<String, String> files(Path root) {
        Map<String, String> files = new TreeMap<>();
        for (Exported shape : SHAPES) {
            Blueprint blueprint = Blueprint.read(root.resolve(shape.config));
            String folder = shape.name + "/";
            files.put(folder + "spec.txt", blueprint.spec().toText());
            files.put(folder + "manifest.txt", Bench.manifest(blueprint));
            for (Precision precision : PRECISIONS) {
                files.put(folder + "limits-" + precision.label() + ".txt", Bench.limits(blueprint, "cuda:0", precision));
            }
            files.put(folder + "work.json", work(blueprint, shape));
        }
        return files;
    }

    private static String work(Blueprint blueprint, Exported shape) {
        Work work = new Work(blueprint.spec());
        int prompt = shape.tiles * blueprint.spec().rowsPerTile() + shape.text;
        Map<String, Double> counted = new TreeMap<>();
        counted.put("vision 1", work.vision(1));
        counted.put("vision " + shape.tiles, work.vision(shape.tiles));
        counted.put("connector " + shape.tiles, work.connector(shape.tiles));
        counted.put("prefill " + prompt, work.prefill(prompt));
        for (Precision precision : PRECISIONS) {
            for (int batch : new int[] {1, 4, 8, 16}) {
                counted.put("decode " + batch + " " + precision.label(), work.decode(batch, Bench.CONTEXT, precision));
            }
        }
        return new ObjectMapper().writerWithDefaultPrettyPrinter().writeValueAsString(counted) + "\n";
    }
}
