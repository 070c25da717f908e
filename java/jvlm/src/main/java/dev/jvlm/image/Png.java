package dev.jvlm.image;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * PNG and APNG (W3C, Portable Network Graphics, third edition). Read here, not by OpenCV, which composes frames of an animation that
 * was not asked for and reduces 16-bit grey in another way than Pillow.
 */
final class Png {
    private static final int GREY = 0;
    private static final int RGB = 2;
    private static final int PALETTE = 3;
    private static final int GREY_ALPHA = 4;
    private static final int RGBA = 6;

    /** First column, first row, column step, row step of Adam7's seven passes. */
    private static final int[][] ADAM7 = {
        {0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}
    };

    /** A frame of an animation; its pixels are a PNG stream of their own size. */
    private record Frame(int width, int height, int x, int y, int dispose, int blend, List<Span> data) {}

    private final byte[] file;
    private final Decoding decoding;
    private int width;
    private int height;
    private int depth;
    private int color;
    private boolean interlaced;
    private byte[] palette;
    private byte[] transparency;
    private int orientation = 1;
    private final List<Span> data = new ArrayList<>();
    private final List<Frame> frames = new ArrayList<>();

    private Png(byte[] file, Decoding decoding) {
        this.file = file;
        this.decoding = decoding;
    }

    static Raster read(byte[] file, Decoding decoding) {
        return new Png(file, decoding).read();
    }

    private Raster read() {
        walk();
        Raster raster;
        if (decoding.frame() == 0) {
            // The image that a viewer without animation shows; it is the first frame wherever it is a frame at all.
            raster = pixels(width, height, data);
        } else {
            if (decoding.frame() >= frames.size()) {
                throw Decoder.noSuchFrame(decoding.frame(), Math.max(1, frames.size()));
            }
            Canvas canvas = new Canvas(width, height);
            for (Frame f : frames.subList(0, decoding.frame() + 1)) {
                canvas.draw(pixels(f.width, f.height, f.data), f.x, f.y, f.blend == 1, Canvas.Dispose.values()[f.dispose]);
            }
            raster = canvas.raster();
        }
        raster.orientation = orientation;
        return raster;
    }

    private void walk() {
        ByteBuffer in = ByteBuffer.wrap(file).position(8);
        while (true) {
            int length = in.getInt();
            int type = in.getInt();
            int start = in.position();
            if (length < 0 || length > file.length - start - 4) {
                throw Damage.truncated();
            }
            if (width == 0 && type != name("IHDR")) {
                throw Damage.of("its header does not come first");
            }
            ByteBuffer body = in.slice(start, length);
            in.position(start + length);
            int crc = in.getInt();
            if (type == name("IHDR")) {
                verify(start, length, crc);
                header(body);
            } else if (type == name("PLTE")) {
                verify(start, length, crc);
                palette = bytes(body, 768);
            } else if (type == name("tRNS")) {
                verify(start, length, crc);
                transparency = bytes(body, 256);
            } else if (type == name("IDAT")) {
                verify(start, length, crc);
                data.add(new Span(start, length));
                if (frames.size() == 1) {
                    frames.get(0).data.add(new Span(start, length));
                }
            } else if (type == name("eXIf")) {
                orientation = Exif.orientation(body);
            } else if (type == name("fcTL") && frames.size() <= decoding.frame()) {
                frame(body);
            } else if (type == name("fdAT") && !frames.isEmpty()) {
                verify(start, length, crc);
                frames.get(frames.size() - 1).data.add(new Span(start + 4, length - 4));
            } else if (type == name("IEND")) {
                return;
            }
        }
    }

    private static int name(String type) {
        return type.charAt(0) << 24 | type.charAt(1) << 16 | type.charAt(2) << 8 | type.charAt(3);
    }

    private void verify(int start, int length, int expected) {
        CRC32 crc = new CRC32();
        crc.update(file, start - 4, length + 4);
        if ((int) crc.getValue() != expected) {
            throw Damage.of("a checksum is wrong");
        }
    }

    private static byte[] bytes(ByteBuffer body, int most) {
        byte[] copy = new byte[Math.min(body.remaining(), most)];
        body.get(copy);
        return copy;
    }

