package dev.jvlm.engine;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.Iterator;
import java.util.List;
import java.util.function.Predicate;

/**
 * Who runs when: admission by pages and vision rows, and the ragged batch of each step. A function of integers; it knows nothing of
 * native code.
 *
 * <p>A sequence is admitted when its pages, for prompt and the longest answer, and its vision rows are free; so a running sequence never lacks memory and nothing
 * is ever evicted. Admission is first come, first served: a large request at the head waits rather than starve. A step holds one token of every
 * decoding sequence, then prompt chunks while the token budget lasts.
 */
final class Scheduler {
    private final Limits limits;
    private final PagePool pages;
    private final RowPool rows;
    private final RowPool slots;
    private final Deque<Sequence> waiting = new ArrayDeque<>();
    private final List<Sequence> running = new ArrayList<>();

    Scheduler(Limits limits) {
        this.limits = limits;
        this.pages = new PagePool(limits.pages());
        this.rows = new RowPool(limits.visionRows());
        this.slots = new RowPool(limits.sequences());
    }

    void add(Sequence s) {
        waiting.add(s);
    }

    boolean isIdle() {
        return waiting.isEmpty() && running.isEmpty();
    }

    int running() {
        return running.size();
    }

    int waiting() {
        return waiting.size();
    }

    int freePages() {
        return pages.available();
    }

    int freeRows() {
        return rows.available();
    }

    /** Admits what fits; returns those admitted now. */
    List<Sequence> admit() {
        List<Sequence> admitted = new ArrayList<>();
        while (!waiting.isEmpty() && running.size() < limits.sequences()) {
            Sequence s = waiting.peek();
            int first = s.visionRows == 0 ? 0 : rows.take(s.visionRows);
            if (first < 0) {
                break;
            }
            s.pages = pages.take(s.pagesNeeded(limits.pageTokens()));
            if (s.pages == null) {
                if (s.visionRows > 0) {
                    rows.give(first, s.visionRows);
                }
                break;
            }
            s.firstRow = first;
            s.slot = slots.take(1);
            waiting.remove();
            running.add(s);
            admitted.add(s);
        }
        return admitted;
    }

    /** The first sequence with tiles to encode that are {@code ready}, or null. */
    Sequence nextToEncode(Predicate<Sequence> ready) {
        for (Sequence s : running) {
            if (!s.finished && s.tilesEncoded < s.tiles && ready.test(s)) {
                return s;
            }
        }
        return null;
    }

    /** Whether no sequence must see the logits of a step in flight before its next token can be planned. */
    boolean allRunAhead() {
        return running.stream().allMatch(s -> s.finished || s.runsAhead || s.issued == s.received());
    }

    /** Fills the plan of the next step and returns the sequence of each row of logits; the plan may stay empty. */
    List<Sequence> plan(StepPlan plan) {
        plan.clear();
        List<Sequence> rowsOf = new ArrayList<>();
        List<Sequence> inStep = new ArrayList<>();
        for (Sequence s : running) {
            if (s.canDecode()) {
                // The first answer token comes from the prompt's last row; the token fed here is answer token issued - 1.
                int id = s.issued == s.received() ? s.generated(s.issued - 1) : -1 - s.lastRow;
                plan.begin(s.cached, s.pages, pagesFor(s.cached + 1));
                plan.add(id, -1);
                s.cached++;
                finishIn(plan, s, rowsOf, inStep);
            }
        }
        for (Sequence s : running) {
            int budget = limits.stepTokens() - plan.tokens();
            if (budget < 1 || plan.sequences() == limits.sequences()) {
                break;
            }
            if (s.finished || s.prefilled() || s.tilesEncoded < s.tiles) {
                continue;
            }
            int count = Math.min(budget, s.prompt.length - s.cached);
            plan.begin(s.cached, s.pages, pagesFor(s.cached + count));
            for (int i = s.cached; i < s.cached + count; i++) {
                plan.add(s.prompt[i], s.promptRow[i] < 0 ? -1 : s.firstRow + s.promptRow[i]);
            }
            s.cached += count;
            if (s.prefilled()) {
                finishIn(plan, s, rowsOf, inStep);
            } else {
                plan.end(s.prompt.length);
                s.inFlight++;
                s.lastRow = -1;
                inStep.add(s);
            }
        }
        for (Sequence s : running) {
            if (!inStep.contains(s)) {
                s.lastRow = -1;
            }
        }
        this.inStep = inStep;
        return rowsOf;
    }

    private List<Sequence> inStep = List.of();

    /** The sequences of the step planned last. */
    List<Sequence> planned() {
        return inStep;
    }

    private static void finishIn(StepPlan plan, Sequence s, List<Sequence> rowsOf, List<Sequence> inStep) {
        s.lastRow = plan.wantLogits();
        plan.end(s.cached);
        s.issued++;
        s.inFlight++;
        rowsOf.add(s);
        inStep.add(s);
    }

    private int pagesFor(int tokens) {
        return (tokens + limits.pageTokens() - 1) / limits.pageTokens();
    }

    /** Gives back what finished sequences hold, once no step in flight uses it; returns those that are gone now, admitted or not. */
    List<Sequence> release() {
        List<Sequence> gone = new ArrayList<>();
        for (Iterator<Sequence> i = running.iterator(); i.hasNext(); ) {
            Sequence s = i.next();
            if (s.finished && s.inFlight == 0) {
                i.remove();
                pages.give(s.pages);
                slots.give(s.slot, 1);
                if (s.visionRows > 0) {
                    rows.give(s.firstRow, s.visionRows);
                }
                gone.add(s);
            }
        }
        for (Iterator<Sequence> i = waiting.iterator(); i.hasNext(); ) {
            Sequence s = i.next();
            if (s.finished) {
                i.remove();
                gone.add(s);
            }
        }
        return gone;
    }
}
