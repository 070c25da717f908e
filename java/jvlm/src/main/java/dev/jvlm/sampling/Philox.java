package dev.jvlm.sampling;

/** Philox4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). */
final class Philox {
    private Philox() {}

    /** The first word, as an unsigned 32-bit number, for the counter (index, 0, 0, 0) and the key (low, high) of the seed. */
    static long first(long seed, int index) {
        int[] counter = {index, 0, 0, 0};
        apply(counter, (int) seed, (int) (seed >>> 32));
        return counter[0] & 0xffffffffL;
    }

    /** Turns a counter of four words into its four random words. */
    static void apply(int[] c, int k0, int k1) {
        for (int round = 0; round < 10; round++) {
            long p0 = (c[0] & 0xffffffffL) * 0xD2511F53L;
            long p1 = (c[2] & 0xffffffffL) * 0xCD9E8D57L;
            c[0] = (int) (p1 >>> 32) ^ c[1] ^ k0;
            c[1] = (int) p1;
            c[2] = (int) (p0 >>> 32) ^ c[3] ^ k1;
            c[3] = (int) p0;
            k0 += 0x9E3779B9;
            k1 += 0xBB67AE85;
        }
    }
}
