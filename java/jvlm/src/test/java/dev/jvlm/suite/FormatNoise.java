package dev.jvlm.suite;

import dev.jvlm.Options.Precision;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.Manifest;
import dev.jvlm.model.Manifest.Piece;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.IntUnaryOperator;

/**
 * What the bf16 and int8 formats do to a model's logits, without running either: the float32 path over weights that are disturbed as the
 * format's roundings disturb the products. It is what the bounds on logits of those precisions are derived from.
 *
 * <p>With bf16, numbers are rounded where they pass between operations (native/ops/ops.h): the input of every product, and queries,
 * keys and values behind theirs. Eight significant bits, to nearest: a number m 2^e, 1 <= m < 2, gets an error uniform in [-1, 1] 2^-8 2^e, which
 * relative to it has the mean square 2^-16 / 3 / m^2; over mantissas, which are distributed as 1/m, that is 2^-16 / 3 times 3 / (8 ln 2),
 * so 0.735 2^-8 / sqrt(3) in the root. Rounding the input x of a product y = W x is the same as an error of each column of W; rounding
 * its output, of each row. So each product gets one such factor a column, and those of queries, keys and values factors a row as well. Softmax's
 * weights are rounded when they meet values: where one key has nearly all of the weight, that is an error of its value, so values get one factor a
 * row more. The residual stream and sums are float32 and stay undisturbed. The factors are the same for all tokens, where true roundings
 * differ from token to token.
 *
 * <p>With int8, the weights that are quantised are replaced by what the format makes of them (models.md 1.10: scale = max|w| / 127 of the
 * row, to the nearest, ties to even) and then disturbed as with bf16, for activations stay bf16.
 */
final class FormatNoise {
    /** Of one rounding, relative: uniform within plus or minus this. */
    private static final double AMPLITUDE = 0x1p-8 * Math.sqrt(3 / (8 * Math.log(2)));

    private FormatNoise() {}

    /** Whether activations are rounded before they meet this weight. */
    private static boolean isProduct(String target) {
        return target.endsWith(".attn.qkv.weight") // the normalised input
                || target.endsWith(".attn.q.weight") // of a perceiver, as the next
                || target.endsWith(".attn.kv.weight")
                || target.startsWith("connector.projection.")
                || target.endsWith(".attn.out.weight") // the attention's output
                || target.endsWith(".mlp.up.weight")
                || target.endsWith(".mlp.gate_up.weight")
                || target.endsWith(".mlp.down.weight") // behind the activation
                || target.equals("vision.patch.weight") // pixels
                || target.equals("connector.up.weight")
                || target.equals("connector.down.weight")
                || target.equals("decoder.head.weight");
    }

    /**
     * How often an output is rounded: queries, keys and values once; queries and keys once more in the decoder, where they are rotated; values once
     * more for the weights that they meet.
     */
    private static int outputRoundings(String target, long row, long rows) {
        if (target.endsWith(".attn.q.weight")) {
            return 1;
        }
        if (target.endsWith(".attn.kv.weight")) {
            return row < rows / 2 ? 1 : 2;
        }
        if (!target.endsWith(".attn.qkv.weight")) {
            return 0;
        }
        return target.startsWith("decoder.") || row >= rows / 3 * 2 ? 2 : 1;
    }

    private static boolean hasQkNorms(Checkpoint c) {
        return c.manifest().pieces().stream().anyMatch(p -> p.target().equals("vision.0.attn.q_norm.weight"));
    }

    private static boolean quantised(String target) {
        return target.startsWith("decoder.") && isProduct(target);
    }

