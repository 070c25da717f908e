package dev.jvlm.sampling;

import dev.jvlm.request.TokenLogprobs;
import dev.jvlm.request.TokenLogprobs.Alternative;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntFunction;

/** Log-probabilities of a row of logits as the model gave it. */
public final class Logprobs {
    private Logprobs() {}

    /**
     * @param logits one row
     * @param id the token that was chosen
     * @param n how many of the likeliest to list
     * @param text the text of an id
     */
    public static TokenLogprobs of(FloatBuffer logits, int id, int n, IntFunction<String> text) {
        int vocabulary = logits.capacity();
        int[] best = new int[n];
        int found = 0;
        float largest = Float.NEGATIVE_INFINITY;
        for (int i = 0; i < vocabulary; i++) {
            float x = logits.get(i);
            largest = Math.max(largest, x);
            if (found == n && (n == 0 || x <= logits.get(best[n - 1]))) {
                continue;
            }
            int at = found < n ? found++ : n - 1;
            while (at > 0 && logits.get(best[at - 1]) < x) {
                best[at] = best[at - 1];
                at--;
            }
            best[at] = i;
        }
        double sum = 0;
        for (int i = 0; i < vocabulary; i++) {
            sum += Math.exp((double) logits.get(i) - largest);
        }
        double logSum = Math.log(sum);
        List<Alternative> top = new ArrayList<>();
        for (int i = 0; i < found; i++) {
            top.add(new Alternative(best[i], text.apply(best[i]), (double) logits.get(best[i]) - largest - logSum));
        }
        return new TokenLogprobs(id, text.apply(id), (double) logits.get(id) - largest - logSum, top);
    }
}
