package dev.jvlm.image;

/** CMYK to RGB by Pillow's formula: each ink takes its share of what black leaves. */
final class Inks {
    private Inks() {}

    static void toRgb(int cyan, int magenta, int yellow, int black, byte[] rgb, int at) {
        int left = 255 - black;
        rgb[at] = share(cyan, left);
        rgb[at + 1] = share(magenta, left);
        rgb[at + 2] = share(yellow, left);
    }

    private static byte share(int ink, int left) {
        int product = ink * left + 128;
        return (byte) Math.max(0, left - ((product >> 8) + product >> 8));
    }
}
