package dev.jvlm.image;

/** LZW as GIF and TIFF use it: codes of up to 12 bits, each naming a stretch of what was written before. */
final class Lzw {
    private static final int CODES = 4096;

    private Lzw() {}

    /**
     * Fills {@code out} as far as the data go.
     *
     * @param bits bits of a literal
     * @param tiff codes start at a byte's high bit and widen one code early; in GIF they start at the low bit
     * @return bytes written
     */
    static int decode(byte[] data, int bits, boolean tiff, byte[] out) {
        int clear = 1 << bits;
        int[] start = new int[CODES];
        int[] length = new int[CODES];
        int next = clear + 2;
        int width = bits + 1;
        int previousStart = 0;
        int previousLength = 0;
        int written = 0;
        int at = 0;
        int buffer = 0;
        int have = 0;
        while (written < out.length) {
            while (have < width) {
                if (at == data.length) {
                    return written;
                }
                int b = data[at++] & 0xff;
                buffer = tiff ? buffer << 8 | b : buffer | b << have;
                have += 8;
            }
            int code;
            if (tiff) {
                code = buffer >> have - width & (1 << width) - 1;
            } else {
                code = buffer & (1 << width) - 1;
                buffer >>>= width;
            }
            have -= width;
            if (code == clear) {
                next = clear + 2;
                width = bits + 1;
                previousLength = 0;
                continue;
            }
            if (code == clear + 1) {
                return written;
            }
            int begin = written;
            int count = 1;
            if (code < clear) {
                out[written++] = (byte) code;
            } else {
                // A code that is only now being defined is the string before it and that string's first byte.
                boolean known = code < next;
                if (!known && (code > next || previousLength == 0)) {
                    throw Damage.of("its compressed data are inconsistent");
                }
                int from = known ? start[code] : previousStart;
                count = known ? length[code] : previousLength + 1;
                int stop = Math.min(out.length, written + count);
                while (written < stop) {
                    out[written++] = out[from++];
                }
            }
            if (previousLength > 0 && next < CODES) {
                start[next] = previousStart;
                length[next++] = previousLength + 1;
                if (next + (tiff ? 1 : 0) >= 1 << width && width < 12) {
                    width++;
                }
            }
            previousStart = begin;
            previousLength = count;
        }
        return written;
    }
}
