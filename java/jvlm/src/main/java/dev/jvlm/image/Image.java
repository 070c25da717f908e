package dev.jvlm.image;

import dev.jvlm.error.JvlmException;
import java.nio.ByteBuffer;

/** A picture: 8-bit RGB, rows from the top, no padding. Immutable. */
public final class Image {
    private final int width;
    private final int height;
    /** Outside the Java heap, because native code reads it: a heap array would be copied on each call. */
    private final ByteBuffer rgb;

    /** Takes the buffer over: nobody writes to it from here on. */
    Image(int width, int height, ByteBuffer rgb) {
        this.width = width;
        this.height = height;
        this.rgb = rgb.asReadOnlyBuffer().clear();
    }

    /** A picture from pixels: {@code height * width * 3} bytes, which are copied. */
    public static Image of(int width, int height, byte[] rgb) {
        if (width < 1 || height < 1 || (long) width * height * 3 != rgb.length) {
            throw new IllegalArgumentException("rgb has " + rgb.length + " bytes, not " + width + " x " + height + " x 3");
        }
        return new Image(width, height, ByteBuffer.allocateDirect(rgb.length).put(rgb));
    }

    /** {@link #decode(byte[], Decoding)} with {@link Decoding#DEFAULT}. */
    public static Image decode(byte[] file) {
        return decode(file, Decoding.DEFAULT);
    }

    /**
     * A picture from the bytes of a JPEG, PNG, WebP, TIFF, GIF or BMP file. The array is read before this returns and not kept: what is
     * written to it later changes nothing.
     *
     * @throws JvlmException IMAGE if it is empty, of another format, damaged or cut short, larger than the limit, or has no such frame
     */
    public static Image decode(byte[] file, Decoding decoding) {
        return Decoder.decode(file, decoding);
    }

    /** A part of the picture, which must lie inside it. */
    Image crop(int x, int y, Size size) {
        if (x == 0 && y == 0 && size.equals(size())) {
            return this;
        }
        int row = 3 * size.width();
        ByteBuffer part = ByteBuffer.allocateDirect(row * size.height());
        for (int i = 0; i < size.height(); i++) {
            part.put(rgb.slice(3 * ((y + i) * width + x), row));
        }
        return new Image(size.width(), size.height(), part);
    }

    public Size size() {
        return new Size(width, height);
    }

    public int width() {
        return width;
    }

    public int height() {
        return height;
    }

    /** The pixels, {@code height * width * 3} bytes: a read-only direct buffer of its own position and limit. */
    public ByteBuffer rgb() {
        return rgb.duplicate();
    }
}