    /**
     * A copy of a checkpoint whose products are disturbed.
     *
     * @param file an existing file that gets the weights, as float32
     */
    static Checkpoint disturbed(Checkpoint c, Precision format, long seed, Path file) throws IOException {
        List<Piece> pieces = new ArrayList<>();
        try (FileChannel out = FileChannel.open(file, StandardOpenOption.WRITE, StandardOpenOption.TRUNCATE_EXISTING)) {
            for (Piece piece : c.manifest().pieces()) {
                if (!isProduct(piece.target())) {
                    pieces.add(piece);
                    continue;
                }
                float[] w = read(piece);
                if (format == Precision.INT8 && quantised(piece.target())) {
                    quantise(w, Math.toIntExact(piece.columns()));
                } else {
                    for (int i = 0; i < w.length; i++) {
                        w[i] = bf16(w[i]);
                    }
                }
                // Pieces of one target have one input, so one seed; where they begin differs, and so do their rows' factors.
                int columns = Math.toIntExact(piece.columns());
                double[] column = factors(columns, i -> 1, new Random(seed * 1_000_003 + piece.target().hashCode()));
                long rows = c.manifest().pieces().stream().filter(p -> p.target().equals(piece.target())).mapToLong(Piece::rows).sum();
                double[] row = factors(Math.toIntExact(piece.rows()), i -> outputRoundings(piece.target(), piece.firstRow() + i, rows),
                        new Random(seed * 1_000_003 + piece.target().hashCode() + 1 + piece.firstRow()));
                if (piece.target().startsWith("vision.") && piece.target().endsWith(".attn.qkv.weight") && hasQkNorms(c)) {
                    // Queries and keys, as wide as the input each, are rounded again when they have been normalised.
                    double[] again = factors(2 * columns, i -> 1, new Random(seed * 1_000_003 + piece.target().hashCode() - 1));
                    for (int i = 0; i < again.length; i++) {
                        row[i] *= again[i];
                    }
                }
                ByteBuffer bytes = ByteBuffer.allocate(4 * w.length).order(ByteOrder.LITTLE_ENDIAN);
                for (int i = 0; i < w.length; i++) {
                    bytes.putFloat((float) (w[i] * row[i / columns] * column[i % columns]));
                }
                pieces.add(new Piece(
                        piece.target(), piece.firstRow(), piece.rows(), piece.columns(), "F32", file.toString(), out.position()));
                bytes.flip();
                while (bytes.hasRemaining()) {
                    out.write(bytes);
                }
            }
        }
        return new Checkpoint(c.blueprint(), c.tokenizer(), new Manifest(pieces), c.stopIds(), c.bannedIds(), c.ocrQuestion(), c.notes(),
                c.fingerprint());
    }

    private static double[] factors(int count, IntUnaryOperator roundings, Random random) {
        double[] factors = new double[count];
        for (int i = 0; i < count; i++) {
            factors[i] = 1;
            for (int r = 0; r < roundings.applyAsInt(i); r++) {
                factors[i] *= 1 + AMPLITUDE * (2 * random.nextDouble() - 1);
            }
        }
        return factors;
    }

    private static float[] read(Piece piece) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(Math.toIntExact(piece.bytes())).order(ByteOrder.LITTLE_ENDIAN);
        try (FileChannel in = FileChannel.open(Path.of(piece.file()))) {
            while (bytes.hasRemaining() && in.read(bytes, piece.offset() + bytes.position()) >= 0) {}
        }
        bytes.flip();
        float[] w = new float[Math.toIntExact(piece.rows() * piece.columns())];
        for (int i = 0; i < w.length; i++) {
            w[i] = switch (piece.dtype()) {
                case "BF16" -> Float.intBitsToFloat(bytes.getShort() << 16);
                case "F32" -> bytes.getFloat();
                case "F16" -> half(bytes.getShort());
                default -> throw new IOException("a weight of dtype " + piece.dtype());
            };
        }
        return w;
    }

    private static float half(short bits) {
        int exponent = bits >> 10 & 31;
        int mantissa = bits & 1023;
        float magnitude = exponent == 0 ? mantissa * 0x1p-24f : Math.scalb(1 + mantissa * 0x1p-10f, exponent - 15);
        return bits < 0 ? -magnitude : magnitude;
    }

    static float bf16(float x) {
        int bits = Float.floatToRawIntBits(x);
        return Float.intBitsToFloat(bits + 0x7fff + (bits >>> 16 & 1) & 0xffff0000);
    }

    /** To eight bits a row and back. */
    static void quantise(float[] w, int columns) {
        for (int row = 0; row < w.length; row += columns) {
            float most = 0;
            for (int i = row; i < row + columns; i++) {
                most = Math.max(most, Math.abs(w[i]));
            }
            float scale = most / 127;
            for (int i = row; i < row + columns; i++) {
                w[i] = scale == 0 ? 0 : (float) Math.rint(w[i] / scale) * scale;
            }
        }
    }
}
