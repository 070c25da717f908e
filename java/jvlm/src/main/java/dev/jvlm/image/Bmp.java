package dev.jvlm.image;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** BMP: Windows 2 to 5 and OS/2 1 headers; 1 to 32 bits, run lengths, bit fields. */
final class Bmp {
    private static final int RLE8 = 1;
    private static final int RLE4 = 2;
    private static final int BIT_FIELDS = 3;
    private static final int ALPHA_BIT_FIELDS = 6;

    private final ByteBuffer in;
    private final Decoding decoding;

    private Bmp(byte[] file, Decoding decoding) {
        in = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
        this.decoding = decoding;
    }

    static Raster read(byte[] file, Decoding decoding) {
        if (decoding.frame() > 0) {
            throw Decoder.noSuchFrame(decoding.frame(), 1);
        }
        return new Bmp(file, decoding).read();
    }

    private Raster read() {
        int pixels = in.getInt(10);
        int header = in.getInt(14);
        boolean old = header == 12;
        if (!old && (header < 40 || header > 124)) {
            throw Damage.unsupported("a BMP header of " + header + " bytes");
        }
        long width = old ? in.getShort(18) & 0xffff : in.getInt(18);
        long signedHeight = old ? in.getShort(20) & 0xffff : in.getInt(22);
        Raster.check(width, Math.abs(signedHeight), decoding);
        int w = (int) width;
        int h = (int) Math.abs(signedHeight);
        int depth = in.getShort(old ? 24 : 28);
        int compression = old ? 0 : in.getInt(30);
        boolean runs = compression == RLE8 && depth == 8 || compression == RLE4 && depth == 4;
        boolean fields = compression == BIT_FIELDS || compression == ALPHA_BIT_FIELDS;
        boolean indexed = depth == 1 || depth == 2 || depth == 4 || depth == 8;
        if (!(compression == 0 || runs || fields && (depth == 16 || depth == 32))
                || !(indexed || depth == 16 || depth == 24 || depth == 32)) {
            throw Damage.unsupported("a BMP of " + depth + " bits with compression " + compression);
        }
        int[] masks = depth == 16 ? new int[] {0x7c00, 0x3e0, 0x1f, 0} : new int[] {0xff0000, 0xff00, 0xff, 0};
        if (fields) {
            // Behind the 40 bytes of the oldest header, and part of the later ones, at one and the same place.
            masks = new int[] {in.getInt(54), in.getInt(58), in.getInt(62), 0};
            masks[3] = header >= 56 || compression == ALPHA_BIT_FIELDS ? in.getInt(66) : 0;
        }
        int[] palette = indexed ? palette(14 + header, old, depth, pixels) : null;
        long stride = (w * (long) depth + 31) / 32 * 4;
        if (pixels < 14 + header || pixels > in.limit() || !runs && stride * h > in.limit() - pixels) {
            throw Damage.truncated();
        }
        byte[] unpacked = runs ? unpack(pixels, w, h, depth) : null;
        Raster raster = new Raster(w, h, masks[3] != 0);
        byte[] rgb = new byte[3 * w];
        for (int y = 0; y < h; y++) {
            int stored = signedHeight < 0 ? y : h - 1 - y;
            int line = (int) (pixels + stored * stride);
            for (int x = 0; x < w; x++) {
                if (indexed) {
                    int bit = x * depth;
                    int index = runs
                            ? unpacked[stored * w + x] & 0xff
                            : (in.get(line + bit / 8) & 0xff) >> 8 - depth - bit % 8 & (1 << depth) - 1;
                    int color = palette[index];
                    rgb[3 * x] = (byte) (color >> 16);
                    rgb[3 * x + 1] = (byte) (color >> 8);
                    rgb[3 * x + 2] = (byte) color;
                } else if (depth == 24) {
                    rgb[3 * x] = in.get(line + 3 * x + 2);
                    rgb[3 * x + 1] = in.get(line + 3 * x + 1);
                    rgb[3 * x + 2] = in.get(line + 3 * x);
                } else {
                    int value = depth == 16 ? in.getShort(line + 2 * x) & 0xffff : in.getInt(line + 4 * x);
                    for (int c = 0; c < 3; c++) {
                        rgb[3 * x + c] = field(value, masks[c]);
                    }
                    if (raster.alpha != null) {
                        raster.alpha[y * w + x] = field(value, masks[3]);
                    }
                }
            }
            raster.row(y, rgb);
        }
        return raster;
    }

    /** The bits under a mask, stretched to 0 to 255. */
    private static byte field(int value, int mask) {
        if (mask == 0) {
            return 0;
        }
        int shift = Integer.numberOfTrailingZeros(mask);
        long most = (mask & 0xffff_ffffL) >> shift;
        return (byte) (((value & mask & 0xffff_ffffL) >> shift) * 255 / most);
    }

    private int[] palette(int at, boolean old, int depth, int pixels) {
        int size = old ? 3 : 4;
        int named = old ? 0 : in.getInt(46);
        int count = named > 0 ? Math.min(named, 1 << depth) : 1 << depth;
        int[] colors = new int[1 << depth];
        for (int i = 0; i < count && at + (i + 1) * size <= pixels; i++) {
            int c = at + i * size;
            colors[i] = (in.get(c + 2) & 0xff) << 16 | (in.get(c + 1) & 0xff) << 8 | in.get(c) & 0xff;
        }
        return colors;
    }

    /** Run lengths to one index a byte, rows as stored. */
    private byte[] unpack(int at, int w, int h, int depth) {
        byte[] out = new byte[w * h];
        int x = 0;
        int y = 0;
        while (true) {
            int count = in.get(at++) & 0xff;
            int value = in.get(at++) & 0xff;
            if (count > 0) {
                for (int i = 0; i < count; i++) {
                    put(out, w, h, x++, y, depth == 8 ? value : i % 2 == 0 ? value >> 4 : value & 15);
                }
            } else if (value == 0) {
                x = 0;
                y++;
            } else if (value == 1) {
                return out;
            } else if (value == 2) {
                x += in.get(at++) & 0xff;
                y += in.get(at++) & 0xff;
            } else {
                int bytes = depth == 8 ? value : (value + 1) / 2;
                for (int i = 0; i < value; i++) {
                    int b = in.get(at + (depth == 8 ? i : i / 2)) & 0xff;
                    put(out, w, h, x++, y, depth == 8 ? b : i % 2 == 0 ? b >> 4 : b & 15);
                }
                at += bytes + (bytes & 1);
            }
        }
    }

    private static void put(byte[] out, int w, int h, int x, int y, int index) {
        // A run of 4-bit pixels may end in one that pads the row.
        if (x < w && y < h) {
            out[y * w + x] = (byte) index;
        }
    }
}
