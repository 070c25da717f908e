package dev.jvlm.image;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/** GIF (version 89a). Read here, because it is short and frames must be had as they are stored. */
final class Gif {
    private final ByteBuffer in;
    private final Decoding decoding;

    private Gif(byte[] file, Decoding decoding) {
        in = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
        this.decoding = decoding;
    }

    static Raster read(byte[] file, Decoding decoding) {
        return new Gif(file, decoding).read();
    }

    private Raster read() {
        int width = in.getShort(6) & 0xffff;
        int height = in.getShort(8) & 0xffff;
        Raster.check(width, height, decoding);
        int flags = in.get(10);
        skip(13);
        byte[] global = (flags & 0x80) != 0 ? palette(flags) : null;
        Canvas canvas = new Canvas(width, height);
        int transparent = -1;
        int dispose = 0;
        int frames = 0;
        while (true) {
            int block = in.get() & 0xff;
            if (block == 0x21) {
                if ((in.get() & 0xff) == 0xf9 && (in.get(in.position()) & 0xff) == 4) {
                    int bits = in.get(in.position() + 1);
                    transparent = (bits & 1) != 0 ? in.get(in.position() + 4) & 0xff : -1;
                    dispose = bits >> 2 & 7;
                }
                skipBlocks();
            } else if (block == 0x2c) {
                int left = in.getShort() & 0xffff;
                int top = in.getShort() & 0xffff;
                int frameWidth = in.getShort() & 0xffff;
                int frameHeight = in.getShort() & 0xffff;
                Raster.check(frameWidth, frameHeight, decoding);
                int bits = in.get();
                byte[] colors = (bits & 0x80) != 0 ? palette(bits) : global;
                if (colors == null) {
                    throw Damage.of("it has no palette");
                }
                Raster frame = frame(frameWidth, frameHeight, (bits & 0x40) != 0, colors, transparent);
                if (frames == 0) {
                    // What the first frame leaves free is transparent, in its palette's terms: that is seen where alpha is dropped.
                    canvas.fill(colors, Math.max(0, transparent));
                }
                canvas.draw(
                        frame,
                        left,
                        top,
                        frames > 0,
                        dispose == 2 ? Canvas.Dispose.CLEAR : dispose == 3 ? Canvas.Dispose.RESTORE : Canvas.Dispose.KEEP);
                if (frames++ == decoding.frame()) {
                    return canvas.raster();
                }
                transparent = -1;
                dispose = 0;
            } else if (block == 0x3b) {
                if (frames == 0) {
                    throw Damage.of("it holds no pixels");
                }
                throw Decoder.noSuchFrame(decoding.frame(), frames);
            } else {
                throw Damage.of("a block is of an unknown kind");
            }
        }
    }

    private byte[] palette(int flags) {
        byte[] colors = new byte[3 << (flags & 7) + 1];
        in.get(colors);
        return colors;
    }

    private void skip(int bytes) {
        if (bytes > in.remaining()) {
            throw Damage.truncated();
        }
        in.position(in.position() + bytes);
    }

    private void skipBlocks() {
        for (int size = in.get() & 0xff; size > 0; size = in.get() & 0xff) {
            skip(size);
        }
    }

    private Raster frame(int width, int height, boolean interlaced, byte[] colors, int transparent) {
        Raster raster = new Raster(width, height, true);
        byte[] indices = lzw(width * height);
        byte[] rgb = new byte[3 * width];
        int line = 0;
        // Every eighth line from 0, every eighth from 4, every fourth from 2, every second from 1.
        int[][] passes = interlaced ? new int[][] {{0, 8}, {4, 8}, {2, 4}, {1, 2}} : new int[][] {{0, 1}};
        for (int[] pass : passes) {
            for (int y = pass[0]; y < height; y += pass[1]) {
                for (int x = 0; x < width; x++) {
                    int index = indices[line * width + x] & 0xff;
                    for (int c = 0; c < 3; c++) {
                        rgb[3 * x + c] = 3 * index + c < colors.length ? colors[3 * index + c] : 0;
                    }
                    raster.alpha[y * width + x] = (byte) (index == transparent ? 0 : 255);
                }
                raster.row(y, rgb);
                line++;
            }
        }
        return raster;
    }

    /** Exactly {@code count} indices; what follows in the sub-blocks is skipped. */
    private byte[] lzw(int count) {
        int bits = in.get();
        if (bits < 1 || bits > 8) {
            throw Damage.of("its compressed data are inconsistent");
        }
        byte[] indices = new byte[count];
        if (Lzw.decode(blocks(), bits, false, indices) < count) {
            throw Damage.of("it holds fewer pixels than its header says");
        }
        return indices;
    }

    private byte[] blocks() {
        int begin = in.position();
        skipBlocks();
        byte[] data = new byte[in.position() - begin];
        int n = 0;
        for (int at = begin; in.get(at) != 0; at += 1 + (in.get(at) & 0xff)) {
            int size = in.get(at) & 0xff;
            in.get(at + 1, data, n, size);
            n += size;
        }
        return Arrays.copyOf(data, n);
    }
}