    private void header(ByteBuffer b) {
        if (width != 0) {
            throw Damage.of("it has two headers");
        }
        Raster.check(b.getInt(0) & 0xffff_ffffL, b.getInt(4) & 0xffff_ffffL, decoding);
        width = b.getInt(0);
        height = b.getInt(4);
        depth = b.get(8);
        color = b.get(9);
        interlaced = b.get(12) == 1;
        boolean known =
                switch (color) {
                    case GREY -> depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
                    case PALETTE -> depth == 1 || depth == 2 || depth == 4 || depth == 8;
                    case RGB, GREY_ALPHA, RGBA -> depth == 8 || depth == 16;
                    default -> false;
                };
        if (!known || b.get(10) != 0 || b.get(11) != 0 || b.get(12) < 0 || b.get(12) > 1) {
            throw Damage.of("its header is contradictory");
        }
    }

    private void frame(ByteBuffer b) {
        Frame f = new Frame(b.getInt(4), b.getInt(8), b.getInt(12), b.getInt(16), b.get(24), b.get(25), new ArrayList<>());
        if (f.width < 1
                || f.height < 1
                || f.x < 0
                || f.y < 0
                || f.width > width - f.x
                || f.height > height - f.y
                || f.dispose < 0
                || f.dispose > 2) {
            throw Damage.of("a frame lies outside the picture");
        }
        // Where the default image is no frame, it counts as one before the others, as in Pillow.
        if (frames.isEmpty() && !data.isEmpty()) {
            frames.add(new Frame(width, height, 0, 0, 1, 0, new ArrayList<>(data)));
        }
        frames.add(f);
    }

    private int channels() {
        return switch (color) {
            case RGB -> 3;
            case GREY_ALPHA -> 2;
            case RGBA -> 4;
            default -> 1;
        };
    }

    private Raster pixels(int w, int h, List<Span> spans) {
        if (color == PALETTE && palette == null) {
            throw Damage.of("it has no palette");
        }
        Raster raster = new Raster(w, h, color == GREY_ALPHA || color == RGBA || transparency != null);
        byte[] rgb = new byte[3 * w];
        byte[] alpha = new byte[w];
        try (Stream stream = new Stream(spans)) {
            if (!interlaced) {
                byte[][] lines = lines(w);
                for (int y = 0; y < h; y++) {
                    byte[] line = stream.line(lines, y);
                    convert(line, w, rgb, alpha);
                    raster.row(y, rgb);
                    if (raster.alpha != null) {
                        System.arraycopy(alpha, 0, raster.alpha, y * w, w);
                    }
                }
            } else {
                for (int[] pass : ADAM7) {
                    int columns = (w - pass[0] + pass[2] - 1) / pass[2];
                    int rows = (h - pass[1] + pass[3] - 1) / pass[3];
                    byte[][] lines = lines(columns);
                    for (int i = 0; columns > 0 && i < rows; i++) {
                        convert(stream.line(lines, i), columns, rgb, alpha);
                        for (int j = 0; j < columns; j++) {
                            int at = (pass[1] + i * pass[3]) * w + pass[0] + j * pass[2];
                            raster.rgb.put(3 * at, rgb, 3 * j, 3);
                            if (raster.alpha != null) {
                                raster.alpha[at] = alpha[j];
                            }
                        }
                    }
                }
            }
            stream.end();
        }
        return raster;
    }

    /** This line and the one before it, each behind as many zeros as a pixel has bytes, so that "the pixel to the left" always exists. */
    private byte[][] lines(int columns) {
        int bytes = (int) (((long) columns * channels() * depth + 7) / 8);
        return new byte[2][stride() + bytes];
    }

    private int stride() {
        return Math.max(1, channels() * depth / 8);
    }

