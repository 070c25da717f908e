package dev.jvlm.image;

import java.nio.ByteBuffer;

/**
 * The square tiles of one picture: (count, size, size, 3) bytes of RGB.
 *
 * @param rgb a direct buffer from its position 0 on
 * @param count number of tiles
 * @param size edge of a tile in pixels
 */
public record Tiles(ByteBuffer rgb, int count, int size) {

    public Tiles {
        if (!rgb.isDirect() || rgb.capacity() != 3L * count * size * size) {
            throw new IllegalArgumentException(
                    count + " tiles of " + size + " pixels do not fill a direct buffer of " + rgb.capacity() + " bytes");
        }
    }
}
