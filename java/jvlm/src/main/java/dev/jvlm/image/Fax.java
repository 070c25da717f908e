package dev.jvlm.image;

import java.util.Arrays;

/** CCITT facsimile coding: groups 3 (ITU-T T.4) and 4 (T.6), and the run lengths alone (TIFF's compression 2). */
final class Fax {
    /** Run lengths 0 to 63, then 64 to 1728 in steps of 64 (T.4, tables 2 and 3a). */
    private static final String WHITE =
            """
            00110101 000111 0111 1000 1011 1100 1110 1111 10011 10100 00111 01000 001000 000011 110100 110101 101010 101011 0100111
            0001100 0001000 0010111 0000011 0000100 0101000 0101011 0010011 0100100 0011000 00000010 00000011 00011010 00011011
            00010010 00010011 00010100 00010101 00010110 00010111 00101000 00101001 00101010 00101011 00101100 00101101 00000100
            00000101 00001010 00001011 01010010 01010011 01010100 01010101 00100100 00100101 01011000 01011001 01011010 01011011
            01001010 01001011 00110010 00110011 00110100
            11011 10010 010111 0110111 00110110 00110111 01100100 01100101 01101000 01100111 011001100 011001101 011010010 011010011
            011010100 011010101 011010110 011010111 011011000 011011001 011011010 011011011 010011000 010011001 010011010 011000
            010011011
            """;

    private static final String BLACK =
            """
            0000110111 010 11 10 011 0011 0010 00011 000101 000100 0000100 0000101 0000111 00000100 00000111 000011000 0000010111
            0000011000 0000001000 00001100111 00001101000 00001101100 00000110111 00000101000 00000010111 00000011000 000011001010
            000011001011 000011001100 000011001101 000001101000 000001101001 000001101010 000001101011 000011010010 000011010011
            000011010100 000011010101 000011010110 000011010111 000001101100 000001101101 000011011010 000011011011 000001010100
            000001010101 000001010110 000001010111 000001100100 000001100101 000001010010 000001010011 000000100100 000000110111
            000000111000 000000100111 000000101000 000001011000 000001011001 000000101011 000000101100 000001011010 000001100110
            000001100111
            0000001111 000011001000 000011001001 000001011011 000000110011 000000110100 000000110101 0000001101100 0000001101101
            0000001001010 0000001001011 0000001001100 0000001001101 0000001110010 0000001110011 0000001110100 0000001110101
            0000001110110 0000001110111 0000001010010 0000001010011 0000001010100 0000001010101 0000001011010 0000001011011
            0000001100100 0000001100101
            """;

    /** 1792 to 2560 in steps of 64, for both colours (table 3b). */
    private static final String LONG =
            """
            00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 000000010101 000000010110 000000010111
            000000011100 000000011101 000000011110 000000011111
            """;

    private static final int BITS = 13;
    private static final short[] WHITE_RUNS = table(WHITE + LONG);
    private static final short[] BLACK_RUNS = table(BLACK + LONG);

    /** Modes of two-dimensional coding. Vertical ones are VERTICAL + how far the edge lies to the right of the one above. */
    private static final int PASS = 100;

    private static final int HORIZONTAL = 101;
    private static final int VERTICAL = 0;

    private final byte[] data;
    private final int width;
    private int bit;

    private Fax(byte[] data, int width) {
        this.data = data;
        this.width = width;
    }

    /** For each 13 bits that can come next: 16 times the run's number in its list, plus the code's length; 0 where there is none. */
    private static short[] table(String codes) {
        short[] table = new short[1 << BITS];
        String[] list = codes.strip().split("\\s+");
        for (int i = 0; i < list.length; i++) {
            int free = BITS - list[i].length();
            int from = Integer.parseInt(list[i], 2) << free;
            Arrays.fill(table, from, from + (1 << free), (short) (i << 4 | list[i].length()));
        }
        return table;
    }

