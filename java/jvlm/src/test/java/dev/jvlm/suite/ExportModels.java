package dev.jvlm.suite;

import dev.jvlm.Options.Precision;
import dev.jvlm.engine.Forward;
import dev.jvlm.image.TileShape;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.Manifest;
import dev.jvlm.model.ModelSpec;
import dev.jvlm.model.SeededWeights;
import dev.jvlm.model.Weight;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/**
 * Writes cases of {@code tests/goldens} so that {@code tests/native/models_test.cc} can replay them through the boundary on a machine
 * without Java: {@code tests/gpu/models/} (README.md there says what each file holds). Run from the root of the repository with the tests'
 * class path and {@code -Djvlm.root=.}; its one argument is the folder to write.
 */
public final class ExportModels {
    /**
     * The cases of each family: text alone, and few pictures, for the tree stays small. Behind five tiles dynamic NTK and long rope come into force while the
     * minis decode; Idefics2's page and quarters are more than its window.
     */
    private static final Map<String, List<Integer>> CASES = Map.of(
            "h2ovl-0.8b", List.of(3, 6, 0),
            "h2ovl-2b", List.of(3, 7),
            "internvl-chat-v1-5", List.of(3, 6),
            "mini-internvl-2b-v1-5", List.of(1),
            "mini-internvl-4b-v1-5", List.of(3, 1),
            "idefics2", List.of(7, 2, 1));

    private ExportModels() {}

    public static void main(String[] args) throws IOException {
        Path goldens = Path.of(System.getProperty("jvlm.root"), "tests/goldens");
        for (String family : CASES.keySet()) {
            export(goldens, family, Path.of(args[0]));
        }
    }

    private static void export(Path goldens, String family, Path to) throws IOException {
        Path golden = goldens.resolve(family);
        Path built = Files.createTempDirectory("jvlm-goldens");
        Checkpoint checkpoint = Checkpoint.open(SeededWeights.build(golden, built));
        Differences differences = new Differences(new PrintStream(System.err, true));
        FamilyGoldens ready = new FamilyGoldens(golden, goldens.resolve("images"), checkpoint, "cpu", Precision.BF16, differences);
        JsonNode recorded = new ObjectMapper().readTree(golden.resolve("golden.json").toFile()).path("cases");
        List<FamilyGoldens.Ready> cases = new ArrayList<>();
        for (int i : CASES.get(family)) {
            cases.add(ready.prepare(family + " case " + i, recorded.get(i)));
        }
        if (differences.count() > 0) {
            throw new IllegalStateException("tiles or prompts are not those that were recorded");
        }
        List<Forced> forced = cases.stream().map(FamilyGoldens.Ready::forced).toList();
        double[] bounds = Forced.bounds(checkpoint, Precision.BF16, forced);

        Path folder = Files.createDirectories(to.resolve(family));
        ModelSpec spec = checkpoint.blueprint().spec();
        int context = forced.stream().mapToInt(c -> c.prompt().ids().length + c.ids().length).max().orElse(1);
        int rows = forced.stream().mapToInt(c -> c.prompt().rows()).max().orElse(0);
        Files.writeString(folder.resolve("spec.txt"), spec.toText());
        Files.writeString(folder.resolve("limits.txt"), Forward.limitsText(spec, "bf16", context, rows));
        weights(golden, checkpoint, folder);

        StringBuilder text = new StringBuilder("banned " + checkpoint.bannedIds().size());
        checkpoint.bannedIds().stream().sorted().forEach(id -> text.append(' ').append(id));
        text.append('\n');
        for (int i = 0; i < cases.size(); i++) {
            one(text, cases.get(i), bounds[i], to);
        }
        Files.writeString(folder.resolve("cases.txt"), text);
    }

