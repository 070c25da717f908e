package dev.jvlm.engine;

import java.util.Map;
import java.util.TreeMap;

/** Which rows of a buffer are free: contiguous ranges, the first that fits. */
final class RowPool {
    /** First row to length of each free range; neighbours are joined. */
    private final TreeMap<Integer, Integer> free = new TreeMap<>();

    private final int rows;

    RowPool(int rows) {
        this.rows = rows;
        free.put(0, rows);
    }

    int available() {
        return free.values().stream().mapToInt(Integer::intValue).sum();
    }

    /** The first of {@code n} rows in a run, or -1 if there is no such run. */
    int take(int n) {
        for (Map.Entry<Integer, Integer> range : free.entrySet()) {
            if (range.getValue() >= n) {
                int first = range.getKey();
                int length = range.getValue();
                free.remove(first);
                if (length > n) {
                    free.put(first + n, length - n);
                }
                return first;
            }
        }
        return -1;
    }

    void give(int first, int n) {
        Map.Entry<Integer, Integer> before = free.floorEntry(first);
        Map.Entry<Integer, Integer> after = free.ceilingEntry(first);
        if (first < 0
                || first + n > rows
                || before != null && before.getKey() + before.getValue() > first
                || after != null && first + n > after.getKey()) {
            throw new IllegalStateException("Rows given back that were not taken");
        }
        int from = first;
        int length = n;
        if (before != null && before.getKey() + before.getValue() == first) {
            from = before.getKey();
            length += before.getValue();
        }
        if (after != null && first + n == after.getKey()) {
            length += after.getValue();
            free.remove(after.getKey());
        }
        free.put(from, length);
    }
}
