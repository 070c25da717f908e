package dev.jvlm.suite;

import static dev.jvlm.suite.GoldenCase.ints;

import dev.jvlm.Options.Precision;
import dev.jvlm.engine.Forward;
import dev.jvlm.engine.NativeResizer;
import dev.jvlm.image.Decoding;
import dev.jvlm.image.Image;
import dev.jvlm.image.TileShape;
import dev.jvlm.image.Tiler;
import dev.jvlm.image.Tiles;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.ModelSpec;
import dev.jvlm.model.Prompt;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.IntStream;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** Compares one family's cases: tiles, prompts, activations, logits, greedy answers. */
final class FamilyGoldens {
    /** Of a tensor's largest magnitude: what another order of float32 sums may change (tests/goldens/PROVENANCE.md). */
    private static final double FLOAT32 = 1e-4;
    /** Numbers in golden.json have five decimals. */
    private static final double PRINTED = 0.5e-5;
    /** Where the next two candidates are closer, two correct implementations may differ. */
    private static final double TIE = 0.004;

    private final Path family;
    private final Path images;
    private final Checkpoint checkpoint;
    private final String device;
    private final Precision precision;
    private final Differences differences;
    private final String name;
    private Map<String, Activations> recorded;
    private int steps;
    private int stepsWithMargin;
    private double leastBound = Double.POSITIVE_INFINITY;
    private double mostBound;

    /** One case, ready to be run. */
    record Ready(String as, JsonNode json, Forced forced) {}

    FamilyGoldens(Path family, Path images, Checkpoint checkpoint, String device, Precision precision, Differences differences) {
        this.family = family;
        this.images = images;
        this.checkpoint = checkpoint;
        this.device = device;
        this.precision = precision;
        this.differences = differences;
        this.name = family.getFileName().toString();
    }

    /** Runs all cases; returns how many. */
    int run() throws IOException {
        recorded = Activations.read(family);
        JsonNode golden = new ObjectMapper().readTree(family.resolve("golden.json").toFile());
        for (JsonNode text : golden.path("tokenizer")) {
            int[] ids = checkpoint.tokenizer().encode(text.path("text").asString());
            differences.sameIds(name + " tokenizer " + text.path("text"), ids, ints(text.path("ids")));
        }
        List<Ready> cases = new ArrayList<>();
        for (JsonNode c : golden.path("cases")) {
            cases.add(prepare(name + " case " + cases.size(), c));
        }
        List<Forced> forced = cases.stream().map(Ready::forced).toList();
        double[] bounds = precision == Precision.FLOAT32 ? null : Forced.bounds(checkpoint, precision, forced);
        try (Forward forward = Forced.open(checkpoint, device, precision, forced)) {
            for (int i = 0; i < cases.size(); i++) {
                Ready c = cases.get(i);
                if (precision == Precision.FLOAT32) {
                    forward.record(i == 0 ? "*" : "connector");
                }
                boolean first = i == 0;
                float[][] logits = c.forced.logits(forward, () -> {
                    if (precision == Precision.FLOAT32) {
                        connectorSamples(c, forward.recorded("connector"));
                        if (first) {
                            activations(forward);
                        }
                        forward.record("");
                    }
                });
                answer(c, logits, bounds == null ? 0 : bounds[i] + PRINTED);
            }
        }
        return cases.size();
    }

