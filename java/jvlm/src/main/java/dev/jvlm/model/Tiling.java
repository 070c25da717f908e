package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.AspectTiler;
import dev.jvlm.image.GridTiler;
import dev.jvlm.image.Tiler;
import dev.jvlm.request.Request;

/** How a family makes tiles of a picture. */
public sealed interface Tiling {

    /**
     * The tiler for a request.
     *
     * @param pictures how many the request holds
     * @param patch edge of a patch in pixels
     * @throws JvlmException REQUEST if the request asks for what this kind of tiling does not know
     */
    Tiler tiler(Request request, int pictures, int patch);

    /** Most tiles of one picture, unless a request says otherwise. */
    int mostTiles();

    /**
     * Square tiles of one size.
     *
     * @param tileSize edge of a tile in pixels
     * @param minTiles fewest cells of the grid
     * @param maxTiles most cells of the grid, unless the request says otherwise
     * @param thumbnail whether a grid of more than one cell is followed by the whole picture as one more tile
     * @param msac whether multi-scale adaptive cropping is used; only for a request that holds exactly one picture
     */
    record Grid(int tileSize, int minTiles, int maxTiles, boolean thumbnail, boolean msac) implements Tiling {

        @Override
        public Tiler tiler(Request request, int pictures, int patch) {
            if (request.splitImages() != null || request.partialPatches() != null) {
                throw refused("splitImages and partialPatches are not known to this model, which cuts pictures into a grid of tiles; use maxTiles");
            }
            if (pictures != 1 && Boolean.TRUE.equals(request.msac())) {
                throw refused("msac works on a single picture, and this conversation holds " + pictures);
            }
            boolean twice = request.msac() == null ? msac : request.msac();
            return new GridTiler(tileSize, patch, minTiles, request.maxTiles() == null ? maxTiles : request.maxTiles(), thumbnail,
                    twice && pictures == 1);
        }

        @Override
        public int mostTiles() {
            return 2 * maxTiles + 1;
        }
    }

    /**
     * Pictures in their own aspect ratio.
     *
     * @param longest the longest side in pixels
     * @param shortest the shortest side in pixels
     * @param split whether four quarters come before the whole picture, unless the request says otherwise
     */
    record Aspect(int longest, int shortest, boolean split) implements Tiling {

        @Override
        public Tiler tiler(Request request, int pictures, int patch) {
            if (request.maxTiles() != null || request.msac() != null) {
                throw refused("maxTiles and msac are not known to this model, which sees pictures in their own aspect ratio; use splitImages");
            }
            return new AspectTiler(longest, shortest, patch, request.splitImages() == null ? split : request.splitImages(),
                    !Boolean.FALSE.equals(request.partialPatches()));
        }

        @Override
        public int mostTiles() {
            return 5;
        }
    }

    private static JvlmException refused(String why) {
        return new JvlmException(JvlmException.Code.REQUEST, "Request: " + why);
    }
}
