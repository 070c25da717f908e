package dev.jvlm.sampling;

import dev.jvlm.request.Sampling;
import java.nio.IntBuffer;
import java.util.List;
import java.util.SplittableRandom;

/**
 * How a device chooses the tokens of one answer, the same ones as {@link Sampler}. Immutable: what penalties look at the device counts itself, so
 * that a token may be asked for before the one before it is known.
 */
public final class DeviceSampling {
    /** 32-bit words of {@code SampleRow} in {@code native/ops/ops.h}. */
    public static final int WORDS = 12;

    /** The likeliest token, the lowest id on ties. */
    public static final DeviceSampling LIKELIEST = new DeviceSampling(Sampling.greedy(), List.of(), 0, List.of());

    private final Sampling sampling;
    private final List<Integer> stopIds;
    private final int minTokens;
    private final List<Integer> bannedIds;
    private final long seed;

    /** As {@link Sampler}'s; {@link #serves} must hold. */
    public DeviceSampling(Sampling sampling, List<Integer> stopIds, int minTokens, List<Integer> bannedIds) {
        this.sampling = sampling;
        this.stopIds = stopIds;
        this.minTokens = minTokens;
        this.bannedIds = bannedIds;
        this.seed = sampling.seed().orElseGet(() -> new SplittableRandom().nextLong());
    }

    /** Whether a device can choose so: it knows how often a token was generated, but not where, and it has no typical-p. */
    public static boolean serves(Sampling sampling) {
        return sampling.noRepeatNgram() == 0 && (sampling.typicalP() == 1 || sampling.temperature() == 0);
    }

    /** Writes the {@code SampleRow} of the answer's token number {@code index}. */
    public void write(IntBuffer words, int slot, int index) {
        put(words, sampling.temperature(), sampling.topP(), sampling.minP());
        words.put(sampling.topK());
        put(words, sampling.repetitionPenalty(), sampling.presencePenalty(), sampling.frequencyPenalty());
        words.put(slot).put(biased(index) ? slot : -1).put(index).put((int) seed).put((int) (seed >>> 32));
    }

    private static void put(IntBuffer words, float... values) {
        for (float v : values) {
            words.put(Float.floatToRawIntBits(v));
        }
    }

    private boolean biased(int index) {
        return index < minTokens || !sampling.logitBias().isEmpty() || !sampling.allowedTokens().isEmpty()
                || !sampling.bannedTokens().isEmpty() || !bannedIds.isEmpty();
    }

    /** Whether the biases of token number {@code index} are others than those before. */
    public boolean newBias(int index) {
        return biased(index) && (index == 0 || index == minTokens);
    }

    /** What is added to the logits of token number {@code index}; -infinity bans. */
    public float[] bias(int index, int vocabulary) {
        float[] bias = new float[vocabulary];
        sampling.logitBias().forEach((id, b) -> bias[id] = b);
        if (!sampling.allowedTokens().isEmpty()) {
            for (int id = 0; id < vocabulary; id++) {
                if (!sampling.allowedTokens().contains(id)) {
                    bias[id] = Float.NEGATIVE_INFINITY;
                }
            }
        }
        ban(bias, sampling.bannedTokens());
        ban(bias, bannedIds);
        if (index < minTokens) {
            ban(bias, stopIds);
        }
        return bias;
    }

    private static void ban(float[] bias, Iterable<Integer> ids) {
        ids.forEach(id -> bias[id] = Float.NEGATIVE_INFINITY);
    }
}
