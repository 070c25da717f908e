package dev.jvlm.cli;

import dev.jvlm.Options.Precision;
import dev.jvlm.model.ModelSpec;

/**
 * What the stages of a model must do at least: floating-point operations (a multiplication and an addition are two) where arithmetic is the
 * limit, bytes read where memory is. Norms, activations, softmax and rope are left out: they are below one percent of the operations.
 */
final class Work {
    private static final int TILES = 7;

    private final ModelSpec spec;

    Work(ModelSpec spec) {
        this.spec = spec;
    }

    /**
     * Operations of the tower and the connector over tiles, the largest possible, of T = G² (+ 1) tokens: a layer's products 2 T (4 h² + 2 h mlp) and its attention
     * 4 T² h; the patches 2 G² h 3 p².
     */
    double vision(int tiles) {
        return tiles * picture(spec.vision().grid());
    }

    /** The same over the pictures of a prompt: a page of 6 tiles and its thumbnail, or with a perceiver a page as large as can be and its quarters. */
    double page() {
        int grid = spec.vision().grid();
        return perceives() ? picture(grid) + 4 * picture(grid / 2) : vision(TILES);
    }

    /** Their rows in the prompt. */
    int promptRows() {
        return (perceives() ? 5 : TILES) * spec.rowsPerTile();
    }

    private boolean perceives() {
        return spec.connector() instanceof ModelSpec.Perceiver;
    }

    /** A picture of {@code grid} patches a side. */
    private double picture(int grid) {
        ModelSpec.Vision v = spec.vision();
        double h = v.hidden();
        double patches = (double) grid * grid;
        double tokens = patches + v.tokens() - v.grid() * v.grid(); // With the class token, where there is one.
        double layer = 2 * tokens * (4 * h * h + 2 * h * v.mlp()) + 4 * tokens * tokens * h;
        return v.layers() * layer + 2 * patches * h * 3 * v.patch() * v.patch() + rows(patches);
    }

    /**
     * Operations over R rows a tile: 2 R (4 h H + H²) with pixel shuffle. A perceiver projects G² patches, 2 G² p (2 h + H), and a layer has
     * products over the rows and, for keys and values, over K = G² + R: 2 (2 R q H + 2 K kv H + 3 R H mlp), and attention 4 R K q.
     */
    double connector(int tiles) {
        return tiles * rows((double) spec.vision().grid() * spec.vision().grid());
    }

    /** The connector over one picture. */
    private double rows(double patches) {
        double h = spec.decoder().hidden();
        double rows = spec.rowsPerTile();
        if (!(spec.connector() instanceof ModelSpec.Perceiver p)) {
            return 2.0 * rows * (4.0 * spec.vision().hidden() * h + h * h);
        }
        double keys = patches + rows;
        double q = (double) p.heads() * p.headSize();
        double kv = (double) p.kvHeads() * p.headSize();
        double layer = 2 * (2 * rows * q * h + 2 * keys * kv * h + 3 * rows * h * p.mlp()) + 4 * rows * keys * q;
        return 2 * patches * p.projection() * (2.0 * spec.vision().hidden() + h) + p.layers() * layer;
    }

    /** Operations of a prompt of n tokens: 2 n times the decoder's matrices, causal attention 4 heads D n (n + 1) / 2 a layer, the last token's logits. */
    double prefill(int tokens) {
        ModelSpec.Decoder d = spec.decoder();
        double attention = 4.0 * d.heads() * d.headSize() * tokens * (tokens + 1.0) / 2;
        return 2.0 * tokens * matrices() + d.layers() * attention + 2.0 * head();
    }

    /**
     * Bytes that one step reads: each weight of the decoder once, and keys and values of {@code context} tokens for each sequence.
     *
     * @param context tokens in the cache, on average over the steps measured
     */
    double decode(int sequences, double context, Precision precision) {
        ModelSpec.Decoder d = spec.decoder();
        double cached = 2.0 * d.layers() * d.kvHeads() * d.headSize() * context * (precision == Precision.FLOAT32 ? 4 : 2);
        double weights = switch (precision) {
            case FLOAT32 -> 4 * (matrices() + head());
            case BF16 -> 2 * (matrices() + head());
            case INT8 -> matrices() + head() + 4 * matrixRows(); // a float32 scale a row
        };
        return weights + sequences * cached;
    }

    /** Numbers in the matrices of all layers of the decoder. */
    private double matrices() {
        ModelSpec.Decoder d = spec.decoder();
        double h = d.hidden();
        return d.layers() * (h * (d.heads() + 2.0 * d.kvHeads()) * d.headSize() + h * d.heads() * d.headSize() + 3 * h * d.mlp());
    }

    private double matrixRows() {
        ModelSpec.Decoder d = spec.decoder();
        return d.layers() * ((d.heads() + 2.0 * d.kvHeads()) * d.headSize() + 2.0 * d.hidden() + 2.0 * d.mlp()) + d.vocabulary();
    }

    private double head() {
        return (double) spec.decoder().vocabulary() * spec.decoder().hidden();
    }
}
