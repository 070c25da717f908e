package dev.jvlm.model;

import java.util.Arrays;
import java.util.Locale;
import java.util.StringJoiner;
import java.util.stream.Collectors;

/**
 * The shape of a model in canonical terms: what native code gets as {@code spec}, one {@code key value...} a line
 * ({@code native/model/spec.h}).
 */
public record ModelSpec(Vision vision, Connector connector, Decoder decoder) {
    public enum Norm { LAYER_NORM, RMS_NORM }

    public enum Activation { GELU, GELU_TANH, SILU }

    /**
     * A vision transformer over pictures of at most {@code image} pixels a side. {@code layers} are those that run; mean and std are what
     * pixels from 0 to 1 are normalised by, per channel.
     */
    public record Vision(int hidden, int heads, int headSize, int mlp, int layers, int patch, int image, boolean classToken, Norm norm,
            double eps, Activation activation, double[] mean, double[] std) {
        /** Patches a side. */
        public int grid() {
            return image / patch;
        }

        /** Tokens of the largest picture. */
        public int tokens() {
            return (classToken ? 1 : 0) + grid() * grid();
        }
    }

    /** What makes the decoder's rows out of a picture's patches. */
    public sealed interface Connector permits PixelShuffle, Perceiver {
        double eps();
    }

    /** Pixel shuffle by two, LayerNorm, Linear, GELU, Linear. */
    public record PixelShuffle(double eps) implements Connector {}

    /**
     * A gated projection of the patches to the decoder's width, then {@code layers} in which {@code latents} learned rows look at them and at
     * each other.
     *
     * @param projection inner width of the projection
     * @param mlp inner width of the layers
     */
    public record Perceiver(double eps, int projection, int latents, int layers, int heads, int kvHeads, int headSize, int mlp,
            Activation activation) implements Connector {}

    /** @param window sliding window in tokens, 0 for none; @param context the most positions that the model allows */
    public record Decoder(int hidden, int heads, int kvHeads, int headSize, int mlp, int layers, int vocabulary, double eps,
            double ropeTheta, Rope rope, int window, int context, Activation activation) {}

    /** What the length of a sequence does to its rotary positions. */
    public sealed interface Rope {
        /** Nothing. */
        record Plain() implements Rope {}

        /** Beyond {@code limit} tokens the base grows with the length. */
        record DynamicNtk(double factor, int limit) implements Rope {}

        /**
         * Each frequency is divided by its factor, a short one up to {@code limit} tokens, a long one beyond; {@code magnitude} multiplies
         * cosines and sines.
         */
        record LongRope(int limit, double magnitude, double[] shortFactors, double[] longFactors) implements Rope {}
    }

    /** Vision rows that one tile becomes. */
    public int rowsPerTile() {
        return connector instanceof Perceiver perceiver ? perceiver.latents : (vision.grid() / 2) * (vision.grid() / 2);
    }

    /** The text that native code parses: every key of {@code native/model/spec.h} that its kinds have, once. */
    public String toText() {
        StringJoiner text = new StringJoiner("\n", "", "\n");
        text.add("vision.hidden " + vision.hidden);
        text.add("vision.heads " + vision.heads);
        text.add("vision.head_size " + vision.headSize);
        text.add("vision.mlp " + vision.mlp);
        text.add("vision.layers " + vision.layers);
        text.add("vision.patch " + vision.patch);
        text.add("vision.image " + vision.image);
        text.add("vision.class_token " + (vision.classToken ? 1 : 0));
        text.add("vision.norm " + lowerCase(vision.norm));
        text.add("vision.eps " + vision.eps);
        text.add("vision.activation " + lowerCase(vision.activation));
        text.add("vision.mean " + numbers(vision.mean));
        text.add("vision.std " + numbers(vision.std));
        text.add("connector.kind " + (connector instanceof Perceiver ? "perceiver" : "pixel_shuffle"));
        text.add("connector.eps " + connector.eps());
        if (connector instanceof Perceiver perceiver) {
            text.add("connector.projection " + perceiver.projection);
            text.add("connector.latents " + perceiver.latents);
            text.add("connector.layers " + perceiver.layers);
            text.add("connector.heads " + perceiver.heads);
            text.add("connector.kv_heads " + perceiver.kvHeads);
            text.add("connector.head_size " + perceiver.headSize);
            text.add("connector.mlp " + perceiver.mlp);
            text.add("connector.activation " + lowerCase(perceiver.activation));
        }
        text.add("decoder.hidden " + decoder.hidden);
        text.add("decoder.heads " + decoder.heads);
        text.add("decoder.kv_heads " + decoder.kvHeads);
        text.add("decoder.head_size " + decoder.headSize);
        text.add("decoder.mlp " + decoder.mlp);
        text.add("decoder.layers " + decoder.layers);
        text.add("decoder.vocabulary " + decoder.vocabulary);
        text.add("decoder.eps " + decoder.eps);
        text.add("decoder.rope_theta " + decoder.ropeTheta);
        if (decoder.rope instanceof Rope.DynamicNtk ntk) {
            text.add("decoder.rope dynamic_ntk");
            text.add("decoder.rope_factor " + ntk.factor);
            text.add("decoder.rope_limit " + ntk.limit);
        } else if (decoder.rope instanceof Rope.LongRope longRope) {
            text.add("decoder.rope long");
            text.add("decoder.rope_limit " + longRope.limit);
            text.add("decoder.rope_magnitude " + longRope.magnitude);
            text.add("decoder.rope_short " + numbers(longRope.shortFactors));
            text.add("decoder.rope_long " + numbers(longRope.longFactors));
        } else {
            text.add("decoder.rope plain");
        }
        text.add("decoder.window " + decoder.window);
        text.add("decoder.context " + decoder.context);
        text.add("decoder.activation " + lowerCase(decoder.activation));
        return text.toString();
    }

    private static String lowerCase(Enum<?> value) {
        return value.name().toLowerCase(Locale.ROOT);
    }

    private static String numbers(double[] values) {
        return Arrays.stream(values).mapToObj(String::valueOf).collect(Collectors.joining(" "));
    }
}
