package dev.jvlm.image;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * TIFF 6 and BigTIFF: bilevel, grey, palette, RGB, CMYK, with or without alpha; not compressed, or by CCITT, LZW, Deflate, PackBits or
 * JPEG, new and old. Read here: OpenCV's reader turns, premultiplies and rounds unlike Pillow, refuses some of what it reads, and follows
 * directories through the whole file.
 */
final class Tiff {
    private static final int WIDTH = 256;
    private static final int HEIGHT = 257;
    private static final int BITS = 258;
    private static final int COMPRESSION = 259;
    private static final int PHOTOMETRIC = 262;
    private static final int FILL_ORDER = 266;
    private static final int STRIP_OFFSETS = 273;
    private static final int ORIENTATION = 274;
    private static final int SAMPLES = 277;
    private static final int ROWS_PER_STRIP = 278;
    private static final int STRIP_BYTES = 279;
    private static final int PLANAR = 284;
    private static final int FAX_OPTIONS = 292;
    private static final int PREDICTOR = 317;
    private static final int COLOR_MAP = 320;
    private static final int TILE_WIDTH = 322;
    private static final int TILE_HEIGHT = 323;
    private static final int TILE_OFFSETS = 324;
    private static final int TILE_BYTES = 325;
    private static final int EXTRA_SAMPLES = 338;
    private static final int SAMPLE_FORMAT = 339;
    private static final int JPEG_TABLES = 347;
    private static final int OLD_JPEG_OFFSET = 513;
    private static final int OLD_JPEG_BYTES = 514;

    private static final int WHITE_IS_ZERO = 0;
    private static final int BLACK_IS_ZERO = 1;
    private static final int RGB = 2;
    private static final int PALETTE = 3;
    private static final int CMYK = 5;
    private static final int YCC = 6;

    private static final int UNCOMPRESSED = 1;
    private static final int LZW = 5;
    private static final int OLD_JPEG = 6;
    private static final int JPEG = 7;
    private static final int DEFLATE = 8;
    private static final int OLD_DEFLATE = 32946;
    private static final int PACK_BITS = 32773;

