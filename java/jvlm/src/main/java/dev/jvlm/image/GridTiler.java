package dev.jvlm.image;

import java.util.function.Predicate;

/**
 * Chooses the grids of InternVL's dynamic tiling and of H2OVL's multi-scale adaptive cropping (MSAC). Integers only: no pixels.
 *
 * <p>Source: the reference image code of the two families (InternVL {@code dataset.py} {@code dynamic_preprocess}, H2OVL
 * {@code image_process.py} {@code dynamic_preprocess} and {@code dynamic_preprocess2}).
 */
public final class GridTiler {

    private static final Grid SINGLE = new Grid(1, 1);

    /** The fine pass of MSAC never asks for fewer tiles than this. */
    private static final int MSAC_MIN_TILES = 3;

    private final int tileSize;

    /**
     * @param tileSize edge of a square tile in pixels (448 in the published models)
     */
    public GridTiler(int tileSize) {
        if (tileSize < 1) {
            throw new IllegalArgumentException("A tile is at least one pixel wide, not " + tileSize);
        }
        this.tileSize = tileSize;
    }

    /**
     * The grid whose aspect ratio is nearest to the picture's.
     *
     * @param width picture width in pixels
     * @param height picture height in pixels
     * @param minTiles fewest cells
     * @param maxTiles most cells, the thumbnail not counted
     * @return the grid; 1 x 1 if no grid has between {@code minTiles} and {@code maxTiles} cells
     */
    public Grid choose(int width, int height, int minTiles, int maxTiles) {
        return nearest(width, height, minTiles, maxTiles, grid -> true);
    }

    /**
     * The fine grid of MSAC: of at least three cells, and cutting along other lines than the coarse grid does, so that text cut by
     * one is whole in the other.
     *
     * @param coarse what {@link #choose} gave for the same picture with a minimum of 1
     * @return the grid; 1 x 1 if none qualifies, as the reference code does (its callers say that it raises: it does not)
     */
    public Grid chooseFine(int width, int height, Grid coarse, int maxTiles) {
        return nearest(
                width,
                height,
                MSAC_MIN_TILES,
                maxTiles,
                grid -> coarse.columns() % grid.columns() != 0 && coarse.rows() % grid.rows() != 0);
    }

    private Grid nearest(int width, int height, int minTiles, int maxTiles, Predicate<Grid> admitted) {
        if (width < 1 || height < 1) {
            throw new IllegalArgumentException("A picture has at least one pixel, not " + width + " x " + height);
        }
        double aspect = (double) width / height;
        // Doubles, because int overflows from 46,341 x 46,341; exact, because both products stay below 2^53.
        double area = (double) width * height;
        Grid best = SINGLE;
        double bestDistance = Double.POSITIVE_INFINITY;
        // By ascending cell count. The order inside one count is free: no aspect ratio makes two grids of one count tie for best.
        for (int cells = Math.max(minTiles, 1); cells <= maxTiles; cells++) {
            for (int columns = 1; columns <= cells; columns++) {
                if (cells % columns != 0) {
                    continue;
                }
                Grid grid = new Grid(columns, cells / columns);
                if (!admitted.test(grid)) {
                    continue;
                }
                double distance = Math.abs(aspect - (double) grid.columns() / grid.rows());
                // Equal ratios give the same double, so this equality is meant: 1 x 1 against 2 x 2 is decided by the area.
                if (distance < bestDistance
                        || distance == bestDistance && area > 0.5 * tileSize * tileSize * cells) {
                    best = grid;
                    bestDistance = distance;
                }
            }
        }
        return best;
    }
}
