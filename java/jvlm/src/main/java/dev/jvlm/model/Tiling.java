package dev.jvlm.model;

/**
 * How a family cuts a picture into tiles.
 *
 * @param tileSize edge of a tile in pixels
 * @param minTiles fewest cells of the grid
 * @param maxTiles most cells of the grid, unless the request says otherwise
 * @param thumbnail whether a grid of more than one cell is followed by the whole picture as one more tile
 * @param msac whether multi-scale adaptive cropping is used; only for a request that holds exactly one picture
 */
public record Tiling(int tileSize, int minTiles, int maxTiles, boolean thumbnail, boolean msac) {}
