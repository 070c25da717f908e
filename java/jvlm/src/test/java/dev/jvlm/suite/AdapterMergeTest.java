package dev.jvlm.suite;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import dev.jvlm.Options.Precision;
import dev.jvlm.engine.Forward;
import dev.jvlm.error.JvlmException;
import dev.jvlm.model.AdapterVectors;
import dev.jvlm.model.Blueprint;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.Manifest;
import dev.jvlm.model.PeftFolder;
import dev.jvlm.model.SeededWeights;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** A model with an adapter computes what the model does whose weights the formula was applied to beforehand. */
class AdapterMergeTest {
    private static final Path ROOT = Path.of(System.getProperty("jvlm.root"));
    private static final Path GOLDENS = ROOT.resolve("tests/goldens");
    private static final String TABLE = "decoder.embed.weight";

    /** A seeded checkpoint of each family that there are goldens of. */
    private static Stream<Path> families() throws IOException {
        try (Stream<Path> all = Files.list(GOLDENS)) {
            return all.filter(family -> Files.exists(family.resolve("weights.json"))).sorted().toList().stream();
        }
    }

    private static Stream<Arguments> familiesAndPrecisions() throws IOException {
        return families().flatMap(family -> Arrays.stream(Precision.values()).map(precision -> Arguments.of(family, precision)));
    }

    /** The logits of the family's shortest case with a picture. */
    private static float[][] logits(Path family, Checkpoint checkpoint, Precision precision) throws IOException {
        JsonNode shortest = new ObjectMapper().readTree(family.resolve("golden.json").toFile()).path("cases").valueStream()
                .filter(c -> !GoldenCase.pictures(c).isEmpty())
                .min(Comparator.comparingInt(c -> c.path("length").asInt()))
                .orElseThrow();
        FamilyGoldens goldens =
                new FamilyGoldens(family, GOLDENS.resolve("images"), checkpoint, "cpu", precision, new Differences(System.out));
        Forced forced = goldens.prepare("the shortest case", shortest).forced();
        try (Forward forward = Forced.open(checkpoint, "cpu", precision, List.of(forced))) {
            return forced.logits(forward, () -> {});
        }
    }

    /** The adapter's numbers are such that merging is exact, so that what follows it (packing, rounding, int8) must give the same too. */
    @Tag("full")
    @ParameterizedTest
    @MethodSource("familiesAndPrecisions")
    void loraGivesTheLogitsOfTheMergedModelToTheBit(Path family, Precision precision, @TempDir Path folder) throws IOException {
        Path base = SeededWeights.build(family, folder.resolve("base"));
        Checkpoint plain = Checkpoint.open(base);
        List<String> linear = PeftFolder.linear(plain);
        PeftFolder adapter = PeftFolder.on(base, linear, false, 11);
        assertThat(adapter.tensors).hasSize(2 * linear.size());
        float[][] got = logits(family, Checkpoint.open(base, adapter.write(folder.resolve("adapter"))), precision);
        float[][] merged = logits(family, Checkpoint.open(adapter.merge(base, folder.resolve("merged"))), precision);
        assertThat(got).isDeepEqualTo(merged);
        assertThat(farthest(got, logits(family, plain, precision))).isGreaterThan(0.1 * largest(merged));
    }

    @Tag("full")
    @ParameterizedTest
    @MethodSource("families")
    void doraGivesTheLogitsOfTheMergedModel(Path family, @TempDir Path folder) throws IOException {
        Path base = SeededWeights.build(family, folder.resolve("base"));
        List<String> linear = PeftFolder.linear(Checkpoint.open(base));
        PeftFolder adapter = PeftFolder.on(base, linear, true, 12);
        assertThat(adapter.tensors).hasSize(3 * linear.size());
        float[][] got = logits(family, Checkpoint.open(base, adapter.write(folder.resolve("adapter"))), Precision.FLOAT32);
        float[][] merged = logits(family, Checkpoint.open(adapter.merge(base, folder.resolve("merged"))), Precision.FLOAT32);
        // Weights differ in their last digit, as activations do that are summed in another order: tests/goldens/PROVENANCE.md.
        assertThat(farthest(got, merged)).isLessThanOrEqualTo(1e-4 * largest(merged));
        PeftFolder lora = PeftFolder.on(base, linear, false, 12);
        float[][] without = logits(family, Checkpoint.open(base, lora.write(folder.resolve("lora"))), Precision.FLOAT32);
        assertThat(farthest(got, without)).isGreaterThan(0.1 * largest(merged));
    }

    private static double farthest(float[][] a, float[][] b) {
        double most = 0;
        for (int step = 0; step < a.length; step++) {
            for (int id = 0; id < a[step].length; id++) {
                double d = Math.abs((double) a[step][id] - b[step][id]);
                most = d <= most ? most : d; // a NaN stays
            }
        }
        return most;
    }

    private static double largest(float[][] logits) {
        double most = 0;
        for (float[] step : logits) {
            for (float x : step) {
                most = Math.max(most, Math.abs(x));
            }
        }
        return most;
    }

    // ---- one matrix ---------------------------------------------------------------------------------------------------------------

    private static final int COLUMNS = 64;
    private static final int RANK = 3;

    /** A, B, m and W of a table of so many rows, in one file. */
    private record Matrix(float[] a, float[] b, float[] m, float[] w) {
        static Matrix random(int rows) {
            Random random = new Random(rows);
            return new Matrix(floats(random, RANK * COLUMNS), floats(random, rows * RANK), floats(random, rows), floats(random, rows * COLUMNS));
        }

        private static float[] floats(Random random, int count) {
            float[] values = new float[count];
            for (int i = 0; i < count; i++) {
                values[i] = random.nextFloat() - 0.5f;
            }
            return values;
        }

