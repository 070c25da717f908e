package dev.jvlm.image;

/**
 * A grid of equal tiles that a picture is cut into.
 *
 * @param columns tiles across, at least 1
 * @param rows tiles down, at least 1
 */
public record Grid(int columns, int rows) {

    public Grid {
        if (columns < 1 || rows < 1) {
            throw new IllegalArgumentException("A grid has at least one column and one row, not " + columns + " x " + rows);
        }
    }

    /** The number of cells. */
    public int cells() {
        return columns * rows;
    }
}
