package dev.jvlm.image;

/** A picture: 8-bit RGB, rows from the top, no padding. Immutable. */
public final class Image {
    private final int width;
    private final int height;
    private final byte[] rgb;

    private Image(int width, int height, byte[] rgb) {
        this.width = width;
        this.height = height;
        this.rgb = rgb;
    }

    /** A picture from pixels: {@code height * width * 3} bytes, which are copied. */
    public static Image of(int width, int height, byte[] rgb) {
        if (width < 1 || height < 1 || (long) width * height * 3 != rgb.length) {
            throw new IllegalArgumentException("rgb has " + rgb.length + " bytes, not " + width + " x " + height + " x 3");
        }
        return new Image(width, height, rgb.clone());
    }

    public int width() {
        return width;
    }

    public int height() {
        return height;
    }
}
