package dev.jvlm.image;

import java.util.Arrays;

/** What the frames of an animation are drawn on, transparent at first. */
final class Canvas {
    /** What becomes of a frame's area before the next frame. Values in the order of APNG's codes. */
    enum Dispose {
        KEEP,
        CLEAR,
        RESTORE
    }

    private final int width;
    private final int height;
    /** Red, green, blue, alpha. */
    private byte[] pixels;

    private byte[] before;
    private Dispose pending = Dispose.KEEP;
    private int x;
    private int y;
    private int right;
    private int bottom;

    Canvas(int width, int height) {
        this.width = width;
        this.height = height;
        pixels = new byte[Math.multiplyExact(4, width * height)];
    }

    /** Gives the transparent pixels a colour out of a palette, for when alpha is dropped. */
    void fill(byte[] palette, int index) {
        for (int c = 0; c < 3 && 3 * index + c < palette.length; c++) {
            for (int i = c; i < pixels.length; i += 4) {
                pixels[i] = palette[3 * index + c];
            }
        }
    }

    /** Draws a frame; what lies outside the canvas is cut off. */
    void draw(Raster frame, int left, int top, boolean blend, Dispose dispose) {
        if (pending == Dispose.RESTORE) {
            pixels = before;
        } else if (pending == Dispose.CLEAR) {
            for (int row = y; row < bottom; row++) {
                Arrays.fill(pixels, 4 * (row * width + x), 4 * (row * width + right), (byte) 0);
            }
        }
        pending = dispose;
        before = dispose == Dispose.RESTORE ? pixels.clone() : null;
        x = Math.min(left, width);
        y = Math.min(top, height);
        right = (int) Math.min(width, (long) left + frame.width);
        bottom = (int) Math.min(height, (long) top + frame.height);
        for (int row = y; row < bottom; row++) {
            for (int column = x; column < right; column++) {
                int from = (row - top) * frame.width + column - left;
                int to = 4 * (row * width + column);
                int a = frame.alpha == null ? 255 : frame.alpha[from] & 0xff;
                if (!blend || a == 255) {
                    frame.rgb.get(3 * from, pixels, to, 3);
                    pixels[to + 3] = (byte) a;
                } else if (a > 0) {
                    over(frame, from, to, a);
                }
            }
        }
    }

    private void over(Raster frame, int from, int to, int a) {
        int under = (pixels[to + 3] & 0xff) * (255 - a);
        int sum = 255 * a + under;
        for (int c = 0; c < 3; c++) {
            int mixed = 255 * a * (frame.rgb.get(3 * from + c) & 0xff) + under * (pixels[to + c] & 0xff);
            pixels[to + c] = (byte) ((mixed + sum / 2) / sum);
        }
        pixels[to + 3] = (byte) ((sum + 127) / 255);
    }

    Raster raster() {
        Raster raster = new Raster(width, height, true);
        for (int i = 0; i < width * height; i++) {
            raster.rgb.put(3 * i, pixels, 4 * i, 3);
            raster.alpha[i] = pixels[4 * i + 3];
        }
        return raster;
    }
}
