package dev.jvlm.sampling;

import dev.jvlm.error.JvlmException;
import dev.jvlm.request.Sampling;
import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.List;

/**
 * Chooses the next token of one answer. Not thread-safe; it remembers what it has chosen, which is what penalties look at.
 *
 * <p>Arithmetic follows transformers: logits and probabilities in float32, sums in double. The draw is defined so that any device can repeat
 * it: survivors are ordered by descending score, then ascending id; u is the first word of Philox4x32-10 with the key (low, high) of the seed and
 * the counter (index of the token in the answer, 0, 0, 0), taken as u / 2^32; the choice is the first survivor at which the running sum of
 * exp(score - largest score), in double, exceeds u times the whole sum.
 */
public final class Sampler {
    private static final float NONE = Float.NEGATIVE_INFINITY;

    private final Sampling sampling;
    private final int[] stopIds;
    private final int minTokens;
    private final OcrRule ocrRule;
    private final List<Integer> bannedIds;
    private final long seed;
    private final float[] scores;
    /** Survivors by rank: the order bits of their score and their id, so that sorting longs sorts them. */
    private final long[] ranked;

    private int[] previous = new int[64];
    private int count;

    /**
     * @param stopIds the ids that end an answer, banned before {@code minTokens}
     * @param ocrRule the rule of H2OVL's ocr(), or null
     * @param bannedIds ids that the model must never generate, whatever the request says
     */
    public Sampler(Sampling sampling, int[] stopIds, int minTokens, OcrRule ocrRule, List<Integer> bannedIds, int vocabulary) {
        this.sampling = sampling;
        this.stopIds = stopIds.clone();
        this.minTokens = minTokens;
        this.ocrRule = ocrRule;
        this.bannedIds = List.copyOf(bannedIds);
        this.seed = sampling.seed().orElseGet(() -> new java.util.SplittableRandom().nextLong());
        this.scores = new float[vocabulary];
        this.ranked = new long[sampling.temperature() == 0 ? 0 : vocabulary];
    }

    /**
     * The next id.
     *
     * @param logits one row, positions 0 to vocabulary - 1; it is only read
     * @throws JvlmException MODEL_FORMAT if a logit is infinite or no number, REQUEST if nothing may be chosen
     */
    public int next(FloatBuffer logits) {
        read(logits);
        process();
        int id = sampling.temperature() == 0 ? argmax() : draw(filter());
        remember(id);
        return id;
    }

    private void read(FloatBuffer logits) {
        logits.get(0, scores);
        for (float s : scores) {
            if (!Float.isFinite(s)) {
                throw noNumbers();
            }
        }
    }

    /** For tests: how many tokens may be drawn after these logits; {@link #id} and {@link #probability} tell them, likeliest first. */
    int survivors(FloatBuffer logits) {
        read(logits);
        process();
        return filter();
    }

    /** For tests: as if these had been chosen before. */
    void remember(int... ids) {
        for (int id : ids) {
            if (count == previous.length) {
                previous = Arrays.copyOf(previous, 2 * count);
            }
            previous[count++] = id;
        }
    }

    private void process() {
        penalise();
        sampling.logitBias().forEach((id, bias) -> scores[id] += bias);
        if (!sampling.allowedTokens().isEmpty()) {
            for (int id = 0; id < scores.length; id++) {
                if (!sampling.allowedTokens().contains(id)) {
                    scores[id] = NONE;
                }
            }
        }
        sampling.bannedTokens().forEach(id -> scores[id] = NONE);
        bannedIds.forEach(id -> scores[id] = NONE);
        banNgrams(sampling.noRepeatNgram());
        if (count < minTokens) {
            for (int id : stopIds) {
                scores[id] = NONE;
            }
        }
        if (ocrRule != null && count >= 2) {
            ocrRule.apply(scores, previous[count - 1]);
        }
    }

