package dev.jvlm.request;

import dev.jvlm.error.JvlmException;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;

/**
 * How the next token is chosen. Immutable. Processors work in this order, each on what the one before left: repetition penalty, presence
 * and frequency penalties, bias and allowed or banned tokens, n-gram ban, temperature, top-k, top-p, min-p, typical-p. Penalties and the
 * n-gram ban look at generated tokens only, as the references do for prompts with pictures.
 */
public final class Sampling {
    private static final int MOST_LISTED = 1 << 16;
    private static final Sampling GREEDY = builder().build();

    private final float temperature;
    private final int topK;
    private final float topP;
    private final float minP;
    private final float typicalP;
    private final float repetitionPenalty;
    private final float presencePenalty;
    private final float frequencyPenalty;
    private final int noRepeatNgram;
    private final Map<Integer, Float> logitBias;
    private final Set<Integer> allowedTokens;
    private final Set<Integer> bannedTokens;
    private final OptionalLong seed;

    private Sampling(Builder b) {
        given("logitBias", b.logitBias);
        given("allowedTokens", b.allowedTokens);
        given("bannedTokens", b.bannedTokens);
        range("temperature", b.temperature, 0, 100);
        range("topK", b.topK, 0, Integer.MAX_VALUE);
        range("topP", b.topP, Float.MIN_VALUE, 1);
        range("minP", b.minP, 0, 1);
        range("typicalP", b.typicalP, Float.MIN_VALUE, 1);
        range("repetitionPenalty", b.repetitionPenalty, 0.01f, 100);
        range("presencePenalty", b.presencePenalty, -100, 100);
        range("frequencyPenalty", b.frequencyPenalty, -100, 100);
        range("noRepeatNgram", b.noRepeatNgram, 0, 1024);
        range("logitBias (its number of entries)", b.logitBias.size(), 0, MOST_LISTED);
        range("allowedTokens (their number)", b.allowedTokens.size(), 0, MOST_LISTED);
        range("bannedTokens (their number)", b.bannedTokens.size(), 0, MOST_LISTED);
        b.logitBias.forEach((id, bias) -> {
            given("logitBias", id);
            given("logitBias", bias);
            range("logitBias of token " + id, bias, -1000, 1000);
        });
        b.allowedTokens.forEach(id -> given("allowedTokens", id));
        b.bannedTokens.forEach(id -> given("bannedTokens", id));
        if (!b.allowedTokens.isEmpty() && !b.bannedTokens.isEmpty()) {
            throw refused("allowedTokens and bannedTokens contradict each other; give one of them");
        }
        temperature = b.temperature;
        topK = b.topK;
        topP = b.topP;
        minP = b.minP;
        typicalP = b.typicalP;
        repetitionPenalty = b.repetitionPenalty;
        presencePenalty = b.presencePenalty;
        frequencyPenalty = b.frequencyPenalty;
        noRepeatNgram = b.noRepeatNgram;
        logitBias = Map.copyOf(b.logitBias);
        allowedTokens = Set.copyOf(b.allowedTokens);
        bannedTokens = Set.copyOf(b.bannedTokens);
        seed = b.seed;
    }

    private static void given(String field, Object value) {
        if (value == null) {
            throw refused(field + " is null or holds null; leave it out for the default");
        }
    }

    private static void range(String field, double value, double least, double most) {
        // Not (value < least || value > most): a NaN must not pass.
        if (!(value >= least && value <= most)) {
            throw refused(field + " is " + plain(value) + "; it must be "
                    + (least == Float.MIN_VALUE ? "above 0" : "at least " + plain(least)) + " and at most " + plain(most));
        }
    }

    private static String plain(double value) {
        return value == (long) value ? String.valueOf((long) value) : String.valueOf((float) value);
    }

    private static JvlmException refused(String why) {
        return new JvlmException(JvlmException.Code.REQUEST, "Sampling: " + why);
    }

    /** Always the likeliest token, the lowest id on ties. */
    public static Sampling greedy() {
        return GREEDY;
    }

    public static Builder builder() {
        return new Builder();
    }

    /** Refuses ids that a vocabulary of this size does not have. */
    public void checkAgainst(int vocabulary) {
        for (Set<Integer> ids : java.util.List.of(logitBias.keySet(), allowedTokens, bannedTokens)) {
            for (int id : ids) {
                if (id < 0 || id >= vocabulary) {
                    throw refused("token " + id + " does not exist; this model has the ids 0 to " + (vocabulary - 1));
                }
            }
        }
    }

