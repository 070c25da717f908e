package dev.jvlm.sampling;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class LoopGuardTest {

    /** The rule as it is written down, looked up anew after each token. */
    private static boolean loops(List<Integer> ids) {
        for (int p = 1; p <= LoopGuard.LONGEST; p++) {
            int needed = Math.max(LoopGuard.LEAST_TIMES * p, LoopGuard.LEAST_TOKENS);
            boolean repeats = ids.size() >= needed;
            for (int i = ids.size() - needed + p; repeats && i < ids.size(); i++) {
                repeats = ids.get(i).equals(ids.get(i - p));
            }
            if (repeats) {
                return true;
            }
        }
        return false;
    }

    @Test
    void followsTheRuleOnEveryPrefix() {
        Random random = new Random(11);
        int seen = 0;
        for (int round = 0; round < 60; round++) {
            LoopGuard guard = new LoopGuard();
            List<Integer> ids = new ArrayList<>();
            for (int i = random.nextInt(40); i > 0; i--) {
                ids.add(random.nextInt(5));
            }
            int period = 1 + random.nextInt(LoopGuard.LONGEST + 3);
            int[] unit = random.ints(period, 0, 4).toArray();
            for (int i = 0; i < 700; i++) {
                ids.add(random.nextInt(900) == 0 ? 9 : unit[i % period]);
            }
            List<Integer> prefix = new ArrayList<>();
            for (int id : ids) {
                prefix.add(id);
                boolean expected = loops(prefix);
                assertThat(guard.add(id)).as("round " + round + " after " + prefix.size() + ", period " + period).isEqualTo(expected);
                seen += expected ? 1 : 0;
            }
        }
        assertThat(seen).isGreaterThan(1000);
    }

    @Test
    void tablesAndDottedLinesAreNoLoops() {
        LoopGuard guard = new LoopGuard();
        for (int i = 0; i < LoopGuard.LEAST_TOKENS - 1; i++) {
            assertThat(guard.add(46)).isFalse();
        }
        LoopGuard table = new LoopGuard();
        for (int row = 0; row < 300; row++) {
            for (int id : new int[] {1, 2, 3, 4, 1000 + row, 5}) {
                assertThat(table.add(id)).isFalse();
            }
        }
    }
}
