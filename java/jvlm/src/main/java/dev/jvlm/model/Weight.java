package dev.jvlm.model;

import java.util.List;

/**
 * A tensor of a checkpoint and where it goes: rows {@code firstRow} ... {@code firstRow + rows} of the engine's tensor {@code target}.
 *
 * @param name its name in the checkpoint
 * @param shape its shape in the checkpoint, of {@code rows * columns} numbers in all
 */
public record Weight(String name, List<Long> shape, String target, long firstRow, long rows, long columns) {}