    /** Whether the choice is the likeliest token of the logits as they are. */
    public boolean isPlainGreedy() {
        return temperature == 0
                && repetitionPenalty == 1
                && presencePenalty == 0
                && frequencyPenalty == 0
                && noRepeatNgram == 0
                && logitBias.isEmpty()
                && allowedTokens.isEmpty()
                && bannedTokens.isEmpty();
    }

    public float temperature() {
        return temperature;
    }

    public int topK() {
        return topK;
    }

    public float topP() {
        return topP;
    }

    public float minP() {
        return minP;
    }

    public float typicalP() {
        return typicalP;
    }

    public float repetitionPenalty() {
        return repetitionPenalty;
    }

    public float presencePenalty() {
        return presencePenalty;
    }

    public float frequencyPenalty() {
        return frequencyPenalty;
    }

    public int noRepeatNgram() {
        return noRepeatNgram;
    }

    public Map<Integer, Float> logitBias() {
        return logitBias;
    }

    public Set<Integer> allowedTokens() {
        return allowedTokens;
    }

    public Set<Integer> bannedTokens() {
        return bannedTokens;
    }

    public OptionalLong seed() {
        return seed;
    }

    /** What is not set is off. */
    public static final class Builder {
        private float temperature;
        private int topK;
        private float topP = 1;
        private float minP;
        private float typicalP = 1;
        private float repetitionPenalty = 1;
        private float presencePenalty;
        private float frequencyPenalty;
        private int noRepeatNgram;
        private Map<Integer, Float> logitBias = Map.of();
        private Set<Integer> allowedTokens = Set.of();
        private Set<Integer> bannedTokens = Set.of();
        private OptionalLong seed = OptionalLong.empty();

        private Builder() {}

        /** 0 is greedy; logits are divided by it. 0 to 100. */
        public Builder temperature(float temperature) {
            this.temperature = temperature;
            return this;
        }

        /** Only the k likeliest; 0 is off. */
        public Builder topK(int topK) {
            this.topK = topK;
            return this;
        }

        /** Only the likeliest whose probabilities add up to p; 1 is off. */
        public Builder topP(float topP) {
            this.topP = topP;
            return this;
        }

        /** Only those at least this fraction as likely as the likeliest; 0 is off. */
        public Builder minP(float minP) {
            this.minP = minP;
            return this;
        }

        /** Only those whose information is closest to the expected, until their probabilities add up to p; 1 is off. */
        public Builder typicalP(float typicalP) {
            this.typicalP = typicalP;
            return this;
        }

        /** Positive logits of tokens already generated are divided by it, negative ones multiplied; 1 is off. */
        public Builder repetitionPenalty(float repetitionPenalty) {
            this.repetitionPenalty = repetitionPenalty;
            return this;
        }

        /** Taken from the logit of every token already generated. */
        public Builder presencePenalty(float presencePenalty) {
            this.presencePenalty = presencePenalty;
            return this;
        }

        /** Taken from the logit of a token once for each time it was generated. */
        public Builder frequencyPenalty(float frequencyPenalty) {
            this.frequencyPenalty = frequencyPenalty;
            return this;
        }

        /** No sequence of n tokens twice; 0 is off. Harmful for tables and receipts. */
        public Builder noRepeatNgram(int n) {
            this.noRepeatNgram = n;
            return this;
        }

        /** Added to the logits of these tokens. */
        public Builder logitBias(Map<Integer, Float> logitBias) {
            this.logitBias = logitBias;
            return this;
        }

        /** Only these tokens; an empty set is no restriction. The id that ends the answer must be among them if it is to end. */
        public Builder allowedTokens(Set<Integer> ids) {
            this.allowedTokens = ids;
            return this;
        }

        public Builder bannedTokens(Set<Integer> ids) {
            this.bannedTokens = ids;
            return this;
        }

        /** The same seed gives the same answer, whatever else runs beside it. Without one, each answer is drawn anew. */
        public Builder seed(long seed) {
            this.seed = OptionalLong.of(seed);
            return this;
        }

        /** @throws JvlmException REQUEST, naming a field that is out of range */
        public Sampling build() {
            return new Sampling(this);
        }
    }
}
