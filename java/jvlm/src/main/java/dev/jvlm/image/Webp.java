package dev.jvlm.image;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** WebP (RFC 9649). The container is read here; each frame's bitstream goes to the decoder as a still picture of its own. */
final class Webp {
    private final ByteBuffer in;
    private final Decoding decoding;

    private Webp(byte[] file, Decoding decoding) {
        in = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
        this.decoding = decoding;
    }

    static Raster read(byte[] file, Decoding decoding) {
        return new Webp(file, decoding).read();
    }

    private Raster read() {
        int end = 8 + size(4, in.limit() - 8);
        if (end < 12) {
            throw Damage.truncated();
        }
        if (!is(12, "VP8X")) {
            stillOnly();
            return bitstream(12, end, 0, 0);
        }
        int flags = in.get(20);
        int width = three(24) + 1;
        int height = three(27) + 1;
        Raster.check(width, height, decoding);
        Raster raster;
        if ((flags & 2) != 0) {
            raster = animation(end, width, height);
        } else {
            stillOnly();
            raster = bitstream(find(12, end, "VP8 ", "VP8L", "ALPH"), end, width, height);
        }
        int exif = (flags & 8) == 0 ? end : search(12, end, "EXIF");
        if (exif < end) {
            raster.orientation = Exif.orientation(in.slice(exif + 8, size(exif + 4, end - exif - 8)));
        }
        return raster;
    }

    private void stillOnly() {
        if (decoding.frame() > 0) {
            throw Decoder.noSuchFrame(decoding.frame(), 1);
        }
    }

    private Raster animation(int end, int width, int height) {
        Canvas canvas = new Canvas(width, height);
        int at = 12;
        for (int i = 0; i <= decoding.frame(); i++) {
            at = search(at, end, "ANMF");
            if (at == end) {
                if (i == 0) {
                    throw Damage.of("it has no frames");
                }
                throw Decoder.noSuchFrame(decoding.frame(), i);
            }
            int next = next(at, end);
            int body = at + 8;
            int frameWidth = three(body + 6) + 1;
            int frameHeight = three(body + 9) + 1;
            Raster.check(frameWidth, frameHeight, decoding);
            int bits = in.get(body + 15);
            Raster frame = bitstream(find(body + 16, next, "VP8 ", "VP8L", "ALPH"), next, frameWidth, frameHeight);
            canvas.draw(
                    frame,
                    2 * three(body),
                    2 * three(body + 3),
                    (bits & 2) == 0,
                    (bits & 1) == 0 ? Canvas.Dispose.KEEP : Canvas.Dispose.CLEAR);
            at = next;
        }
        return canvas.raster();
    }

    /** A picture from its bitstream, and its alpha chunk where one comes before it. Its size must be the given one, unless that is 0. */
    private Raster bitstream(int at, int end, int width, int height) {
        int alpha = -1;
        if (is(at, "ALPH")) {
            alpha = at;
            at = find(next(at, end), end, "VP8 ");
        }
        int length = size(at + 4, end - at - 8);
        int body = at + 8;
        int w;
        int h;
        boolean transparent = alpha >= 0;
        if (is(at, "VP8 ")) {
            if ((in.get(body) & 1) != 0 || three(body + 3) != 0x2a019d) {
                throw Damage.of("its bitstream does not begin with a key frame");
            }
            w = in.getShort(body + 6) & 0x3fff;
            h = in.getShort(body + 8) & 0x3fff;
        } else if (is(at, "VP8L") && in.get(body) == 0x2f) {
            int bits = in.getInt(body + 1);
            w = (bits & 0x3fff) + 1;
            h = (bits >> 14 & 0x3fff) + 1;
            transparent = (bits >> 28 & 1) != 0;
        } else {
            throw Damage.of("it holds no bitstream");
        }
        if (width != 0 && (w != width || h != height)) {
            throw Damage.of("its headers name different sizes");
        }
        Raster.check(w, h, decoding);
        int alphaBytes = alpha < 0 ? 0 : 18 + next(alpha, end) - alpha;
        ByteBuffer still = ByteBuffer.allocateDirect(12 + alphaBytes + 8 + length + (length & 1)).order(ByteOrder.LITTLE_ENDIAN);
        still.put(text("RIFF")).putInt(still.capacity() - 8).put(text("WEBP"));
        if (alpha >= 0) {
            still.put(text("VP8X")).putInt(10).putInt(16);
            still.putShort((short) (w - 1)).put((byte) 0).putShort((short) (h - 1)).put((byte) 0);
            still.put(in.slice(alpha, alphaBytes - 18));
        }
        still.put(in.slice(at, 8 + length));
        return OpenCv.decode(still.rewind(), w, h, transparent);
    }

    /** A chunk's length, which must fit into what is left. */
    private int size(int at, int left) {
        int size = in.getInt(at);
        if (size < 0 || size > left) {
            throw Damage.truncated();
        }
        return size;
    }

    private int next(int at, int end) {
        int size = size(at + 4, end - at - 8);
        // A chunk of odd length is padded; writers forget it behind the last one.
        return Math.min(end, at + 8 + size + (size & 1));
    }

    /** The first chunk of one of these types, or {@code end}. */
    private int search(int at, int end, String... types) {
        for (; at < end; at = next(at, end)) {
            for (String type : types) {
                if (is(at, type)) {
                    return at;
                }
            }
        }
        return end;
    }

    private int find(int at, int end, String... types) {
        int found = search(at, end, types);
        if (found == end) {
            throw Damage.of("it holds no bitstream");
        }
        return found;
    }

    private boolean is(int at, String type) {
        return Decoder.starts(in.array(), at, type);
    }

    private static byte[] text(String type) {
        return type.getBytes(java.nio.charset.StandardCharsets.ISO_8859_1);
    }

    private int three(int at) {
        return in.getShort(at) & 0xffff | (in.get(at + 2) & 0xff) << 16;
    }
}
