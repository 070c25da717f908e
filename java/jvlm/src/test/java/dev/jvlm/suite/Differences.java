package dev.jvlm.suite;

import java.io.PrintStream;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/** What a suite finds: prints a line for each thing that differs and remembers the worst of each kind. */
final class Differences {
    private final PrintStream out;
    private final Map<String, Double> worst = new TreeMap<>();
    private int count;

    Differences(PrintStream out) {
        this.out = out;
    }

    void add(String where, String how) {
        count++;
        out.println("differs: " + where + ": " + how);
    }

    int count() {
        return count;
    }

    void same(String where, Object got, Object expected) {
        if (!got.equals(expected)) {
            add(where, got + " instead of " + expected);
        }
    }

    /** The first place at which ids differ. */
    void sameIds(String where, int[] got, int[] expected) {
        int at = java.util.Arrays.mismatch(got, expected);
        if (at >= 0) {
            add(where, got.length + " ids instead of " + expected.length + ", the first difference at " + at + ": "
                    + (at < got.length ? got[at] : "none") + " instead of " + (at < expected.length ? expected[at] : "none"));
        }
    }

    /**
     * Numbers of one tensor; at most one line, for the worst.
     *
     * @param kind by which the worst ratio is remembered
     * @param place tells where the number i stands
     */
    void near(String kind, String where, float[] got, float[] expected, double tolerance, java.util.function.IntFunction<String> place) {
        if (got.length != expected.length) {
            add(where, got.length + " numbers instead of " + expected.length);
            return;
        }
        int at = -1;
        double most = -1;
        for (int i = 0; i < got.length; i++) {
            double ratio = Math.abs((double) got[i] - expected[i]) / tolerance;
            if (!(ratio <= most)) { // a NaN is the worst
                most = Double.isNaN(ratio) ? Double.POSITIVE_INFINITY : ratio;
                at = i;
            }
        }
        if (at < 0) {
            return;
        }
        worst.merge(kind, most, Math::max);
        if (most > 1) {
            add(where, String.format(Locale.ROOT, "%s is %s instead of %s, %.3g times the tolerance of %.3g", place.apply(at), got[at],
                    expected[at], most, tolerance));
        }
    }

    /** For each kind the worst difference, in parts of its tolerance. */
    String worst() {
        StringBuilder text = new StringBuilder();
        worst.forEach((kind, ratio) -> text.append(String.format(Locale.ROOT, "%s%s %.2g", text.isEmpty() ? "" : ", ", kind, ratio)));
        return text.toString();
    }
}
