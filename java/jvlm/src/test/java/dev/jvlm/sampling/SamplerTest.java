package dev.jvlm.sampling;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import dev.jvlm.error.JvlmException;
import dev.jvlm.request.Sampling;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;

class SamplerTest {

    private static final int[] NO_STOPS = {};

    private static Sampler sampler(Sampling sampling, int vocabulary) {
        return new Sampler(sampling, NO_STOPS, 0, null, List.of(), vocabulary);
    }

    private static FloatBuffer logits(float... values) {
        return FloatBuffer.wrap(values);
    }

    private static Sampling.Builder sampling() {
        return Sampling.builder().temperature(1);
    }

    @Test
    void survivorsAndProbabilitiesAreTheReferences() {
        List<String> wrong = new ArrayList<>();
        int cases = SamplingVectors.processors(
                Path.of(System.getProperty("jvlm.root"), "tests/goldens/sampling/sampling.json"), wrong::add);
        assertThat(wrong).isEmpty();
        assertThat(cases).isEqualTo(69);
    }

    @Test
    void theDrawIsTheDocumentedOneAndASeedRepeatsIt() {
        int vocabulary = 40;
        Random random = new Random(5);
        for (long seed : new long[] {0, 1, -1, 0x123456789abcdefL}) {
            Sampler one = sampler(sampling().seed(seed).build(), vocabulary);
            Sampler again = sampler(sampling().seed(seed).build(), vocabulary);
            for (int index = 0; index < 200; index++) {
                float[] row = new float[vocabulary];
                for (int i = 0; i < vocabulary; i++) {
                    row[i] = Math.round(random.nextGaussian() * 4) / 2f; // halves, so that scores tie
                }
                List<Integer> order = new ArrayList<>();
                for (int i = 0; i < vocabulary; i++) {
                    order.add(i);
                }
                order.sort((a, b) -> row[a] != row[b] ? Float.compare(row[b], row[a]) : a - b);
                double sum = order.stream().mapToDouble(i -> Math.exp((double) row[i] - row[order.get(0)])).sum();
                double target = Philox.first(seed, index) / 0x1p32 * sum;
                double running = 0;
                int expected = -1;
                for (int i = 0; expected < 0; i++) {
                    running += Math.exp((double) row[order.get(i)] - row[order.get(0)]);
                    if (running > target) {
                        expected = order.get(i);
                    }
                }
                assertThat(one.next(logits(row))).as("seed " + seed + " index " + index).isEqualTo(expected);
                assertThat(again.next(logits(row))).isEqualTo(expected);
            }
        }
    }

    /** The frequencies of 20,000 draws: chi-square with 4 degrees of freedom exceeds 23.5 once in ten thousand; the seed is fixed. */
    @Test
    void drawsFollowTheProbabilities() {
        float[] row = {1, 0, 2, -1, 0.5f};
        double sum = 0;
        for (float x : row) {
            sum += Math.exp(x);
        }
        int draws = 20_000;
        int[] seen = new int[row.length];
        Sampler sampler = sampler(sampling().seed(42).build(), row.length);
        for (int i = 0; i < draws; i++) {
            seen[sampler.next(logits(row))]++;
        }
        double chiSquare = 0;
        for (int i = 0; i < row.length; i++) {
            double expected = draws * Math.exp(row[i]) / sum;
            chiSquare += (seen[i] - expected) * (seen[i] - expected) / expected;
        }
        assertThat(chiSquare).isLessThan(23.5);
    }

    /** Top-p leaves out most of the vocabulary before it sorts; that must change nothing. */
    @Test
    void topPOverALargeVocabularyEqualsAFullSort() {
        int vocabulary = 32_000;
        Random random = new Random(1);
        for (float p : new float[] {1e-6f, 0.3f, 0.9f, 0.99f, 0.999999f}) {
            for (double spread : new double[] {0.01, 1, 8}) {
                float[] row = new float[vocabulary];
                for (int i = 0; i < vocabulary; i++) {
                    row[i] = (float) (random.nextGaussian() * spread);
                }
                Integer[] order = new Integer[vocabulary];
                for (int i = 0; i < vocabulary; i++) {
                    order[i] = i;
                }
                java.util.Arrays.sort(order, (a, b) -> row[a] != row[b] ? Float.compare(row[b], row[a]) : a - b);
                double all = 0;
                for (int i : order) {
                    all += Math.exp((double) row[i] - row[order[0]]);
                }
                int expected = vocabulary;
                double running = 0;
                for (; expected > 1; expected--) {
                    running += Math.exp((double) row[order[expected - 1]] - row[order[0]]);
                    if (running / all > 1 - (double) p) {
                        break;
                    }
                }
                Sampler sampler = sampler(sampling().topP(p).build(), vocabulary);
                int kept = sampler.survivors(logits(row));
                // Rounding of the running sums to float32 may move the limit across tokens that weigh less than 2^-24 of the whole.
                double slack = 0x1p-23;
                if (kept != expected) {
                    int low = Math.min(kept, expected);
                    int high = Math.max(kept, expected);
                    double between = 0;
                    for (int i = low; i < high; i++) {
                        between += Math.exp((double) row[order[i]] - row[order[0]]) / all;
                    }
                    assertThat(between).as("p " + p + " spread " + spread + " kept " + kept + " expected " + expected).isLessThan(slack);
                }
                for (int i = 0; i < Math.min(kept, 2000); i++) {
                    assertThat(sampler.id(i)).isEqualTo(order[i]);
                }
            }
        }
    }

