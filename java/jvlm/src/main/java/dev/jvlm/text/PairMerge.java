package dev.jvlm.text;

import java.util.Arrays;
import java.util.List;
import java.util.PriorityQueue;

/**
 * Byte-pair merging: joins the neighbouring pair of the best rank, leftmost on ties, until no pair has a rank. A linked list and a
 * heap make it O(n log n), so that a megabyte of one character is no attack.
 */
final class PairMerge {

    /** The rank of a pair: lower merges first; NaN if it does not merge. */
    interface Ranks {
        double of(String left, String right);
    }

    private record Candidate(double rank, int left, int length) implements Comparable<Candidate> {
        @Override
        public int compareTo(Candidate other) {
            int byRank = Double.compare(rank, other.rank);
            return byRank != 0 ? byRank : Integer.compare(left, other.left);
        }
    }

    private final String[] symbols;
    private final boolean[] frozen;
    private final int[] previous;
    private final int[] next;
    private final Ranks ranks;
    private final PriorityQueue<Candidate> agenda = new PriorityQueue<>();

    private PairMerge(List<String> start, boolean[] frozen, Ranks ranks) {
        int n = start.size();
        this.symbols = start.toArray(String[]::new);
        this.frozen = frozen;
        this.ranks = ranks;
        this.previous = new int[n];
        this.next = new int[n];
        Arrays.setAll(previous, i -> i - 1);
        Arrays.setAll(next, i -> i + 1 < n ? i + 1 : -1);
    }

    /**
     * @param start the symbols to begin with, in text order
     * @param frozen for each of them, whether it takes no part in merging
     * @return the symbols that remain, in text order
     */
    static List<String> merge(List<String> start, boolean[] frozen, Ranks ranks) {
        PairMerge merge = new PairMerge(start, frozen, ranks);
        for (int i = 0; i + 1 < start.size(); i++) {
            merge.consider(i, i + 1);
        }
        merge.run();
        return Arrays.stream(merge.symbols).filter(s -> s != null).toList();
    }

    private void consider(int left, int right) {
        if (left < 0 || right < 0 || frozen[left] || frozen[right]) {
            return;
        }
        double rank = ranks.of(symbols[left], symbols[right]);
        if (!Double.isNaN(rank)) {
            agenda.add(new Candidate(rank, left, symbols[left].length() + symbols[right].length()));
        }
    }

    private void run() {
        for (Candidate best; (best = agenda.poll()) != null; ) {
            int left = best.left;
            int right = symbols[left] == null ? -1 : next[left];
            // A candidate is stale once either side was merged away; its joined length then no longer fits.
            if (right < 0 || symbols[left].length() + symbols[right].length() != best.length) {
                continue;
            }
            symbols[left] += symbols[right];
            symbols[right] = null;
            next[left] = next[right];
            if (next[right] >= 0) {
                previous[next[right]] = left;
            }
            consider(previous[left], left);
            consider(left, next[left]);
        }
    }
}
