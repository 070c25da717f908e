package dev.jvlm.image;

/** Other colours to RGB. */
final class Colors {
    /** libjpeg rounds it from 0.34414. */
    static final int JPEG_BLUE_IN_GREEN = 22554;

    /** libtiff computes it from the weights of luma. */
    static final int TIFF_BLUE_IN_GREEN = 22553;

    private Colors() {}

    /** CMYK by Pillow's formula: each ink takes its share of what black leaves. */
    static void cmykToRgb(int cyan, int magenta, int yellow, int black, byte[] rgb, int at) {
        int left = 255 - black;
        rgb[at] = share(cyan, left);
        rgb[at + 1] = share(magenta, left);
        rgb[at + 2] = share(yellow, left);
    }

    private static byte share(int ink, int left) {
        int product = ink * left + 128;
        return (byte) Math.max(0, left - ((product >> 8) + product >> 8));
    }

    /**
     * Luma and chroma of BT.601 in full range, in 16-bit fixed point.
     *
     * @param blueInGreen 0.344136 as {@link #JPEG_BLUE_IN_GREEN} or {@link #TIFF_BLUE_IN_GREEN}
     */
    static void yccToRgb(int y, int cb, int cr, int blueInGreen, byte[] rgb, int at) {
        int blue = cb - 128;
        int red = cr - 128;
        int half = 1 << 15;
        rgb[at] = clip(y + (91881 * red + half >> 16));
        rgb[at + 1] = clip(y + (-blueInGreen * blue - 46802 * red + half >> 16));
        rgb[at + 2] = clip(y + (116130 * blue + half >> 16));
    }

    private static byte clip(int v) {
        return (byte) Math.max(0, Math.min(255, v));
    }
}
