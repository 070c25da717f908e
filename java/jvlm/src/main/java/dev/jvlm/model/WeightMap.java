package dev.jvlm.model;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Which tensor of a checkpoint becomes which rows of which tensor of the engine ({@code native/model/weights.h}). */
final class WeightMap {

    private final List<Weight> weights = new ArrayList<>();

    List<Weight> weights() {
        return Collections.unmodifiableList(weights);
    }

    /** A tensor of shape (n), which becomes n rows of one column. */
    void vector(String target, String name, long n) {
        vectorPart(target, 0, name, n);
    }

    /** A tensor of shape (n) that becomes a part of a longer vector, from {@code firstRow} on. */
    void vectorPart(String target, long firstRow, String name, long n) {
        weights.add(new Weight(name, List.of(n), 0, target, firstRow, n, 1));
    }

    /** A tensor of shape (rows, columns). */
    void matrix(String target, String name, long rows, long columns) {
        part(target, 0, name, rows, columns);
    }

    /** A tensor of shape (rows, columns) that becomes a part of a larger matrix, from {@code firstRow} on. */
    void part(String target, long firstRow, String name, long rows, long columns) {
        weights.add(new Weight(name, List.of(rows, columns), 0, target, firstRow, rows, columns));
    }

    /**
     * Rows of a tensor that becomes parts of one or several matrices: {@code rows} of its {@code sourceRows} rows, from
     * {@code sourceRow} on.
     */
    void rowsOf(String name, long sourceRows, long sourceRow, String target, long firstRow, long rows, long columns) {
        weights.add(new Weight(name, List.of(sourceRows, columns), sourceRow, target, firstRow, rows, columns));
    }

    /** A tensor of any shape, taken as (rows, columns) in row-major order. */
    void reshaped(String target, String name, long rows, long columns, Long... shape) {
        weights.add(new Weight(name, List.of(shape), 0, target, 0, rows, columns));
    }

    /** {@code name.weight} (out, in) and {@code name.bias} (out). */
    void linear(String target, String name, long out, long in) {
        matrix(target + ".weight", name + ".weight", out, in);
        vector(target + ".bias", name + ".bias", out);
    }

    /** {@code name.weight} (n) and {@code name.bias} (n). */
    void layerNorm(String target, String name, long n) {
        vector(target + ".weight", name + ".weight", n);
        vector(target + ".bias", name + ".bias", n);
    }
}