    /** One line as stored to RGB and alpha. */
    private void convert(byte[] line, int columns, byte[] rgb, byte[] alpha) {
        int at = stride();
        int step = depth / 8;
        switch (color) {
            case GREY -> {
                int max = (1 << depth) - 1;
                int key = transparency != null && transparency.length >= 2 ? key(0) : -1;
                for (int x = 0; x < columns; x++) {
                    int v = depth == 16 ? two(line, at + 2 * x) : packed(line, at, x);
                    // Pillow clips 16-bit grey to 8 bits, it does not scale it.
                    int grey = depth == 16 ? Math.min(v, 255) : v * (255 / max);
                    rgb[3 * x] = rgb[3 * x + 1] = rgb[3 * x + 2] = (byte) grey;
                    alpha[x] = (byte) (v == key ? 0 : 255);
                }
            }
            case PALETTE -> {
                for (int x = 0; x < columns; x++) {
                    int v = packed(line, at, x);
                    for (int c = 0; c < 3; c++) {
                        rgb[3 * x + c] = 3 * v + c < palette.length ? palette[3 * v + c] : 0;
                    }
                    alpha[x] = transparency != null && v < transparency.length ? transparency[v] : (byte) 255;
                }
            }
            case GREY_ALPHA -> {
                for (int x = 0; x < columns; x++) {
                    rgb[3 * x] = rgb[3 * x + 1] = rgb[3 * x + 2] = line[at + 2 * step * x];
                    alpha[x] = line[at + 2 * step * x + step];
                }
            }
            case RGB -> {
                boolean keyed = transparency != null && transparency.length >= 6;
                if (!keyed && depth == 8) {
                    System.arraycopy(line, at, rgb, 0, 3 * columns);
                    Arrays.fill(alpha, (byte) 255);
                    return;
                }
                for (int x = 0; x < columns; x++) {
                    boolean clear = keyed;
                    for (int c = 0; c < 3; c++) {
                        int i = at + (3 * x + c) * step;
                        rgb[3 * x + c] = line[i];
                        clear = clear && (depth == 16 ? two(line, i) : line[i] & 0xff) == key(c);
                    }
                    alpha[x] = (byte) (clear ? 0 : 255);
                }
            }
            default -> {
                for (int x = 0; x < columns; x++) {
                    int i = at + 4 * step * x;
                    rgb[3 * x] = line[i];
                    rgb[3 * x + 1] = line[i + step];
                    rgb[3 * x + 2] = line[i + 2 * step];
                    alpha[x] = line[i + 3 * step];
                }
            }
        }
    }

    /** The transparent value of one channel, in the picture's depth. */
    private int key(int channel) {
        return two(transparency, 2 * channel) & (1 << depth) - 1;
    }

    private static int two(byte[] b, int at) {
        return (b[at] & 0xff) << 8 | b[at + 1] & 0xff;
    }

    private int packed(byte[] line, int at, int x) {
        int bit = x * depth;
        return (line[at + bit / 8] & 0xff) >> 8 - depth - bit % 8 & (1 << depth) - 1;
    }

    /** The decompressed lines of one picture. */
    private final class Stream implements AutoCloseable {
        private final Inflater inflater = new Inflater();
        private final List<Span> spans;
        private int next;

        Stream(List<Span> spans) {
            this.spans = spans;
        }

        /** Line {@code y}, unfiltered; it stays valid until the one after the next. */
        byte[] line(byte[][] lines, int y) {
            byte[] line = lines[y % 2];
            byte[] above = lines[(y + 1) % 2];
            byte[] filter = new byte[1];
            fill(filter, 0, 1);
            int n = stride();
            fill(line, n, line.length - n);
            switch (filter[0]) {
                case 0 -> {}
                case 1 -> {
                    for (int i = n; i < line.length; i++) {
                        line[i] += line[i - n];
                    }
                }
                case 2 -> {
                    for (int i = n; i < line.length; i++) {
                        line[i] += above[i];
                    }
                }
                case 3 -> {
                    for (int i = n; i < line.length; i++) {
                        line[i] += (byte) ((line[i - n] & 0xff) + (above[i] & 0xff) >> 1);
                    }
                }
                case 4 -> {
                    for (int i = n; i < line.length; i++) {
                        int a = line[i - n] & 0xff;
                        int b = above[i] & 0xff;
                        int c = above[i - n] & 0xff;
                        int toA = Math.abs(b - c);
                        int toB = Math.abs(a - c);
                        int toC = Math.abs(a + b - 2 * c);
                        line[i] += (byte) (toA <= toB && toA <= toC ? a : toB <= toC ? b : c);
                    }
                }
                default -> throw Damage.of("a line has an unknown filter");
            }
            return line;
        }

        private void fill(byte[] to, int from, int count) {
            while (count > 0) {
                int n = inflate(to, from, count);
                if (n == 0) {
                    throw Damage.of("it holds fewer pixels than its header says");
                }
                from += n;
                count -= n;
            }
        }

        /** No pixels may be left: then the header lies about the size. */
        void end() {
            if (inflate(new byte[1], 0, 1) != 0) {
                throw Damage.of("it holds more pixels than its header says");
            }
        }

        private int inflate(byte[] to, int from, int count) {
            try {
                while (true) {
                    int n = inflater.inflate(to, from, count);
                    if (n > 0 || inflater.finished()) {
                        return n;
                    }
                    if (inflater.needsDictionary() || !inflater.needsInput() || next == spans.size()) {
                        return 0;
                    }
                    Span span = spans.get(next++);
                    inflater.setInput(file, span.start(), span.length());
                }
            } catch (DataFormatException e) {
                throw Damage.of("its compressed data are inconsistent");
            }
        }

        @Override
        public void close() {
            inflater.end();
        }
    }
}
