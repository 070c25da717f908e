package dev.jvlm.suite;

import dev.jvlm.Options.Precision;
import dev.jvlm.engine.Forward;
import dev.jvlm.image.Tiles;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.Prompt;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.PrimitiveIterator;

/**
 * A prompt and the answer that was recorded for it: its ids are fed one by one, whatever the engine would have chosen.
 *
 * @param tiles of all pictures
 * @param ids the answer
 */
record Forced(Prompt prompt, Tiles tiles, int rowsPerTile, int[] ids) {
    /** Disturbed runs that a bound is taken from, and how many standard deviations it is. */
    private static final int DRAWS = 3;

    private static final int DEVIATIONS = 5;

    /** Up to how many weights times tokens a case goes through the reference device, whose loops are plain: seconds each. */
    private static final double REFERENCE_WORK = 3e9;

    /** Of the cases that this process has met: one bound holds on every device, and deriving it takes longer than running the case. */
    private static final Map<String, Double> BOUNDS = new HashMap<>();

    static Forward open(Checkpoint checkpoint, String device, Precision precision, List<Forced> cases) {
        int context = cases.stream().mapToInt(c -> c.prompt.ids().length + c.ids.length).max().orElse(1);
        int rows = cases.stream().mapToInt(c -> c.prompt.rows()).max().orElse(0);
        return Forward.open(checkpoint, device, precision.label(), context, rows);
    }

    /**
     * For each case how far off a logit of the other precisions may be: five standard deviations of what their format does to the logits of
     * the most sensitive step. Errors are sums of very many small ones; beyond five deviations lies one of 1.7 million where they are
     * normal. How sensitive a step is shows in one run more than in another, so the case's worst stands for all.
     *
     * <p>The deviations are those of {@link FormatNoise}, and where a case is small enough those of the reference device (plain loops,
     * sums in double, the format's roundings and nothing else), whichever are larger. Both are about the same, over a case (0.8 to 1);
     * but true roundings differ from token to token, the noise does not, and a step whose attention weighs two keys is more
     * sensitive to the former.
     */
    static double[] bounds(Checkpoint checkpoint, Precision precision, List<Forced> cases) throws IOException {
        List<String> keys = cases.stream().map(c -> checkpoint.fingerprint() + " " + precision + " " + c.digest()).toList();
        Map<String, Forced> unknown = new LinkedHashMap<>();
        for (int i = 0; i < keys.size(); i++) {
            if (!BOUNDS.containsKey(keys.get(i))) {
                unknown.put(keys.get(i), cases.get(i));
            }
        }
        if (!unknown.isEmpty()) {
            PrimitiveIterator.OfDouble derived = Arrays.stream(derive(checkpoint, precision, List.copyOf(unknown.values()))).iterator();
            unknown.keySet().forEach(key -> BOUNDS.put(key, derived.nextDouble()));
        }
        return keys.stream().mapToDouble(BOUNDS::get).toArray();
    }

    private static double[] derive(Checkpoint checkpoint, Precision precision, List<Forced> cases) throws IOException {
        List<float[][]> exact = logits(checkpoint, "cpu", Precision.FLOAT32, cases);
        double[][] squares = new double[cases.size()][];
        Path file = Files.createTempFile("jvlm-noise", ".f32");
        try {
            for (int draw = 0; draw < DRAWS; draw++) {
                List<float[][]> disturbed =
                        logits(FormatNoise.disturbed(checkpoint, precision, draw, file), "cpu", Precision.FLOAT32, cases);
                for (int i = 0; i < squares.length; i++) {
                    double[] more = squares(exact.get(i), disturbed.get(i));
                    double[] sum = squares[i];
                    squares[i] = more;
                    Arrays.setAll(more, step -> more[step] / DRAWS + (sum == null ? 0 : sum[step]));
                }
            }
        } finally {
            Files.delete(file);
        }
        double parameters = checkpoint.blueprint().parameters();
        List<Forced> small = cases.stream().filter(c -> parameters * c.tokens() <= REFERENCE_WORK).toList();
        List<float[][]> rounded = small.isEmpty() ? List.of() : logits(checkpoint, "reference", precision, small);
        for (int i = 0; i < small.size(); i++) {
            int at = cases.indexOf(small.get(i));
            double[] more = squares(exact.get(at), rounded.get(i));
            double[] noise = squares[at];
            Arrays.setAll(noise, step -> Math.max(noise[step], more[step]));
        }
        return Arrays.stream(squares)
                .mapToDouble(steps -> DEVIATIONS * Math.sqrt(Arrays.stream(steps).max().orElse(0)))
                .toArray();
    }

    /** For each step the mean square of the differences. */
    private static double[] squares(float[][] a, float[][] b) {
        double[] squares = new double[a.length];
        for (int step = 0; step < a.length; step++) {
            for (int id = 0; id < a[step].length; id++) {
                double d = (double) a[step][id] - b[step][id];
                squares[step] += d * d / a[step].length;
            }
        }
        return squares;
    }

    private String digest() {
        return GoldenCase.sha256(prompt.ids()) + GoldenCase.sha256(ids) + GoldenCase.sha256(tiles.rgb().duplicate()) + tiles.shapes();
    }

    /** Of the prompt and of the pictures' patches, each of which passes about half of the weights. */
    private long tokens() {
        return (prompt.ids().length + ids.length + tiles.shapes().stream().mapToLong(s -> s.rows() * s.columns()).sum()) / 2;
    }

    private static List<float[][]> logits(Checkpoint checkpoint, String device, Precision precision, List<Forced> cases) {
        List<float[][]> all = new ArrayList<>();
        try (Forward forward = open(checkpoint, device, precision, cases)) {
            cases.forEach(c -> all.add(c.logits(forward, () -> {})));
        }
        return all;
    }

    /** The logits of every step, and of one more. */
    float[][] logits(Forward forward, Runnable afterPrompt) {
        forward.encode(tiles, rowsPerTile);
        float[][] logits = new float[ids.length + 1][];
        logits[0] = forward.prompt(prompt.ids(), prompt.visionRow());
        afterPrompt.run();
        for (int i = 0; i < ids.length; i++) {
            logits[i + 1] = forward.next(ids[i]);
        }
        return logits;
    }
}