    Ready prepare(String as, JsonNode c) throws IOException {
        List<String> files = GoldenCase.pictures(c);
        List<Image> pictures = new ArrayList<>();
        for (String file : files) {
            pictures.add(Image.decode(Files.readAllBytes(images.resolve(file)), Decoding.REFERENCE));
        }
        Tiler tiler = GoldenCase.tiler(c, checkpoint);
        List<List<TileShape>> shapes = tiler.plan(pictures.stream().map(Image::size).toList());
        List<TileShape> allShapes = shapes.stream().flatMap(List::stream).toList();
        ByteBuffer all = ByteBuffer.allocateDirect(allShapes.stream().mapToInt(s -> (int) s.bytes()).sum());
        List<String> digests = new ArrayList<>();
        for (int i = 0; i < pictures.size(); i++) {
            Tiles tiles = tiler.cut(pictures.get(i), shapes.get(i), NativeResizer.INSTANCE);
            for (int t = 0; t < tiles.count(); t++) {
                digests.add(GoldenCase.sha256(tiles.rgb(t, 1)));
                String expected = c.has("pixels_sha256")
                        ? c.path("pixels_sha256").path(digests.size() - 1).asString("none")
                        : c.path("tiles_sha256").path(i).path(t).asString("none");
                differences.same(as + " picture " + i + " (" + files.get(i) + ") tile " + t, digests.get(digests.size() - 1), expected);
            }
            all.put(tiles.rgb());
        }
        if (c.has("pixels_sha256")) {
            differences.sameIds(as + " heights and widths", allShapes.stream().flatMapToInt(s -> IntStream.of(s.height(), s.width())).toArray(),
                    pairs(c.path("valid_hw")));
            differences.sameIds(as + " rows and columns", allShapes.stream().flatMapToInt(s -> IntStream.of(s.rows(), s.columns())).toArray(),
                    pairs(c.path("patch_valid")));
        } else {
            differences.sameIds(as + " tiles of each picture", shapes.stream().mapToInt(List::size).toArray(), ints(c.path("tiles")));
        }
        int perTile = checkpoint.blueprint().spec().rowsPerTile();
        GoldenCase conversation = GoldenCase.of(c, pictures);
        int[] rows = shapes.stream().mapToInt(s -> s.size() * perTile).toArray();
        Prompt prompt = conversation.prompt(c, checkpoint, rows);
        differences.sameIds(as + " prompt", prompt.ids(), GoldenCase.ids(c));
        differences.same(as + " prompt's length", prompt.ids().length, c.path("length").asInt());
        if (c.has("ids_sha256")) {
            differences.same(as + " prompt's digest", GoldenCase.sha256(prompt.ids()), c.path("ids_sha256").asString());
        }
        return new Ready(as, c, new Forced(prompt, new Tiles(all.clear(), allShapes), perTile, ints(c.path("greedy_ids"))));
    }

    private static int[] pairs(JsonNode list) {
        return list.valueStream().flatMapToInt(pair -> Arrays.stream(ints(pair))).toArray();
    }

    private void connectorSamples(Ready c, float[] connector) {
        int perTile = c.forced.rowsPerTile();
        int count = c.forced.tiles().count();
        int[] rows = checkpoint.blueprint().spec().connector() instanceof ModelSpec.Perceiver
                ? new int[] {0, 31, 63}
                : new int[] {0, Math.min(perTile / 2 + 3, perTile - 1)};
        JsonNode samples = c.json.path("connector_samples");
        int width = checkpoint.blueprint().spec().decoder().hidden();
        float[] got = new float[rows.length * count * 6];
        float[] expected = new float[got.length];
        if (samples.size() != rows.length * count) {
            differences.add(c.as + " connector_samples", samples.size() + " recorded, " + rows.length * count + " needed");
            return;
        }
        for (int i = 0; i < samples.size(); i++) {
            int row = i / rows.length * perTile + rows[i % rows.length];
            for (int k = 0; k < 6; k++) {
                got[6 * i + k] = connector[row * width + k];
                expected[6 * i + k] = samples.get(i).get(k).floatValue();
            }
        }
        differences.near("connector_samples", c.as + " connector_samples", got, expected, FLOAT32 * largest(connector) + PRINTED,
                i -> "tile " + i / 6 / rows.length + " row " + rows[i / 6 % rows.length] + " column " + i % 6);
    }

