package dev.jvlm.image;

import java.nio.ByteBuffer;
import java.util.List;

/** Resizes pictures, byte for byte as Pillow does. */
public interface Resizer {

    /**
     * Resizes one picture to several sizes.
     *
     * @return a direct buffer with the results one behind the other: 8-bit RGB, rows from the top, no padding
     * @throws dev.jvlm.error.JvlmException IMAGE if the results are too large to be held in one buffer
     */
    ByteBuffer resize(Image image, Filter filter, List<Size> sizes);
}
