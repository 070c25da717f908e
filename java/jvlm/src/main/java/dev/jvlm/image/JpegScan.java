package dev.jvlm.image;

import java.util.Arrays;

/**
 * Counts the blocks of a sequential Huffman-coded scan (ITU-T T.81, F.2.2) without making pixels of them. Decoders fill up what is
 * missing with grey and say nothing.
 */
final class JpegScan {
    private static final int PEEK = 16;

    private final byte[] file;
    private final int end;
    private int at;
    private long bits;
    private int have;
    /** Zeros put in from behind the end of the data; once fewer bits than that are at hand, some of them were used. */
    private int padding;

    private JpegScan(byte[] file, int at, int end) {
        this.file = file;
        this.at = at;
        this.end = end;
    }

    /** A table by the 16 bits that come next: code length and symbol; 0 where no code begins so. */
    static short[] table(byte[] file, int at) {
        short[] table = new short[1 << PEEK];
        int from = 0;
        int symbol = at + 16;
        for (int length = 1; length <= 16; length++) {
            for (int i = file[at + length - 1] & 0xff; i > 0; i--) {
                int to = Math.min(from + (1 << PEEK - length), table.length);
                Arrays.fill(table, Math.min(from, to), to, (short) (length << 8 | file[symbol++] & 0xff));
                from = to;
            }
        }
        return table;
    }

    /**
     * Whether the data reach to the last block. Data that are inconsistent count as whole: decoders go on behind a wrong code.
     *
     * @param units for each block of an MCU its two tables: DC, AC
     * @param restart MCUs from one restart marker to the next, or 0
     */
    static boolean whole(byte[] file, int at, int end, short[][][] units, long mcus, int restart) {
        return new JpegScan(file, at, end).whole(units, mcus, restart);
    }

    private boolean whole(short[][][] units, long mcus, int restart) {
        for (long mcu = 0; mcu < mcus; mcu++) {
            if (restart > 0 && mcu > 0 && mcu % restart == 0 && !nextInterval()) {
                return false;
            }
            for (short[][] tables : units) {
                if (!block(tables[0], tables[1])) {
                    return true;
                }
            }
            if (have < padding) {
                return false;
            }
        }
        return true;
    }

    /** Skips one block; false at a code that is not in the table. */
    private boolean block(short[] dc, short[] ac) {
        int entry = symbol(dc);
        if (entry == 0) {
            return false;
        }
        have -= entry & 15;
        for (int k = 1; k < 64; ) {
            entry = symbol(ac);
            if (entry == 0) {
                return false;
            }
            int size = entry & 15;
            int run = entry >> 4 & 15;
            if (size == 0 && run < 15) {
                break;
            }
            have -= size;
            k += run + 1;
        }
        return true;
    }

    private int symbol(short[] table) {
        fill();
        int entry = table[(int) (bits >> have - PEEK) & (1 << PEEK) - 1];
        have -= entry >> 8;
        return entry;
    }

    /** At least 40 bits: a code and the bits that follow it take 32 at most. */
    private void fill() {
        while (have < 40) {
            int b = at < end ? file[at] & 0xff : 0xff;
            boolean stuffed = b == 0xff && at + 1 < end && file[at + 1] == 0;
            if (b == 0xff && !stuffed) {
                bits <<= 8;
                padding += 8;
            } else {
                bits = bits << 8 | b;
                at += stuffed ? 2 : 1;
            }
            have += 8;
        }
    }

    /** Goes behind the next restart marker; false where there is none. */
    private boolean nextInterval() {
        have = 0;
        padding = 0;
        while (at + 1 < end) {
            if (file[at] == (byte) 0xff && (file[at + 1] & 0xf8) == 0xd0) {
                at += 2;
                return true;
            }
            at++;
        }
        return false;
    }
}
