package dev.jvlm.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** The scheduler alone, without native code: who runs when, and that nothing is lost or held twice. */
class SchedulerTest {

    private static Limits limits(int pages, int sequences, int stepTokens, int visionRows) {
        return new Limits("float32", pages, 4, sequences, stepTokens, visionRows, 1, 1000, false);
    }

    private static Sequence text(int prompt, int maxTokens, boolean runsAhead) {
        int[] ids = new int[prompt];
        int[] rows = new int[prompt];
        Arrays.setAll(ids, i -> 100 + i);
        Arrays.fill(rows, -1);
        return new Sequence(ids, rows, 0, 0, maxTokens, runsAhead);
    }

    private static int[] ints(IntBuffer b) {
        int[] values = new int[b.position()];
        b.get(0, values);
        return values;
    }

    @Test
    void promptGoesInChunksAndTheLastOneAsksForLogits() {
        Limits limits = limits(10, 2, 4, 1);
        Scheduler scheduler = new Scheduler(limits);
        StepPlan plan = new StepPlan(4, 2, 10);
        Sequence s = text(10, 3, false);
        scheduler.add(s);
        assertThat(scheduler.admit()).containsExactly(s);

        assertThat(scheduler.plan(plan)).isEmpty();
        assertThat(ints(plan.token)).containsExactly(100, 101, 102, 103);
        assertThat(ints(plan.past)).containsExactly(0);
        assertThat(ints(plan.pageStart)).containsExactly(0, 1);
        assertThat(ints(plan.ropeLength)).containsExactly(10); // the whole prompt's for each chunk
        assertThat(scheduler.plan(plan)).isEmpty();
        assertThat(ints(plan.past)).containsExactly(4);
        assertThat(ints(plan.ropeLength)).containsExactly(10);
        assertThat(scheduler.plan(plan)).containsExactly(s);
        assertThat(ints(plan.token)).containsExactly(108, 109);
        assertThat(ints(plan.logitsRow)).containsExactly(1);
        assertThat(ints(plan.pageStart)).containsExactly(0, 3);
        assertThat(ints(plan.ropeLength)).containsExactly(10);

        // Without run-ahead nothing can be planned until the id is known.
        scheduler.plan(plan);
        assertThat(plan.isEmpty()).isTrue();
        s.receive(7);
        assertThat(scheduler.plan(plan)).containsExactly(s);
        assertThat(ints(plan.token)).containsExactly(7);
        assertThat(ints(plan.past)).containsExactly(10);
        assertThat(ints(plan.ropeLength)).containsExactly(11);
    }

    @Test
    void runningAheadNamesTheRowOfTheStepBefore() {
        Scheduler scheduler = new Scheduler(limits(10, 2, 16, 1));
        StepPlan plan = new StepPlan(16, 2, 10);
        Sequence a = text(3, 3, true);
        Sequence b = text(2, 9, true);
        scheduler.add(a);
        scheduler.add(b);
        scheduler.admit();
        assertThat(scheduler.plan(plan)).containsExactly(a, b);
        assertThat(scheduler.plan(plan)).containsExactly(a, b);
        assertThat(ints(plan.token)).containsExactly(-1, -2);
        // Two steps in flight, and the first id of neither is known: a third step would have to guess.
        scheduler.plan(plan);
        assertThat(plan.isEmpty()).isTrue();
        // That empty plan was no step: the rows of the one before can no longer be named, so the ids must come first.
        a.receive(5);
        b.receive(6);
        scheduler.plan(plan);
        assertThat(plan.isEmpty()).isTrue();
        a.receive(50);
        b.receive(60);
        assertThat(scheduler.plan(plan)).containsExactly(a, b);
        assertThat(ints(plan.token)).containsExactly(50, 60);
        // a has asked for its three answer tokens; only b goes on.
        assertThat(scheduler.plan(plan)).containsExactly(b);
        assertThat(ints(plan.token)).containsExactly(-2);
    }

    @Test
    void admissionIsInOrderAndReservesTheWholeAnswer() {
        Scheduler scheduler = new Scheduler(limits(5, 4, 64, 8));
        Sequence large = text(13, 4, false); // 16 tokens in the cache: 4 pages
        Sequence larger = text(9, 4, false); // 3 pages: does not fit beside it
        Sequence small = text(1, 1, false); // would fit, but must not overtake
        for (Sequence s : List.of(large, larger, small)) {
            scheduler.add(s);
        }
        assertThat(scheduler.admit()).containsExactly(large);
        assertThat(scheduler.freePages()).isEqualTo(1);
        large.finished = true;
        scheduler.release();
        assertThat(scheduler.admit()).containsExactly(larger, small);
    }

    @Test
    void visionRowsThatDoNotFitGiveNothingAway() {
        Scheduler scheduler = new Scheduler(limits(1, 4, 64, 8));
        Sequence s = new Sequence(new int[9], new int[9], 1, 8, 1, false); // needs 3 pages of one
        scheduler.add(s);
        assertThat(scheduler.admit()).isEmpty();
        assertThat(scheduler.freeRows()).isEqualTo(8);
        assertThat(scheduler.freePages()).isEqualTo(1);
    }

