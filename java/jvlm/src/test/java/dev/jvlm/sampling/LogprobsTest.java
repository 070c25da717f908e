package dev.jvlm.sampling;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import dev.jvlm.request.TokenLogprobs;
import java.nio.FloatBuffer;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class LogprobsTest {

    @Test
    void equalsASortAndADirectSum() {
        Random random = new Random(2);
        for (int vocabulary : new int[] {1, 2, 17, 1000}) {
            float[] row = new float[vocabulary];
            for (int i = 0; i < vocabulary; i++) {
                row[i] = Math.round(random.nextGaussian() * 20) / 4f; // quarters, so that some tie
            }
            double sum = 0;
            for (float x : row) {
                sum += Math.exp(x);
            }
            List<Integer> order = IntStream.range(0, vocabulary)
                    .boxed()
                    .sorted(Comparator.comparing((Integer i) -> -row[i]).thenComparing(i -> i))
                    .toList();
            for (int n : new int[] {0, 1, 5, 20}) {
                int id = vocabulary / 2;
                TokenLogprobs got = Logprobs.of(FloatBuffer.wrap(row), id, n, i -> "t" + i);
                // Sums of a thousand doubles around e^12, and their logarithm: far below 1e-9.
                assertThat(got.logprob()).isCloseTo(row[id] - Math.log(sum), within(1e-9));
                assertThat(got.id()).isEqualTo(id);
                assertThat(got.text()).isEqualTo("t" + id);
                assertThat(got.top().stream().map(TokenLogprobs.Alternative::id).toList())
                        .isEqualTo(order.subList(0, Math.min(n, vocabulary)));
                for (TokenLogprobs.Alternative a : got.top()) {
                    assertThat(a.logprob()).isCloseTo(row[a.id()] - Math.log(sum), within(1e-9));
                    assertThat(a.text()).isEqualTo("t" + a.id());
                }
            }
        }
    }

    @Test
    void hugeLogitsDoNotOverflow() {
        TokenLogprobs got = Logprobs.of(FloatBuffer.wrap(new float[] {3e38f, 3e38f, -3e38f}), 0, 3, String::valueOf);
        assertThat(got.logprob()).isCloseTo(-Math.log(2), within(1e-12));
        assertThat(got.top().stream().map(TokenLogprobs.Alternative::id).toList()).containsExactly(0, 1, 2);
        assertThat(got.top().get(2).logprob()).isLessThan(-5e38);
    }
}