    /**
     * Decodes a strip to packed bits, 1 for black, rows filled up to bytes. Rows that are missing at its end stay white.
     *
     * @param compression as in TIFF: 2, 3 or 4
     * @param options TIFF's T4Options; bit 0: two-dimensional
     */
    static byte[] decode(byte[] data, int compression, long options, int width, int height) {
        Fax fax = new Fax(data, width);
        int stride = (width + 7) / 8;
        byte[] out = new byte[stride * height];
        // Where the colour changes in this row and the one above; ended by the width, more than once, so that looking ahead is safe.
        int[] above = new int[width + 4];
        int[] edges = new int[width + 4];
        Arrays.fill(above, width);
        for (int y = 0; y < height; y++) {
            boolean flat = compression != 4;
            if (compression == 3) {
                if (!fax.findLine()) {
                    break;
                }
                flat = (options & 1) == 0 || fax.take(1) == 1;
            } else if (compression == 4 && fax.peek(24) == 0x001001 || fax.bit >= 8L * data.length) {
                break;
            }
            int count = flat ? fax.flatRow(edges) : fax.row(edges, above);
            if (compression == 2) {
                fax.bit = (fax.bit + 7) / 8 * 8;
            }
            Arrays.fill(edges, count, Math.min(edges.length, count + 4), width);
            paint(out, y * stride, edges, width);
            int[] swap = above;
            above = edges;
            edges = swap;
        }
        return out;
    }

    private static void paint(byte[] out, int at, int[] edges, int width) {
        for (int i = 0; edges[i] < width; i += 2) {
            for (int x = edges[i]; x < edges[i + 1]; x++) {
                out[at + x / 8] |= (byte) (0x80 >> x % 8);
            }
        }
    }

    /** Passes the end-of-line code before a row of group 3, if there is one, and its fill bits; false at the end of the data. */
    private boolean findLine() {
        int at = bit;
        int zeros = 0;
        while (bit < 8L * data.length) {
            if (take(1) == 0) {
                zeros++;
            } else if (zeros >= 11) {
                // Two in a row, with or without the bit that tells the kind of row, end the page.
                return peek(12) != 1 && peek(13) != 0x1001;
            } else {
                // No code of a run starts with more than seven zeros, so this row has no end-of-line code before it.
                bit = at;
                return true;
            }
        }
        return false;
    }

    private int flatRow(int[] edges) {
        int x = 0;
        int count = 0;
        boolean black = false;
        while (x < width) {
            x = Math.min(width, x + run(black));
            edges[count++] = x;
            black = !black;
        }
        return count;
    }

    private int row(int[] edges, int[] above) {
        int x = -1;
        int count = 0;
        int reference = 0;
        boolean black = false;
        while (x < width) {
            // The next edge above, right of x, to the colour opposite to the current one: edges of even number turn to black.
            while (reference > 0 && above[reference - 1] > x) {
                reference--;
            }
            while (above[reference] < width && (above[reference] <= x || reference % 2 == 1 != black)) {
                reference++;
            }
            int mode = mode();
            if (mode == PASS) {
                x = above[reference] < width ? above[reference + 1] : width;
                continue;
            }
            if (mode == HORIZONTAL) {
                int first = Math.min(width, Math.max(x, 0) + run(black));
                int second = Math.min(width, first + run(!black));
                if (count + 2 > width + 1) {
                    throw inconsistent();
                }
                edges[count++] = first;
                edges[count++] = second;
                x = second;
            } else {
                int to = above[reference] + mode - VERTICAL;
                if (to < Math.max(x, 0) || to > width || count >= width + 1) {
                    throw inconsistent();
                }
                edges[count++] = to;
                x = to;
                black = !black;
            }
        }
        return count;
    }

    private int mode() {
        int next = peek(7);
        if (next >> 6 == 1) {
            bit += 1;
            return VERTICAL;
        }
        int[][] modes = {
            {3, 3, 1}, {3, 2, -1}, {3, 1, HORIZONTAL}, {4, 1, PASS}, {6, 3, 2}, {6, 2, -2}, {7, 3, 3}, {7, 2, -3}
        };
        for (int[] m : modes) {
            if (next >> 7 - m[0] == m[1]) {
                bit += m[0];
                return m[2];
            }
        }
        throw inconsistent();
    }

    private int run(boolean black) {
        int length = 0;
        while (true) {
            int entry = (black ? BLACK_RUNS : WHITE_RUNS)[peek(BITS)];
            if (entry == 0 || bit >= 8L * data.length) {
                throw inconsistent();
            }
            bit += entry & 15;
            int number = entry >> 4;
            length += number < 64 ? number : 64 * (number - 63);
            if (number < 64 || length > width) {
                return length;
            }
        }
    }

    private int take(int count) {
        int value = peek(count);
        bit += count;
        return value;
    }

    /** The next bits, up to 24; zeros behind the end. */
    private int peek(int count) {
        int at = bit / 8;
        long window = 0;
        for (int i = 0; i < 4; i++) {
            window = window << 8 | (at + i < data.length ? data[at + i] & 0xff : 0);
        }
        return (int) (window >> 32 - bit % 8 - count & (1 << count) - 1);
    }

    private static RuntimeException inconsistent() {
        return Damage.of("its compressed data are inconsistent");
    }
}
