package dev.jvlm.image;

/**
 * Width and height in pixels.
 *
 * @param width at least 1
 * @param height at least 1
 */
public record Size(int width, int height) {

    public Size {
        if (width < 1 || height < 1) {
            throw new IllegalArgumentException("A picture has at least one pixel, not " + width + " x " + height);
        }
    }

    /** Bytes of 8-bit RGB. */
    public long bytes() {
        return 3L * width * height;
    }
}