    /** The manifest, with the files' names alone, and how each tensor in them is made (weights/tiny/README.md). */
    private static void weights(Path golden, Checkpoint checkpoint, Path folder) throws IOException {
        JsonNode recipe = new ObjectMapper().readTree(golden.resolve("weights.json").toFile());
        List<Weight> weights = checkpoint.blueprint().weights();
        List<Manifest.Piece> pieces = new ArrayList<>();
        String dtype = recipe.path("dtype").asString();
        StringBuilder text = new StringBuilder("seed ").append(recipe.path("seed").asLong()).append(' ').append(dtype).append('\n');
        Set<String> made = new HashSet<>(); // Several weights may be rows of one tensor.
        for (int i = 0; i < weights.size(); i++) {
            Manifest.Piece p = checkpoint.manifest().pieces().get(i);
            String file = Path.of(p.file()).getFileName().toString();
            Weight w = weights.get(i);
            JsonNode tensor = recipe.path("files").path(file).path(w.name());
            if (!p.dtype().equals(dtype) || tensor.isMissingNode()) {
                throw new IllegalStateException(w.name() + " cannot be made natively");
            }
            pieces.add(new Manifest.Piece(p.target(), p.firstRow(), p.rows(), p.columns(), p.dtype(), file, p.offset()));
            if (made.add(w.name())) {
                long count = w.shape().stream().reduce(1L, (a, b) -> a * b);
                long offset = p.offset() - w.sourceRow() * p.bytes() / p.rows();
                text.append(String.join(" ", file, Long.toString(offset), Long.toString(count), tensor.path("exponent").asString(),
                        tensor.path("shift").asString(), tensor.path("offset").asString(), w.name())).append('\n');
            }
        }
        Files.writeString(folder.resolve("manifest.txt"), new Manifest(pieces).toText());
        Files.writeString(folder.resolve("weights.txt"), text);
    }

    private static void one(StringBuilder text, FamilyGoldens.Ready ready, double bound, Path to) throws IOException {
        Forced c = ready.forced();
        text.append(String.format(Locale.ROOT, "case %s tiles %d rows_per_tile %d bound %.6g%n",
                ready.as().replace(' ', '-'), c.tiles().count(), c.rowsPerTile(), bound + 0.5e-5));
        for (int t = 0; t < c.tiles().count(); t++) {
            ByteBuffer tile = c.tiles().rgb(t, 1);
            String file = "tiles/" + GoldenCase.sha256(tile.duplicate()).substring(0, 12) + ".rgb";
            Files.createDirectories(to.resolve("tiles"));
            Files.write(to.resolve(file), packed(tile));
            TileShape shape = c.tiles().shapes().get(t);
            text.append(String.format(Locale.ROOT, "%s %d %d %d %d%n", file, shape.height(), shape.width(), shape.rows(), shape.columns()));
        }
        int[] ids = c.prompt().ids();
        text.append("prompt ").append(ids.length).append('\n');
        for (int i = 0; i < ids.length; i++) {
            text.append(ids[i]).append(' ').append(c.prompt().visionRow()[i]).append(i % 16 == 15 || i == ids.length - 1 ? '\n' : ' ');
        }
        text.append("steps ").append(c.ids().length).append('\n');
        for (int i = 0; i < c.ids().length; i++) {
            JsonNode step = ready.json().path("steps").path(i);
            text.append(c.ids()[i]).append(' ').append(step.path("margin").asString()).append(' ').append(step.path("ids").size());
            for (int k = 0; k < step.path("ids").size(); k++) {
                text.append(' ').append(step.path("ids").get(k).asInt()).append(' ').append(step.path("logits").get(k).asString());
            }
            text.append('\n');
        }
    }

    /**
     * Runs of pixels: a byte n below 128 and n + 1 pixels as they are, or n from 128 on and one pixel that stands n - 126 times. Paper is
     * mostly white.
     */
    private static byte[] packed(ByteBuffer rgb) {
        int pixels = rgb.remaining() / 3;
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (int i = 0; i < pixels; ) {
            int run = 1;
            while (run < 129 && i + run < pixels && same(rgb, i, i + run)) {
                run++;
            }
            if (run > 1) {
                out.write(run + 126);
                pixel(out, rgb, i);
                i += run;
                continue;
            }
            int n = 1;
            while (n < 128 && i + n < pixels && !(i + n + 1 < pixels && same(rgb, i + n, i + n + 1))) {
                n++;
            }
            out.write(n - 1);
            for (int k = 0; k < n; k++) {
                pixel(out, rgb, i + k);
            }
            i += n;
        }
        return out.toByteArray();
    }

    private static boolean same(ByteBuffer rgb, int i, int j) {
        return rgb.get(3 * i) == rgb.get(3 * j) && rgb.get(3 * i + 1) == rgb.get(3 * j + 1) && rgb.get(3 * i + 2) == rgb.get(3 * j + 2);
    }

    private static void pixel(ByteArrayOutputStream out, ByteBuffer rgb, int i) {
        out.write(rgb.get(3 * i));
        out.write(rgb.get(3 * i + 1));
        out.write(rgb.get(3 * i + 2));
    }
}
