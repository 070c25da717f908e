package dev.jvlm.image;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** The one thing that EXIF is asked for. */
final class Exif {
    private static final int ORIENTATION = 0x0112;

    private Exif() {}

    /** Orientation 1 to 8 out of a block in TIFF form, with or without "Exif\0\0" before it; 1 where there is none or it makes no sense. */
    static int orientation(ByteBuffer block) {
        try {
            ByteBuffer b = block.slice();
            if (b.getShort(0) == 0x4578) {
                b = b.slice(6, b.limit() - 6);
            }
            b.order(b.getShort(0) == 0x4949 ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN);
            int directory = b.getInt(4);
            int entries = b.getShort(directory) & 0xffff;
            for (int i = 0; i < entries; i++) {
                int at = directory + 2 + 12 * i;
                if ((b.getShort(at) & 0xffff) == ORIENTATION) {
                    int value = b.getShort(at + 8);
                    return value >= 1 && value <= 8 ? value : 1;
                }
            }
        } catch (IndexOutOfBoundsException e) {
            // Metadata of other programs are often broken; a picture is not refused for it.
        }
        return 1;
    }
}
