package dev.jvlm.image;

/**
 * What the vision tower sees of one tile.
 *
 * @param height in pixels
 * @param width in pixels
 * @param rows rows of patches; the last one may reach beyond the pixels
 * @param columns columns of patches, likewise
 */
public record TileShape(int height, int width, int rows, int columns) {

    public TileShape {
        if (height < 1 || width < 1 || rows < 1 || columns < 1) {
            throw new IllegalArgumentException(
                    "A tile has at least one pixel and one patch, not " + height + " x " + width + " and " + rows + " x " + columns);
        }
    }

    /** Bytes of 8-bit RGB. */
    public long bytes() {
        return 3L * height * width;
    }
}