    private void penalise() {
        float repetition = sampling.repetitionPenalty();
        float presence = sampling.presencePenalty();
        float frequency = sampling.frequencyPenalty();
        if (repetition == 1 && presence == 0 && frequency == 0) {
            return;
        }
        int[] sorted = Arrays.copyOf(previous, count);
        Arrays.sort(sorted);
        for (int i = 0, times; i < count; i += times) {
            int id = sorted[i];
            for (times = 1; i + times < count && sorted[i + times] == id; ) {
                times++;
            }
            if (repetition != 1) {
                scores[id] = scores[id] < 0 ? scores[id] * repetition : scores[id] / repetition;
            }
            scores[id] -= presence + frequency * times;
        }
    }

    private void banNgrams(int n) {
        if (n == 0 || count + 1 < n) {
            return;
        }
        int start = count - (n - 1); // the last n-1 ids
        for (int i = 0; i + n <= count; i++) {
            if (Arrays.equals(previous, i, i + n - 1, previous, start, count)) {
                scores[previous[i + n - 1]] = NONE;
            }
        }
    }

    private int argmax() {
        int best = 0;
        for (int id = 1; id < scores.length; id++) {
            if (scores[id] > scores[best]) {
                best = id;
            }
        }
        if (scores[best] == NONE) {
            throw nothingLeft();
        }
        return best;
    }

    public static JvlmException noNumbers() {
        return new JvlmException(
                JvlmException.Code.MODEL_FORMAT,
                "The model computed values that are no numbers; its weights are damaged, check the files' digests");
    }

    public static JvlmException nothingLeft() {
        return new JvlmException(
                JvlmException.Code.REQUEST, "Every token is banned by the request's sampling; allow more tokens or ban fewer");
    }

    /** Applies temperature and filters; returns the number of survivors in {@link #ranked}, likeliest first. */
    private int filter() {
        float temperature = sampling.temperature();
        int best = argmax();
        if (Float.isInfinite(scores[best] / temperature)) {
            ranked[0] = best; // so cold that quotients leave the range of floats: all but the likeliest have no weight
            return 1;
        }
        for (int id = 0; id < scores.length; id++) {
            scores[id] /= temperature;
        }
        int kept = rank(sampling.topK());
        if (sampling.topP() < 1) {
            kept = topP(kept);
        }
        if (sampling.minP() > 0) {
            kept = minP(kept);
        }
        if (sampling.typicalP() < 1) {
            kept = typical(kept);
        }
        return kept;
    }

    /** Survivors sorted; with top-k only those not below the k-th largest, equal ones included. */
    private int rank(int k) {
        int n = 0;
        for (int id = 0; id < scores.length; id++) {
            if (scores[id] != NONE) {
                ranked[n++] = (long) ~order(scores[id]) << 32 | id;
            }
        }
        if (k > 0 && k < n) {
            int threshold = (int) (select(n, k - 1) >> 32);
            int kept = 0;
            for (int i = 0; i < n; i++) {
                if ((int) (ranked[i] >> 32) <= threshold) {
                    ranked[kept++] = ranked[i];
                }
            }
            n = kept;
        } else if (sampling.topP() < 1 && n > 0) {
            n = withoutTail(n);
        }
        Arrays.sort(ranked, 0, n);
        return n;
    }

    /**
     * Before a sort for top-p: tokens so unlikely that all of them together stay below 1-p would be dropped anyway, so they need no
     * place in the order. Half of 1-p is left for rounding. The rest keeps its probabilities, since these sum over everything: the weight
     * that is dropped here is counted in {@link #tail}.
     */
    private int withoutTail(int n) {
        float largest = largest(n);
        double sum = 0;
        for (int i = 0; i < n; i++) {
            sum += Math.exp((double) scoreOf(ranked[i]) - largest);
        }
        double least = 0.5 * (1 - sampling.topP()) / n * sum;
        tail = 0;
        int kept = 0;
        for (int i = 0; i < n; i++) {
            double weight = Math.exp((double) scoreOf(ranked[i]) - largest);
            if (weight >= least) {
                ranked[kept++] = ranked[i];
            } else {
                tail += weight;
            }
        }
        return kept;
    }