    @Test
    void penaltiesCountWhatWasGenerated() {
        Sampling s = sampling().presencePenalty(0.5f).frequencyPenalty(0.25f).repetitionPenalty(2).build();
        Sampler sampler = sampler(s, 4);
        sampler.remember(1, 2, 1, 1);
        sampler.survivors(logits(1, 3, -1, 1));
        // 1: 3/2 - 0.5 - 3*0.25 = 0.25; 2: -1*2 - 0.5 - 0.25 = -2.75
        double sum = Math.exp(1) + Math.exp(0.25) + Math.exp(-2.75) + Math.exp(1);
        assertThat(new int[] {sampler.id(0), sampler.id(1), sampler.id(2), sampler.id(3)}).containsExactly(0, 3, 1, 2);
        assertThat(sampler.probability(2, 4)).isCloseTo(Math.exp(0.25) / sum, within(1e-12));
        assertThat(sampler.probability(3, 4)).isCloseTo(Math.exp(-2.75) / sum, within(1e-12));
    }

    @Test
    void greedyTakesTheLowestIdOfEqualsAndObeysBiasAndBans() {
        assertThat(sampler(Sampling.greedy(), 4).next(logits(1, 2, 2, 0))).isEqualTo(1);
        assertThat(sampler(Sampling.builder().bannedTokens(Set.of(1)).build(), 4).next(logits(1, 2, 2, 0))).isEqualTo(2);
        assertThat(sampler(Sampling.builder().logitBias(Map.of(3, 2.5f)).build(), 4).next(logits(1, 2, 2, 0))).isEqualTo(3);
        assertThat(sampler(Sampling.builder().allowedTokens(Set.of(0, 3)).build(), 4).next(logits(1, 2, 2, 0))).isEqualTo(0);
        assertThatThrownBy(() -> sampler(Sampling.builder().bannedTokens(Set.of(0, 1)).build(), 2).next(logits(1, 2)))
                .isInstanceOf(JvlmException.class)
                .hasMessageContaining("banned");
        assertThatThrownBy(() -> sampler(sampling().bannedTokens(Set.of(0, 1)).build(), 2).next(logits(1, 2)))
                .isInstanceOf(JvlmException.class)
                .hasMessageContaining("banned");
    }

    @Test
    void stopIdsAreBannedBeforeTheLeastLength() {
        Sampler sampler = new Sampler(Sampling.greedy(), new int[] {2}, 2, null, List.of(), 3);
        FloatBuffer row = logits(0, 1, 5);
        assertThat(new int[] {sampler.next(row), sampler.next(row), sampler.next(row)}).containsExactly(1, 1, 2);
    }

    @Test
    void whatTheModelMustNeverSayIsBannedWhateverTheRequestSays() {
        for (Sampling sampling : List.of(Sampling.greedy(), sampling().seed(1).build(), sampling().seed(2).allowedTokens(Set.of(1, 2)).build())) {
            Sampler sampler = new Sampler(sampling, NO_STOPS, 0, null, List.of(2, 0), 3);
            assertThat(new int[] {sampler.next(logits(9, 1, 50)), sampler.next(logits(9, 1, 50))}).containsExactly(1, 1);
        }
    }

    /** By brute force: no n-gram occurs twice in what comes out. */
    @Test
    void noNgramOccursTwice() {
        for (int n = 1; n <= 3; n++) {
            int vocabulary = 6;
            Sampler sampler = sampler(sampling().noRepeatNgram(n).seed(n).build(), vocabulary);
            List<Integer> ids = new ArrayList<>();
            Set<List<Integer>> seen = new java.util.HashSet<>();
            int length = n == 1 ? vocabulary : 30;
            try {
                for (int i = 0; i < length; i++) {
                    ids.add(sampler.next(logits(new float[vocabulary])));
                    if (ids.size() >= n) {
                        assertThat(seen.add(List.copyOf(ids.subList(ids.size() - n, ids.size())))).as(n + ": " + ids).isTrue();
                    }
                }
            } catch (JvlmException e) {
                // Every continuation is used up; possible only after a look at each.
                assertThat(ids.size()).isGreaterThan(vocabulary);
            }
        }
    }

    @Test
    void f39_extremeTemperaturesAndScoresNeverLeaveTheRangeOfFloats() {
        for (float temperature : new float[] {Float.MIN_VALUE, 1e-38f, 1e-30f, 0.01f, 100}) {
            for (float[] row : new float[][] {
                {5, 7, 6}, {-5, -3, -4}, {1e38f, 3e38f, 2e38f}, {-3e38f, -1e38f, -2e38f}, {0, 1e-38f, -1e-38f}
            }) {
                for (Sampling s : List.of(
                        sampling().temperature(temperature).seed(3).build(),
                        sampling().temperature(temperature).topK(2).topP(0.9f).minP(0.1f).typicalP(0.9f).seed(3).build())) {
                    Sampler sampler = sampler(s, 3);
                    int kept = sampler.survivors(logits(row));
                    double sum = 0;
                    for (int i = 0; i < kept; i++) {
                        sum += sampler.probability(i, kept);
                    }
                    assertThat(sum).as("temperature " + temperature).isCloseTo(1, within(1e-12));
                    assertThat(sampler.id(0)).isEqualTo(1);
                    if (temperature < 0.1f && Math.abs(row[1]) > 1) {
                        assertThat(sampler.next(logits(row))).isEqualTo(1);
                    }
                }
            }
        }
    }

    @Test
    void f56_logitsThatAreNoNumbersAreAnErrorAndNoToken() {
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
            for (Sampling s : List.of(Sampling.greedy(), sampling().build())) {
                assertThatThrownBy(() -> sampler(s, 3).next(logits(1, bad, 2)))
                        .isInstanceOfSatisfying(
                                JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.MODEL_FORMAT));
            }
        }
    }
}
