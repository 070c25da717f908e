package dev.jvlm.sampling;

import java.util.Arrays;

/**
 * Sees when an answer only repeats itself. The rule: its last tokens are one sequence of p tokens, written again and again without any change, at
 * least {@link #LEAST_TIMES} times and over at least {@link #LEAST_TOKENS} tokens, p at most {@link #LONGEST}.
 *
 * <p>Tables, receipts and dotted lines repeat too, but not so long: a row of a table differs from the next in some digit, and a line of
 * dots or dashes ends before.
 */
public final class LoopGuard {
    static final int LONGEST = 64;
    static final int LEAST_TIMES = 8;
    static final int LEAST_TOKENS = 192;

    private int[] ids = new int[256];
    private int count;
    /** For each period: how many of the last tokens equal the one a period before. */
    private final int[] run = new int[LONGEST + 1];

    /** Takes the next token; true once the answer repeats itself. */
    public boolean add(int id) {
        if (count == ids.length) {
            ids = Arrays.copyOf(ids, 2 * count);
        }
        ids[count++] = id;
        boolean loops = false;
        for (int p = 1; p <= LONGEST && p < count; p++) {
            run[p] = ids[count - 1 - p] == id ? run[p] + 1 : 0;
            int repeated = run[p] + p;
            loops |= repeated >= LEAST_TIMES * p && repeated >= LEAST_TOKENS;
        }
        return loops;
    }
}