    private void activations(Forward forward) {
        for (Map.Entry<String, Activations> e : recorded.entrySet()) {
            String tensor = e.getKey();
            Activations expected = e.getValue();
            String as = name + " case 0 " + tensor;
            float[] got = forward.recorded(tensor);
            int size = Arrays.stream(expected.shape()).reduce(1, Math::multiplyExact);
            if (got.length != size) {
                differences.add(as, got.length + " numbers instead of " + size);
                continue;
            }
            String kind = tensor.replaceAll("\\.\\d+$", ".N");
            differences.near(kind, as, expected.pick(got), expected.stored(), FLOAT32 * largest(expected.stored()), expected::place);
            // Errors of an element average out, so the sums stay within the same part of the sum of magnitudes.
            double sum = 0;
            double abs = 0;
            double squares = 0;
            for (float x : got) {
                sum += x;
                abs += Math.abs(x);
                squares += (double) x * x;
            }
            sum(as, "sum", sum, expected.sum(), expected.abs());
            sum(as, "absolute sum", abs, expected.abs(), expected.abs());
            sum(as, "l2", Math.sqrt(squares), expected.l2(), expected.l2());
        }
    }

    private void sum(String as, String what, double got, double expected, double magnitude) {
        differences.near("sums", as, new float[] {(float) ((got - expected) / magnitude)}, new float[] {0}, FLOAT32,
                i -> what + " (" + got + ", recorded " + expected + "): the relative difference");
    }

    private void answer(Ready c, float[][] logits, double bound) {
        int[] recorded = c.forced.ids();
        for (int i = 0; i < recorded.length; i++) {
            step(c.as + " step " + i, c.json.path("steps").path(i), logits[i], recorded[i], bound);
        }
        if (precision == Precision.FLOAT32 && c.json.path("stop").asString().equals("tie")) {
            float[] next = logits[recorded.length];
            float[] sorted = allowed(next);
            Arrays.sort(sorted);
            double margin = sorted[sorted.length - 1] - sorted[sorted.length - 2];
            if (margin > TIE + 2 * FLOAT32 * largest(next)) {
                differences.add(c.as + " step " + recorded.length, "is no tie as recorded, the margin is " + margin);
            }
        }
        differences.same(c.as + " text", checkpoint.tokenizer().decode(recorded), c.json.path("greedy_text").asString());
        boolean ends = recorded.length > 0 && checkpoint.stopIds().contains(recorded[recorded.length - 1]);
        String stop = ends ? "eos" : recorded.length == c.json.path("max_new").asInt() ? "limit" : "tie";
        differences.same(c.as + " stop", stop, c.json.path("stop").asString());
    }

    private void step(String as, JsonNode recorded, float[] logits, int expectedId, double bound) {
        steps++;
        int[] ids = ints(recorded.path("ids"));
        float[] got = new float[ids.length];
        float[] expected = new float[ids.length];
        for (int k = 0; k < ids.length; k++) {
            got[k] = logits[ids[k]];
            expected[k] = recorded.path("logits").get(k).floatValue();
        }
        double tolerance = precision == Precision.FLOAT32 ? FLOAT32 * largest(logits) + PRINTED : bound;
        differences.near("logits", as + " logits", got, expected, tolerance, k -> "id " + ids[k]);
        float[] allowed = allowed(logits);
        int best = 0;
        for (int id = 1; id < allowed.length; id++) {
            best = allowed[id] > allowed[best] ? id : best;
        }
        double margin = recorded.path("margin").asDouble();
        if (precision != Precision.FLOAT32) {
            leastBound = Math.min(leastBound, bound);
            mostBound = Math.max(mostBound, bound);
            if (margin <= 2 * bound) {
                return;
            }
        }
        stepsWithMargin++;
        if (best != expectedId) {
            differences.add(as, "id " + best + " instead of " + expectedId + ", recorded margin " + margin);
        }
    }

    /** Without what is never generated. */
    private float[] allowed(float[] logits) {
        float[] allowed = logits.clone();
        checkpoint.bannedIds().forEach(id -> allowed[id] = Float.NEGATIVE_INFINITY);
        return allowed;
    }

    private static double largest(float[] values) {
        double largest = 0;
        for (float v : values) {
            largest = Math.max(largest, Math.abs(v));
        }
        return largest;
    }

    String summary() {
        return precision == Precision.FLOAT32
                ? steps + " steps"
                : String.format(Locale.ROOT,
                        "%d steps, logits bounded by %.3g to %.3g, best id demanded in the %d steps with a margin of twice that",
                        steps, leastBound, mostBound, stepsWithMargin);
    }
}
