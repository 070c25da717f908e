package dev.jvlm.image;

import dev.jvlm.error.JvlmException;
import java.util.List;

/** A way to make tiles of pictures. */
public sealed interface Tiler permits GridTiler, AspectTiler {

    /** Of a narrower picture nothing legible is left. */
    int MAX_ASPECT = 10_000;

    /**
     * Shapes of the tiles of each picture, from the pictures' sizes alone.
     *
     * @param pictures all pictures of a request, because a picture's patches may depend on those beside it
     * @throws JvlmException IMAGE if one side of a picture is more than {@value #MAX_ASPECT} times the other, or it is too small to be cut
     */
    List<List<TileShape>> plan(List<Size> pictures);

    /**
     * Cuts one picture.
     *
     * @param shapes what {@link #plan} gave for it
     */
    Tiles cut(Image image, List<TileShape> shapes, Resizer resizer);

    /** @throws JvlmException IMAGE if one side is more than {@value #MAX_ASPECT} times the other */
    static void requireLegible(int width, int height) {
        if (Math.max(width, height) > (long) MAX_ASPECT * Math.min(width, height)) {
            throw new JvlmException(
                    JvlmException.Code.IMAGE,
                    "A picture of " + width + " x " + height + " pixels is too narrow: one side may be at most " + MAX_ASPECT
                            + " times the other. Cut it into pieces");
        }
    }
}
