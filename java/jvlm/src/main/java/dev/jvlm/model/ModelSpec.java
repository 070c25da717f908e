package dev.jvlm.model;

/**
 * The shape of a model in canonical terms: what native code gets as {@code spec}, one {@code key value...} a line
 * ({@code native/model/spec.h}).
 */
public record ModelSpec(Vision vision, Connector connector, Decoder decoder) {
    public enum Norm { LAYER_NORM, RMS_NORM }

    public enum Activation { GELU, GELU_TANH, SILU }

    /** A vision transformer over square tiles of {@code image} pixels. {@code layers} are those that run. */
    public record Vision(int hidden, int heads, int headSize, int mlp, int layers, int patch, int image, Norm norm, double eps,
            Activation activation, double[] mean, double[] std) {
        /** Patches a side. */
        public int grid() {
            return image / patch;
        }
    }

    /** Pixel shuffle by two, LayerNorm, Linear, GELU, Linear. */
    public record Connector(double eps) {}

    /** @param window sliding window in tokens, 0 for none; @param context the most positions that the model allows */
    public record Decoder(int hidden, int heads, int kvHeads, int headSize, int mlp, int layers, int vocabulary, double eps,
            double ropeTheta, int window, int context, Activation activation) {}

    /** Vision rows that one tile becomes. */
    public int rowsPerTile() {
        return (vision.grid() / 2) * (vision.grid() / 2);
    }
}
