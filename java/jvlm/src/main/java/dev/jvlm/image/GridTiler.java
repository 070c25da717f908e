package dev.jvlm.image;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.function.Predicate;

/**
 * InternVL's dynamic tiling and H2OVL's multi-scale adaptive cropping (MSAC). The choice of grids is integers only: no pixels.
 *
 * <p>Source: the reference image code of the two families (InternVL {@code dataset.py} {@code dynamic_preprocess}, H2OVL
 * {@code image_process.py} {@code dynamic_preprocess} and {@code dynamic_preprocess2}).
 *
 * @param tileSize edge of a square tile in pixels (448 in the published models)
 * @param patch edge of a patch in pixels
 * @param minTiles fewest cells of the grid
 * @param maxTiles most cells of the grid, the thumbnail not counted
 * @param thumbnail whether a grid of more than one cell is followed by the whole picture as one more tile
 * @param msac whether the tiles of a second, finer grid come first
 */
public record GridTiler(int tileSize, int patch, int minTiles, int maxTiles, boolean thumbnail, boolean msac) implements Tiler {

    private static final Grid SINGLE = new Grid(1, 1);

    /** The fine pass of MSAC never asks for fewer tiles than this. */
    private static final int MSAC_MIN_TILES = 3;

    public GridTiler {
        if (patch < 1 || tileSize < patch) {
            throw new IllegalArgumentException("A tile holds at least one patch, not " + tileSize + " pixels for patches of " + patch);
        }
    }

    /**
     * The grid whose aspect ratio is nearest to the picture's.
     *
     * @param width picture width in pixels
     * @param height picture height in pixels
     * @return the grid; 1 x 1 if no grid has between {@code minTiles} and {@code maxTiles} cells
     */
    public Grid choose(int width, int height) {
        return nearest(width, height, minTiles, grid -> true);
    }

    /**
     * The fine grid of MSAC: of at least three cells, and cutting along other lines than the coarse grid does, so that text cut by
     * one is whole in the other.
     *
     * @param coarse what {@link #choose} gave for the same picture with a minimum of 1
     * @return the grid; 1 x 1 if none qualifies, as the reference code does (its callers say that it raises: it does not)
     */
    public Grid chooseFine(int width, int height, Grid coarse) {
        return nearest(
                width,
                height,
                MSAC_MIN_TILES,
                grid -> coarse.columns() % grid.columns() != 0 && coarse.rows() % grid.rows() != 0);
    }

    @Override
    public List<List<TileShape>> plan(List<Size> pictures) {
        TileShape tile = new TileShape(tileSize, tileSize, tileSize / patch, tileSize / patch);
        return pictures.stream().map(p -> Collections.nCopies(cells(p.width(), p.height()).size(), tile)).toList();
    }

    /**
     * Cuts a picture into tiles: the cells of the grid row by row, then the thumbnail. With {@code msac} the fine grid's without its last
     * tile, the coarse grid's without its last tile, the last of the fine grid's.
     */
    @Override
    public Tiles cut(Image image, List<TileShape> shapes, Resizer resizer) {
        List<Cell> cells = cells(image.width(), image.height());
        List<Grid> grids = cells.stream().map(Cell::grid).distinct().toList();
        ByteBuffer resized = resizer.resize(
                image,
                Filter.BICUBIC,
                grids.stream().map(g -> new Size(g.columns() * tileSize, g.rows() * tileSize)).toList());
        int row = 3 * tileSize;
        int tile = row * tileSize;
        // Laid out by whole resized pictures; a grid of one column lies there tile by tile, others are gathered row by row.
        ByteBuffer tiles = ByteBuffer.allocateDirect(Math.multiplyExact(cells.size(), tile));
        for (Cell cell : cells) {
            int start = tile * grids.subList(0, grids.indexOf(cell.grid)).stream().mapToInt(Grid::cells).sum();
            int columns = cell.grid.columns();
            int first = start + cell.index / columns * columns * tile + cell.index % columns * row;
            for (int y = 0; y < tileSize; y++) {
                tiles.put(tiles.position(), resized, first + y * columns * row, row);
                tiles.position(tiles.position() + row);
            }
        }
        return new Tiles(tiles.clear(), shapes);
    }

    /** One tile: a cell of a grid, counted row by row. The thumbnail is the only cell of the 1 x 1 grid. */
    private record Cell(Grid grid, int index) {}

    private List<Cell> cells(int width, int height) {
        Tiler.requireLegible(width, height);
        Grid grid = choose(width, height);
        List<Cell> coarse = cells(grid);
        if (!msac) {
            return coarse;
        }
        List<Cell> fine = cells(chooseFine(width, height, grid));
        List<Cell> cells = new ArrayList<>(fine.subList(0, fine.size() - 1));
        cells.addAll(coarse.subList(0, coarse.size() - 1));
        cells.add(fine.get(fine.size() - 1));
        return cells;
    }

    private List<Cell> cells(Grid grid) {
        List<Cell> cells = new ArrayList<>();
        for (int i = 0; i < grid.cells(); i++) {
            cells.add(new Cell(grid, i));
        }
        if (thumbnail && grid.cells() > 1) {
            cells.add(new Cell(SINGLE, 0));
        }
        return cells;
    }

    private Grid nearest(int width, int height, int least, Predicate<Grid> admitted) {
        if (width < 1 || height < 1) {
            throw new IllegalArgumentException("A picture has at least one pixel, not " + width + " x " + height);
        }
        double aspect = (double) width / height;
        // Doubles, because int overflows from 46,341 x 46,341; exact, because both products stay below 2^53.
        double area = (double) width * height;
        Grid best = SINGLE;
        double bestDistance = Double.POSITIVE_INFINITY;
        // By ascending cell count. The order inside one count is free: no aspect ratio makes two grids of one count tie for best.
        for (int cells = Math.max(least, 1); cells <= maxTiles; cells++) {
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