        /** A model whose token table is W with the rest merged into it. */
        Checkpoint write(Path file, boolean dora) throws IOException {
            ByteBuffer bytes = ByteBuffer.allocate(4 * (a.length + b.length + m.length + w.length)).order(ByteOrder.LITTLE_ENDIAN);
            for (float[] part : List.of(a, b, m, w)) {
                for (float x : part) {
                    bytes.putFloat(x);
                }
            }
            Files.write(file, bytes.array());
            Blueprint blueprint = AdapterVectors.model(ROOT.resolve("weights/nano/config.json"), m.length, COLUMNS);
            List<Manifest.Piece> pieces = new ArrayList<>(Manifest.seeded(blueprint.weights(), 1).pieces());
            pieces.removeIf(p -> p.target().equals(TABLE));
            long behindA = 4L * a.length;
            long behindB = behindA + 4L * b.length;
            long behindM = behindB + 4L * m.length;
            pieces.add(new Manifest.Piece(TABLE, 0, m.length, COLUMNS, "F32", file.toString(), behindM));
            Manifest.Update update = new Manifest.Update(TABLE, 0, RANK, 1.5, file.toString(), new Manifest.Numbers("F32", 0),
                    new Manifest.Numbers("F32", behindA), dora ? new Manifest.Numbers("F32", behindB) : null);
            return new Checkpoint(blueprint, null, new Manifest(pieces, List.of(update)), List.of(), List.of(), "", List.of(), "");
        }
    }

    /** Weights are read 16 MiB at a time; the rows of B and m go with them. */
    @Test
    void rowsBehindTheFirstChunkGetTheirOwnUpdate(@TempDir Path folder) throws IOException {
        int perChunk = (16 << 20) / (4 * COLUMNS);
        Matrix matrix = Matrix.random(perChunk + 1001);
        int[] ids = {0, 1, perChunk - 1, perChunk, perChunk + 1, perChunk + 1000};
        float[] got;
        try (Forward forward = Forward.open(matrix.write(folder.resolve("numbers"), true), "cpu", "float32", ids.length, 0)) {
            forward.record("decoder.embed");
            forward.prompt(ids, new int[] {-1, -1, -1, -1, -1, -1});
            got = forward.recorded("decoder.embed");
        }
        assertThat(got).hasSize(ids.length * COLUMNS);
        for (int i = 0; i < ids.length; i++) {
            double[] v = new double[COLUMNS];
            double squares = 0;
            for (int c = 0; c < COLUMNS; c++) {
                v[c] = matrix.w[ids[i] * COLUMNS + c];
                for (int r = 0; r < RANK; r++) {
                    v[c] += 1.5 * matrix.b[ids[i] * RANK + r] * matrix.a[r * COLUMNS + c];
                }
                squares += v[c] * v[c];
            }
            for (int c = 0; c < COLUMNS; c++) {
                double expected = matrix.m[ids[i]] * v[c] / Math.sqrt(squares);
                // V's terms are below 0.5 + 3 * 1.5 / 4 and rounded fewer than ten times; m / ||V|| is below 0.5 / ||V||.
                assertThat((double) got[i * COLUMNS + c]).as("row %d, column %d", ids[i], c)
                        .isCloseTo(expected, within(10 * 0x1p-24 * 1.625 * 0.5 / Math.sqrt(squares)));
            }
        }
    }

    @Test
    void whatBecomesNoNumberIsRefused(@TempDir Path folder) throws IOException {
        Matrix notANumber = Matrix.random(5);
        notANumber.a[COLUMNS + 1] = Float.NaN;
        Matrix infinite = Matrix.random(5);
        infinite.m[4] = Float.POSITIVE_INFINITY;
        Matrix noLength = Matrix.random(5);
        Arrays.fill(noLength.b, 0);
        Arrays.fill(noLength.w, 2 * COLUMNS, 3 * COLUMNS, 0);
        assertRefused(notANumber.write(folder.resolve("a"), false));
        assertRefused(notANumber.write(folder.resolve("b"), true));
        assertRefused(infinite.write(folder.resolve("c"), true));
        assertRefused(noLength.write(folder.resolve("d"), true));
        Forward.open(infinite.write(folder.resolve("e"), false), "cpu", "float32", 8, 0).close();
        Forward.open(noLength.write(folder.resolve("f"), false), "cpu", "float32", 8, 0).close();
    }

    @Test
    void anUpdateOfNoPieceIsRefused(@TempDir Path folder) throws IOException {
        Checkpoint checkpoint = Matrix.random(5).write(folder.resolve("numbers"), false);
        Manifest.Update u = checkpoint.manifest().updates().get(0);
        Manifest.Update shifted = new Manifest.Update(u.target(), 1, u.rank(), u.scale(), u.file(), u.a(), u.b(), null);
        for (List<Manifest.Update> updates : List.of(List.of(shifted), List.of(u, u))) {
            Checkpoint wrong = new Checkpoint(checkpoint.blueprint(), null, new Manifest(checkpoint.manifest().pieces(), updates), List.of(), List.of(), "",
                    List.of(), "");
            assertThatThrownBy(() -> Forward.open(wrong, "cpu", "float32", 8, 0).close())
                    .isInstanceOf(JvlmException.class)
                    .hasMessageContaining("belongs to no piece of its own");
        }
    }

    private static void assertRefused(Checkpoint checkpoint) {
        assertThatThrownBy(() -> Forward.open(checkpoint, "cpu", "float32", 8, 0).close())
                .isInstanceOf(JvlmException.class)
                .hasMessage("The adapter turns weights of " + TABLE + " into what is no finite number; it is damaged or belongs to another model")
                .extracting("code")
                .isEqualTo(JvlmException.Code.MODEL_FORMAT);
    }
}
