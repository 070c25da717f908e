package dev.jvlm.model;

import java.util.List;

/**
 * A tensor of a checkpoint, or some of its rows, and where it goes: {@code rows} rows from {@code sourceRow} on become the rows
 * {@code firstRow} ... {@code firstRow + rows} of the engine's tensor {@code target}.
 *
 * @param name its name in the checkpoint; several weights may share it, each with rows of its own
 * @param shape its whole shape in the checkpoint; it is read as rows of {@code columns} numbers
 */
public record Weight(String name, List<Long> shape, long sourceRow, String target, long firstRow, long rows, long columns) {}