    private double tail;

    private float largest(int n) {
        long best = ranked[0];
        for (int i = 1; i < n; i++) {
            best = Math.min(best, ranked[i]);
        }
        return scoreOf(best);
    }

    private double sum(int n) {
        float largest = score(0);
        double sum = 0;
        for (int i = 0; i < n; i++) {
            sum += Math.exp((double) score(i) - largest);
        }
        return sum;
    }

    private int topP(int n) {
        // From the least likely up: drop while the running sum is at most 1-p.
        double all = sum(n) + tail;
        float largest = score(0);
        double running = tail;
        float limit = (float) (1 - (double) sampling.topP());
        tail = 0;
        int kept = n;
        while (kept > 1) {
            running += Math.exp((double) score(kept - 1) - largest);
            if ((float) (running / all) > limit) {
                break;
            }
            kept--;
        }
        return kept;
    }

    private int minP(int n) {
        double all = sum(n);
        float largest = (float) (1 / all);
        int kept = 1;
        while (kept < n && (float) (Math.exp((double) score(kept) - score(0)) / all) >= sampling.minP() * largest) {
            kept++;
        }
        return kept;
    }

    private int typical(int n) {
        double logSum = Math.log(sum(n));
        double entropy = 0;
        for (int i = 0; i < n; i++) {
            double logp = (double) score(i) - score(0) - logSum;
            entropy -= Math.exp(logp) * logp;
        }
        // Order by distance from the expected information; the id breaks ties as a stable sort of the references would.
        Integer[] byDistance = new Integer[n];
        float[] distance = new float[n];
        for (int i = 0; i < n; i++) {
            byDistance[i] = i;
            distance[i] = (float) Math.abs(-((double) score(i) - score(0) - logSum) - entropy);
        }
        Arrays.sort(byDistance, (a, b) -> Float.compare(distance[a], distance[b]));
        double running = 0;
        int last = 0;
        for (; last < n - 1; last++) {
            running += Math.exp((double) score(byDistance[last]) - score(0) - logSum);
            if ((float) running >= sampling.typicalP()) {
                break;
            }
        }
        float most = distance[byDistance[last]];
        int kept = 0;
        for (int i = 0; i < n; i++) {
            if (distance[i] <= most) {
                ranked[kept++] = ranked[i];
            }
        }
        return kept;
    }

    private int draw(int n) {
        double target = (Philox.first(seed, count) / 0x1p32) * sum(n);
        float largest = score(0);
        double running = 0;
        for (int i = 0; i < n - 1; i++) {
            running += Math.exp((double) score(i) - largest);
            if (running > target) {
                return id(i);
            }
        }
        return id(n - 1);
    }

    int id(int rank) {
        return (int) ranked[rank];
    }

    /** The probability of a survivor among n. */
    double probability(int rank, int n) {
        return Math.exp((double) score(rank) - score(0)) / sum(n);
    }

    private float score(int rank) {
        return scoreOf(ranked[rank]);
    }

    private float scoreOf(long entry) {
        return scores[(int) entry];
    }

    /** Bits that order as the floats do, as signed ints. */
    private static int order(float f) {
        int bits = Float.floatToIntBits(f + 0f); // -0 and 0 are equal
        return bits ^ bits >> 31 & 0x7fffffff;
    }

    /** Moves the entry of this rank to its place among the first n and returns it. */
    private long select(int n, int rank) {
        int low = 0;
        int high = n - 1;
        while (low < high) {
            long pivot = ranked[low + high >>> 1];
            int i = low;
            int j = high;
            while (i <= j) {
                while (ranked[i] < pivot) {
                    i++;
                }
                while (ranked[j] > pivot) {
                    j--;
                }
                if (i <= j) {
                    long swap = ranked[i];
                    ranked[i++] = ranked[j];
                    ranked[j--] = swap;
                }
            }
            if (rank <= j) {
                high = j;
            } else if (rank >= i) {
                low = i;
            } else {
                break;
            }
        }
        return ranked[rank];
    }
}