    @Test
    void aFinishedSequenceKeepsItsPagesUntilItsLastStepIsCollected() {
        Scheduler scheduler = new Scheduler(limits(4, 1, 64, 1));
        StepPlan plan = new StepPlan(64, 1, 4);
        Sequence s = text(3, 8, true);
        scheduler.add(s);
        scheduler.admit();
        scheduler.plan(plan);
        s.finished = true;
        assertThat(scheduler.release()).isEmpty();
        assertThat(scheduler.freePages()).isLessThan(4);
        s.inFlight = 0;
        assertThat(scheduler.release()).containsExactly(s);
        assertThat(scheduler.freePages()).isEqualTo(4);
        assertThat(scheduler.isIdle()).isTrue();
    }

    /** Random requests, cancellations and lengths: every step is well formed, no page belongs to two, all comes back. */
    @Test
    void randomTrafficHoldsTogether() {
        for (int seed = 0; seed < 200; seed++) {
            Random random = new Random(seed);
            Limits limits = limits(8 + random.nextInt(30), 1 + random.nextInt(5), 8 + random.nextInt(20), 16);
            Scheduler scheduler = new Scheduler(limits);
            StepPlan plan = new StepPlan(limits.stepTokens(), limits.sequences(), limits.pages());
            List<Sequence> all = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                int maxTokens = 1 + random.nextInt(6);
                int prompt = 1 + random.nextInt(8 * 4 - maxTokens);
                int tiles = random.nextInt(3);
                Sequence s = new Sequence(new int[prompt], new int[prompt], tiles, tiles * 4, maxTokens, random.nextBoolean());
                all.add(s);
                scheduler.add(s);
            }
            Map<Sequence, Integer> inCache = new HashMap<>();
            List<Sequence> inFlight = List.of();
            List<Sequence> rows = List.of();
            for (int step = 0; !scheduler.isIdle(); step++) {
                assertThat(step).as("steps of seed %d", seed).isLessThan(3000);
                scheduler.release();
                scheduler.admit();
                Sequence encode = scheduler.nextToEncode(candidate -> true);
                if (encode != null) {
                    encode.tilesEncoded++;
                }
                List<Sequence> nextRows = scheduler.plan(plan);
                List<Sequence> planned = scheduler.planned();
                check(plan, planned, limits, inCache);
                inFlight.forEach(s -> s.inFlight--);
                for (Sequence s : rows) {
                    if (!s.finished) {
                        s.receive(random.nextInt(100));
                        s.finished = s.received() == s.maxTokens || random.nextInt(10) == 0;
                    }
                }
                inFlight = planned;
                rows = nextRows;
            }
            assertThat(all).allMatch(s -> s.finished);
            assertThat(scheduler.freePages()).isEqualTo(limits.pages());
            assertThat(scheduler.freeRows()).isEqualTo(limits.visionRows());
        }
    }

    private static void check(StepPlan plan, List<Sequence> planned, Limits limits, Map<Sequence, Integer> inCache) {
        assertThat(plan.tokens()).isLessThanOrEqualTo(limits.stepTokens());
        assertThat(plan.sequences()).isEqualTo(planned.size()).isLessThanOrEqualTo(limits.sequences());
        Set<Integer> pages = new HashSet<>();
        for (int i = 0; i < planned.size(); i++) {
            Sequence s = planned.get(i);
            int tokens = plan.seqStart.get(i + 1) - plan.seqStart.get(i);
            assertThat(s.finished).isFalse();
            assertThat(s.tilesEncoded).isEqualTo(s.tiles);
            assertThat(plan.past.get(i)).isEqualTo(inCache.getOrDefault(s, 0));
            inCache.merge(s, tokens, Integer::sum);
            int held = plan.pageStart.get(i + 1) - plan.pageStart.get(i);
            assertThat(held * limits.pageTokens()).isGreaterThanOrEqualTo(inCache.get(s));
            for (int p = plan.pageStart.get(i); p < plan.pageStart.get(i + 1); p++) {
                assertThat(pages.add(plan.page.get(p))).as("page belongs to one sequence").isTrue();
            }
        }
    }

    @Test
    void poolsRefuseWhatWasNotTaken() {
        PagePool pages = new PagePool(2);
        assertThat(pages.take(3)).isNull();
        int[] two = pages.take(2);
        pages.give(two);
        assertThatThrownBy(() -> pages.give(new int[] {0})).isInstanceOf(IllegalStateException.class);
        RowPool rows = new RowPool(10);
        int a = rows.take(4);
        int b = rows.take(4);
        assertThat(rows.take(4)).isEqualTo(-1);
        rows.give(a, 4);
        assertThat(rows.take(3)).isEqualTo(0);
        assertThatThrownBy(() -> rows.give(7, 2)).isInstanceOf(IllegalStateException.class);
        rows.give(b, 4);
        rows.give(0, 3);
        assertThat(rows.take(10)).isEqualTo(0);
    }
}
