package dev.jvlm.image;

import dev.jvlm.error.JvlmException;
import java.nio.ByteBuffer;

/** Decoded pixels as a file stores them: not yet turned, transparency apart. */
final class Raster {
    final int width;
    final int height;
    /** (height, width, 3) bytes, direct. */
    final ByteBuffer rgb;
    /** (height, width) bytes, or null where every pixel is opaque. */
    final byte[] alpha;
    /** As in EXIF, 1 to 8; 1 is upright. */
    int orientation = 1;

    /** Sizes come out of a file's header: they are checked by {@link #check} before anything is allocated. */
    Raster(int width, int height, boolean transparent) {
        this.width = width;
        this.height = height;
        rgb = allocate(3L * width * height);
        alpha = transparent ? new byte[width * height] : null;
    }

    static ByteBuffer allocate(long bytes) {
        return ByteBuffer.allocateDirect(Math.toIntExact(bytes));
    }

    /** Refuses what a header claims before memory is taken for it. */
    static void check(long width, long height, Decoding decoding) {
        if (width < 1 || height < 1) {
            throw Damage.of("its header says " + width + " x " + height + " pixels");
        }
        // Divided, not multiplied: a header may claim 2^32 x 2^32.
        long most = Math.min(decoding.maxPixels(), Integer.MAX_VALUE / 4);
        if (width > most / height) {
            throw new JvlmException(
                    JvlmException.Code.IMAGE,
                    "The image claims " + width + " x " + height + " pixels; at most " + most + " are allowed. Scale it down, or raise"
                            + " Decoding.maxPixels");
        }
    }

    void row(int y, byte[] line) {
        rgb.put(3 * width * y, line, 0, 3 * width);
    }

    /** Composes transparent pixels on white. */
    void flatten() {
        if (alpha == null) {
            return;
        }
        for (int i = 0; i < alpha.length; i++) {
            int a = alpha[i] & 0xff;
            if (a == 255) {
                continue;
            }
            for (int c = 3 * i; c < 3 * i + 3; c++) {
                rgb.put(c, (byte) (((rgb.get(c) & 0xff) * a + 255 * (255 - a) + 127) / 255));
            }
        }
    }

    /** The picture as it is to be looked at. */
    Image upright() {
        if (orientation == 1) {
            return new Image(width, height, rgb);
        }
        // 5 to 8 swap the axes; the source is then read backwards along x, along y, along both, or along neither.
        boolean swapped = orientation >= 5;
        boolean backX = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
        boolean backY = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
        int toWidth = swapped ? height : width;
        int toHeight = swapped ? width : height;
        ByteBuffer turned = allocate(3L * width * height);
        byte[] line = new byte[3 * toWidth];
        for (int y = 0; y < toHeight; y++) {
            for (int x = 0; x < toWidth; x++) {
                int fromX = swapped ? y : x;
                int fromY = swapped ? x : y;
                int from = 3 * ((backY ? height - 1 - fromY : fromY) * width + (backX ? width - 1 - fromX : fromX));
                line[3 * x] = rgb.get(from);
                line[3 * x + 1] = rgb.get(from + 1);
                line[3 * x + 2] = rgb.get(from + 2);
            }
            turned.put(3 * toWidth * y, line);
        }
        return new Image(toWidth, toHeight, turned);
    }
}
