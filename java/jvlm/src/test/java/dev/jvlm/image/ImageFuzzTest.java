package dev.jvlm.image;

import static org.assertj.core.api.Assertions.assertThat;

import dev.jvlm.error.JvlmException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.zip.CRC32;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Damaged files of each format end as a picture or as a typed error; never otherwise, never late. */
class ImageFuzzTest {
    private static final Path MADE = Path.of(System.getProperty("jvlm.root"), "tests/images/made");
    private static final int MUTATIONS = 150;

    @Tag("full")
    @Test
    @Timeout(120)
    void damagedFilesAreDecodedOrRefused() throws IOException {
        int decoded = 0;
        int refused = 0;
        for (String name : List.of(
                "jpeg-95-1.jpg", "restarts.jpg", "ycck.jpg", "rgb-key.png", "palette-alpha.png", "animated.png",
                "lossy-rgba.webp", "lossless-rgb.webp", "animated.webp", "rgb-tiff_lzw.tif", "1-group3.tif", "1-group4.tif",
                "rgb-jpeg.tif", "cmyk-jpeg.tif", "old-jpeg.tif", "rgba-packbits.tif", "rgb-tiff_adobe_deflate.tif", "big.tif",
                "pages.tif", "still.gif", "animated.gif", "p.bmp", "rgba.bmp")) {
            byte[] whole = Files.readAllBytes(MADE.resolve(name));
            SplittableRandom random = new SplittableRandom(name.hashCode());
            for (int i = 0; i < MUTATIONS; i++) {
                byte[] file = mutate(whole, random);
                Decoding decoding = new Decoding(random.nextBoolean(), random.nextInt(2), 1 << 18);
                try {
                    Image image = Image.decode(file, decoding);
                    assertThat(image.rgb().remaining()).isEqualTo(3 * image.width() * image.height());
                    decoded++;
                } catch (JvlmException e) {
                    assertThat(e.code()).as(name + ", mutation " + i).isEqualTo(JvlmException.Code.IMAGE);
                    refused++;
                } catch (RuntimeException e) {
                    throw new AssertionError(name + ", mutation " + i + " ended in " + e, e);
                }
            }
        }
        // Both happen, or the mutations prove nothing.
        assertThat(decoded).isGreaterThan(300);
        assertThat(refused).isGreaterThan(300);
    }

    private static byte[] mutate(byte[] whole, SplittableRandom random) {
        byte[] file = whole.clone();
        ByteBuffer bytes = ByteBuffer.wrap(file);
        // Mostly near the start, where the sizes and offsets are.
        int reach = random.nextBoolean() ? Math.min(200, file.length) : file.length;
        for (int n = random.nextInt(1, 4); n > 0; n--) {
            int at = random.nextInt(reach - 4);
            switch (random.nextInt(5)) {
                case 0 -> file[at] ^= (byte) (1 << random.nextInt(8));
                case 1 -> file[at] = (byte) random.nextInt(256);
                case 2 -> bytes.putInt(at, new int[] {0, -1, Integer.MAX_VALUE, Integer.MIN_VALUE, 1}[random.nextInt(5)]);
                case 3 -> bytes.putShort(at, (short) new int[] {0, -1, 0x7fff, 1, 0x100}[random.nextInt(5)]);
                default -> System.arraycopy(file, random.nextInt(file.length - 4), file, at, 4);
            }
        }
        if (random.nextInt(10) == 0) {
            file = Arrays.copyOf(file, random.nextInt(file.length));
        }
        return random.nextBoolean() ? checksums(file) : file;
    }

    /** Makes the checksums of a PNG right again, so that damage gets past them. */
    private static byte[] checksums(byte[] file) {
        ByteBuffer bytes = ByteBuffer.wrap(file);
        if (!Decoder.starts(file, 0, "\u0089PNG")) {
            return file;
        }
        for (int at = 8; at + 12 <= file.length; ) {
            int length = bytes.getInt(at);
            if (length < 0 || length > file.length - at - 12) {
                break;
            }
            CRC32 crc = new CRC32();
            crc.update(file, at + 4, length + 4);
            bytes.putInt(at + 8 + length, (int) crc.getValue());
            at += 12 + length;
        }
        return file;
    }
}