    /** Bytes of a value of each field type, 0 for unknown ones. */
    private static final int[] TYPE_BYTES = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8};

    /** Of one field; no picture within the limits has more strips, and a field that is longer must not cost more memory. */
    private static final int MOST_VALUES = 1 << 22;

    private final ByteBuffer in;
    private final boolean big;
    private final Decoding decoding;
    private final Map<Integer, long[]> fields = new HashMap<>();

    private int width;
    private int height;
    private int bits;
    private int samples;
    private int compression;
    private int photometric;
    private boolean planar;
    private boolean signed;
    private long[] palette;

    private Tiff(byte[] file, Decoding decoding) {
        in = ByteBuffer.wrap(file).order(file[0] == 'I' ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN);
        big = in.getShort(2) == 43;
        this.decoding = decoding;
    }

    static Raster read(byte[] file, Decoding decoding) {
        return new Tiff(file, decoding).read();
    }

    private Raster read() {
        fields(directory());
        long claimedWidth = field(WIDTH, 0);
        long claimedHeight = field(HEIGHT, 0);
        Raster.check(claimedWidth, claimedHeight, decoding);
        width = (int) claimedWidth;
        height = (int) claimedHeight;
        compression = (int) field(COMPRESSION, UNCOMPRESSED);
        photometric = (int) field(PHOTOMETRIC, WHITE_IS_ZERO);
        samples = (int) field(SAMPLES, 1);
        planar = field(PLANAR, 1) == 2 && samples > 1;
        bits = bits();
        signed = field(SAMPLE_FORMAT, 1) == 2;
        palette = fields.getOrDefault(COLOR_MAP, new long[0]);
        boolean fax = compression >= 2 && compression <= 4;
        int colors = photometric == RGB || photometric == YCC ? 3 : photometric == CMYK ? 4 : 1;
        boolean packed = bits < 8 && (samples > 1 || colors > 1);
        if (photometric > YCC
                || photometric == 4
                || photometric == YCC && compression != JPEG && compression != OLD_JPEG
                || samples < colors
                || samples > colors + 4
                || bits != 1 && bits != 2 && bits != 4 && bits != 8 && bits != 16
                || packed
                || photometric == PALETTE && bits == 16
                || fax && (bits != 1 || samples != 1)
                || field(SAMPLE_FORMAT, 1) > 2
                || !fax
                        && compression != UNCOMPRESSED
                        && compression != LZW
                        && compression != JPEG
                        && !(compression == OLD_JPEG && photometric == YCC)
                        && compression != DEFLATE
                        && compression != OLD_DEFLATE
                        && compression != PACK_BITS) {
            throw Damage.unsupported(
                    "a TIFF of color kind " + photometric + ", " + samples + " samples of " + bits + " bits, compression " + compression);
        }
        if (photometric == PALETTE && palette.length < 3 << bits) {
            throw Damage.of("its palette is missing or too short");
        }
        int extra = samples > colors ? (int) field(EXTRA_SAMPLES, 0) : 0;
        Raster raster = new Raster(width, height, extra == 1 || extra == 2);
        if (compression == JPEG) {
            jpegs(raster);
        } else if (compression == OLD_JPEG) {
            oldJpeg(raster);
        } else {
            chunks(raster, colors, extra);
        }
        long orientation = field(ORIENTATION, 1);
        raster.orientation = orientation >= 1 && orientation <= 8 ? (int) orientation : 1;
        return raster;
    }

    /** All samples have one depth, or the file is refused. */
    private int bits() {
        long[] all = fields.getOrDefault(BITS, new long[] {1});
        for (long b : all) {
            if (b != all[0] || b < 1 || b > 64) {
                throw Damage.unsupported("a TIFF whose channels differ in depth");
            }
        }
        return (int) all[0];
    }

    /** Where the asked page's directory lies. The whole chain is followed, so that one that leads back into itself is refused. */
    private int directory() {
        Set<Integer> seen = new HashSet<>();
        int found = -1;
        int at = offset(big ? 8 : 4);
        while (at != 0) {
            if (!seen.add(at)) {
                throw Damage.of("its chain of pages leads back into itself");
            }
            if (seen.size() > Decoding.MAX_FRAMES) {
                throw Damage.of("it has more than " + Decoding.MAX_FRAMES + " pages");
            }
            if (seen.size() - 1 == decoding.frame()) {
                found = at;
            }
            long end = at + (big ? 8 + 20L * entries(at) : 2 + 12L * entries(at));
            if (end > in.limit() - (big ? 8 : 4)) {
                // The end of the chain may be missing in a file whose pages are all there.
                break;
            }
            at = offset((int) end);
        }
        if (found < 0) {
            throw seen.isEmpty() ? Damage.of("it has no pages") : Decoder.noSuchFrame(decoding.frame(), seen.size());
        }
        return found;
    }

    /** An offset; 0 where it lies outside the file, which ends a chain. */
    private int offset(int at) {
        long to = big ? in.getLong(at) : in.getInt(at) & 0xffff_ffffL;
        return to < 8 || to > in.limit() - 2 ? 0 : (int) to;
    }

    private int entries(int at) {
        // More do not make sense, and a 64-bit count must not overflow.
        return big ? (int) Math.min(in.getLong(at) & Long.MAX_VALUE, 0xffff) : in.getShort(at) & 0xffff;
    }

    /** Reads the fields that are numbers. One that is broken is left out, and missed where it is needed. */
    private void fields(int directory) {
        int count = entries(directory);
        int step = big ? 20 : 12;
        for (int i = 0; i < count; i++) {
            int at = directory + (big ? 8 : 2) + i * step;
            if (at + step > in.limit()) {
                return;
            }
            int tag = in.getShort(at) & 0xffff;
            int type = in.getShort(at + 2) & 0xffff;
            int size = type < TYPE_BYTES.length ? TYPE_BYTES[type] : 0;
            long values = big ? in.getLong(at + 4) : in.getInt(at + 4) & 0xffff_ffffL;
            // Descriptions, profiles and the like are not looked at.
            boolean wanted = tag >= WIDTH && tag <= OLD_JPEG_BYTES;
            if (!wanted || size == 0 || type == 5 || type > 9 && type != 16 || values < 1 || values > in.limit() / size) {
                continue;
            }
            long from = at + (big ? 12 : 8);
            if (values * size > (big ? 8 : 4)) {
                from = big ? in.getLong((int) from) : in.getInt((int) from) & 0xffff_ffffL;
            }
            if (from < 0 || from > in.limit() - values * size) {
                continue;
            }
            long[] read = new long[(int) Math.min(values, MOST_VALUES)];
            for (int v = 0; v < read.length; v++) {
                int where = (int) from + v * size;
                read[v] =
                        switch (size) {
                            case 1 -> in.get(where) & 0xff;
                            case 2 -> in.getShort(where) & 0xffff;
                            case 4 -> in.getInt(where) & 0xffff_ffffL;
                            default -> in.getLong(where);
                        };
            }
            fields.putIfAbsent(tag, read);
        }
    }

    private long field(int tag, long otherwise) {
        long[] values = fields.get(tag);
        return values == null ? otherwise : values[0];
    }

    /** The rectangles that a picture is stored in: tiles, or strips as wide as the picture. */
    private interface Chunk {
        /** Takes chunk {@code index}: the picture's plane it belongs to, its place, and its stored size, which may reach over the edge. */
        void at(int index, int plane, int x, int y, int w, int h);
    }

    private void each(Chunk chunk) {
        boolean tiled = fields.containsKey(TILE_OFFSETS);
        long w = tiled ? field(TILE_WIDTH, 0) : width;
        long h = tiled ? field(TILE_HEIGHT, 0) : Math.min(height, field(ROWS_PER_STRIP, height));
        // Tiles are multiples of 16, so they may be larger than a small picture, but not by more.
        if (w < 1 || h < 1 || w > width + 65535L || h > height + 65535L || w * h > Math.max(1L << 20, 4L * width * height)) {
            throw Damage.of("its strips or tiles have no sensible size");
        }
        if (w * h * samples * bits / 8 > Integer.MAX_VALUE - 8) {
            throw Damage.unsupported("a TIFF with strips or tiles of more than 2 GiB");
        }
        int index = 0;
        for (int plane = 0; plane < (planar ? samples : 1); plane++) {
            for (int y = 0; y < height; y += (int) h) {
                for (int x = 0; x < width; x += (int) w) {
                    chunk.at(index++, plane, x, y, (int) w, (int) (tiled ? h : Math.min(h, height - y)));
                }
            }
        }
    }

    /** The stored bytes of a chunk. */
    private byte[] stored(int index, long uncompressed) {
        boolean tiled = fields.containsKey(TILE_OFFSETS);
        long[] offsets = fields.get(tiled ? TILE_OFFSETS : STRIP_OFFSETS);
        long[] counts = fields.get(tiled ? TILE_BYTES : STRIP_BYTES);
        if (offsets == null || index >= offsets.length) {
            throw Damage.truncated();
        }
        long from = offsets[index];
        long left = in.limit() - from;
        // Some writers leave the counts out, or write nonsense where the length follows from the size.
        long count = counts != null && index < counts.length ? counts[index] : left;
        if (compression == UNCOMPRESSED) {
            count = uncompressed;
        }
        if (from < 0 || left < 1 || count < 0 || compression == UNCOMPRESSED && count > left) {
            throw Damage.truncated();
        }
        byte[] data = new byte[(int) Math.min(count, left)];
        in.get((int) from, data);
        if (field(FILL_ORDER, 1) == 2) {
            for (int i = 0; i < data.length; i++) {
                data[i] = (byte) (Integer.reverse(data[i]) >>> 24);
            }
        }
        return data;
    }

    private void chunks(Raster raster, int colors, int extra) {
        byte[] rgb = new byte[3 * width];
        int[] sample = new int[samples];
        // Planes come one after the other, so all of a planar picture is gathered before colours can be made of it.
        byte[][] planes = planar ? new byte[samples][] : null;
        int unit = bits == 16 ? 2 : 1;
        each((index, plane, x, y, w, h) -> {
            int inChunk = planar ? 1 : samples;
            int stride = (int) (((long) w * inChunk * bits + 7) / 8);
            byte[] data = unpack(stored(index, (long) stride * h), w, h, stride, inChunk);
            int columns = Math.min(w, width - x);
            int rows = Math.min(h, height - y);
            if (planar) {
                if (planes[plane] == null) {
                    planes[plane] = new byte[width * height * unit];
                }
                for (int row = 0; row < rows; row++) {
                    for (int i = 0; i < columns * unit; i++) {
                        planes[plane][((y + row) * width + x) * unit + i] = data[row * stride + i];
                    }
                }
                return;
            }
            for (int row = 0; row < rows; row++) {
                for (int column = 0; column < columns; column++) {
                    for (int s = 0; s < samples; s++) {
                        sample[s] = value(data, row * stride, column * samples + s);
                    }
                    pixel(raster, rgb, column, (y + row) * width + x + column, sample, colors, extra);
                }
                raster.rgb.put(3 * ((y + row) * width + x), rgb, 0, 3 * columns);
            }
        });
        for (int y = 0; planar && y < height; y++) {
            for (int x = 0; x < width; x++) {
                for (int s = 0; s < samples; s++) {
                    sample[s] = value(planes[s], y * width * unit, x);
                }
                pixel(raster, rgb, x, y * width + x, sample, colors, extra);
            }
            raster.row(y, rgb);
        }
    }

    /** Sample {@code i} of a line, in the file's depth. */
    private int value(byte[] data, int line, int i) {
        if (bits == 8) {
            return data[line + i] & 0xff;
        }
        if (bits == 16) {
            int first = data[line + 2 * i] & 0xff;
            int second = data[line + 2 * i + 1] & 0xff;
            return in.order() == ByteOrder.BIG_ENDIAN ? first << 8 | second : second << 8 | first;
        }
        return (data[line + i * bits / 8] & 0xff) >> 8 - bits - i * bits % 8 & (1 << bits) - 1;
    }

    private void pixel(Raster raster, byte[] rgb, int at, int index, int[] sample, int colors, int extra) {
        int most = (1 << bits) - 1;
        switch (photometric) {
            case WHITE_IS_ZERO, BLACK_IS_ZERO -> {
                int v = photometric == WHITE_IS_ZERO ? most - sample[0] : sample[0];
                if (bits == 16) {
                    // Pillow clips 16-bit grey to 8 bits, it does not scale it. Negative numbers end as black.
                    v = signed ? Math.max(0, (short) v) : v;
                    v = Math.min(v, 255);
                } else {
                    v *= 255 / most;
                }
                rgb[3 * at] = rgb[3 * at + 1] = rgb[3 * at + 2] = (byte) v;
            }
            case PALETTE -> {
                for (int c = 0; c < 3; c++) {
                    rgb[3 * at + c] = (byte) (palette[(c << bits) + sample[0]] >> 8);
                }
            }
            case CMYK -> Colors.cmykToRgb(high(sample[0]), high(sample[1]), high(sample[2]), high(sample[3]), rgb, 3 * at);
            default -> {
                for (int c = 0; c < 3; c++) {
                    rgb[3 * at + c] = (byte) high(sample[c]);
                }
            }
        }
        if (raster.alpha == null) {
            return;
        }
        int alpha = high(sample[colors]);
        raster.alpha[index] = (byte) alpha;
        if (extra == 1) {
            // Colours were multiplied by alpha; undone by Pillow's formula.
            for (int c = 3 * at; c < 3 * at + 3; c++) {
                rgb[c] = alpha == 0 ? 0 : (byte) Math.min(255, (rgb[c] & 0xff) * 255 / alpha);
            }
        }
    }

    private int high(int sample) {
        return bits == 16 ? sample >> 8 : sample;
    }

    private byte[] unpack(byte[] data, int w, int h, int stride, int inChunk) {
        byte[] out = new byte[stride * h];
        int got;
        switch (compression) {
            case UNCOMPRESSED -> {
                return data;
            }
            case LZW -> got = Lzw.decode(data, 8, true, out);
            case DEFLATE, OLD_DEFLATE -> got = inflate(data, out);
            case PACK_BITS -> got = packBits(data, out);
            default -> {
                return Fax.decode(data, compression, field(FAX_OPTIONS, 0), w, h);
            }
        }
        if (got < out.length) {
            throw Damage.of("it holds fewer pixels than its header says");
        }
        if (field(PREDICTOR, 1) == 2) {
            undoPredictor(out, stride, inChunk);
        } else if (field(PREDICTOR, 1) != 1) {
            throw Damage.unsupported("a TIFF with predictor " + field(PREDICTOR, 1));
        }
        return out;
    }

    private static int inflate(byte[] data, byte[] out) {
        Inflater inflater = new Inflater();
        try {
            inflater.setInput(data);
            int got = 0;
            while (got < out.length) {
                int n = inflater.inflate(out, got, out.length - got);
                if (n == 0) {
                    break;
                }
                got += n;
            }
            return got;
        } catch (DataFormatException e) {
            throw Damage.of("its compressed data are inconsistent");
        } finally {
            inflater.end();
        }
    }

    private static int packBits(byte[] data, byte[] out) {
        int at = 0;
        int got = 0;
        while (got < out.length && at + 1 < data.length) {
            int n = data[at++];
            if (n >= 0) {
                int count = Math.min(Math.min(n + 1, out.length - got), data.length - at);
                System.arraycopy(data, at, out, got, count);
                at += n + 1;
                got += count;
            } else if (n != -128) {
                int count = Math.min(1 - n, out.length - got);
                Arrays.fill(out, got, got + count, data[at++]);
                got += count;
            }
        }
        return got;
    }

    /** Adds to each sample the one before it in its row. */
    private void undoPredictor(byte[] data, int stride, int inChunk) {
        if (bits != 8 && bits != 16) {
            throw Damage.unsupported("a TIFF with predictor 2 and samples of " + bits + " bits");
        }
        ByteBuffer wide = ByteBuffer.wrap(data).order(in.order());
        for (int line = 0; line < data.length; line += stride) {
            if (bits == 8) {
                for (int i = line + inChunk; i < line + stride; i++) {
                    data[i] += data[i - inChunk];
                }
            } else {
                for (int i = line + 2 * inChunk; i < line + stride; i += 2) {
                    wide.putShort(i, (short) (wide.getShort(i) + wide.getShort(i - 2 * inChunk)));
                }
            }
        }
    }

    /** Each chunk is a JPEG of its own, without the tables that all have in common. */
    private void jpegs(Raster raster) {
        if (bits != 8 || planar || photometric == PALETTE) {
            throw Damage.unsupported("a TIFF with JPEG in planes, with a palette or of " + bits + " bits");
        }
        long[] tables = fields.getOrDefault(JPEG_TABLES, new long[0]);
        each((index, plane, x, y, w, h) -> {
            byte[] data = stored(index, 0);
            // SOI; for RGB, Adobe's segment that says so; the tables without their SOI and EOI; the chunk without its SOI.
            ByteBuffer file = ByteBuffer.allocate(18 + tables.length + data.length);
            file.putShort((short) 0xffd8);
            if (photometric == RGB) {
                file.put(Jpeg.ADOBE_RGB);
            }
            for (int i = 2; i < tables.length - 2; i++) {
                file.put((byte) tables[i]);
            }
            file.put(data, 2, data.length - 2);
            Raster chunk = Jpeg.read(Arrays.copyOf(file.array(), file.position()), decoding, Jpeg.Ink.PLAIN);
            if (chunk.width < Math.min(w, width - x) || chunk.height < Math.min(h, height - y)) {
                throw Damage.of("its headers name different sizes");
            }
            for (int row = 0; row < Math.min(h, height - y); row++) {
                raster.rgb.put(3 * ((y + row) * width + x), chunk.rgb, 3 * row * chunk.width, 3 * Math.min(w, width - x));
            }
        });
        if (raster.alpha != null) {
            throw Damage.unsupported("a TIFF with JPEG and alpha");
        }
    }

    /** TIFF 6's own way to hold a JPEG, one for the whole picture. Its reader repeats halved chroma, where JPEG's interpolates it. */
    private void oldJpeg(Raster raster) {
        long from = field(OLD_JPEG_OFFSET, 0);
        long bytes = field(OLD_JPEG_BYTES, 0);
        if (bits != 8 || planar || samples != 3 || from < 8 || bytes < 4 || bytes > in.limit() - from) {
            throw Damage.unsupported("a TIFF with old-style JPEG that is not whole");
        }
        byte[] jpeg = new byte[(int) bytes];
        in.get((int) from, jpeg);
        if (!Decoder.starts(jpeg, 0, "\u00ff\u00d8")) {
            throw Damage.of("its compressed data are inconsistent");
        }
        Jpeg.Halved planes = Jpeg.halved(jpeg, width, height, decoding);
        byte[] rgb = new byte[3 * width];
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                int half = 3 * (y / 2 * ((width + 1) / 2) + x / 2);
                int luma = planes.luma().get(y * width + x) & 0xff;
                int cb = planes.chroma().get(half + 1) & 0xff;
                int cr = planes.chroma().get(half) & 0xff;
                Colors.yccToRgb(luma, cb, cr, Colors.TIFF_BLUE_IN_GREEN, rgb, 3 * x);
            }
            raster.row(y, rgb);
        }
    }
}
