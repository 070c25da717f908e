package dev.jvlm.image;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.engine.NativeResizer;
import dev.jvlm.error.JvlmException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.BufferPoolMXBean;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import org.junit.jupiter.api.Test;

/** The rows on images of the project's list of faults, by number. */
class ImageFaultsTest {
    private static final Path IMAGES = Path.of(System.getProperty("jvlm.root"), "tests/images");

    /** A file of each format whose pixels fill most of it. */
    private static final List<String> FORMATS =
            List.of(
                    "made/jpeg-95-1.jpg",
                    "made/rgb-key.png",
                    "made/lossy-rgba.webp",
                    "made/rgb-tiff_lzw.tif",
                    "made/still.gif",
                    "made/rgb.bmp");

    private static byte[] file(String name) {
        try {
            return Files.readAllBytes(IMAGES.resolve(name));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void refused(byte[] file, String words) {
        assertThatThrownBy(() -> Image.decode(file))
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.IMAGE))
                .hasMessageContaining(words)
                // Nothing of a decoder's own words, of memory or of the machine.
                .hasMessageNotContainingAny("OpenCV", "libpng", "0x", ".cpp", "/", "Exception")
                .hasNoCause();
    }

    @Test
    void f01_emptyImage() {
        refused(new byte[0], "empty");
    }

    @Test
    void f02_randomBytesAndText() {
        byte[] random = new byte[5000];
        new SplittableRandom(1).nextBytes(random);
        refused(random, "unsupported format or damaged");
        refused("This is no picture.".getBytes(StandardCharsets.US_ASCII), "unsupported format or damaged");
        refused(new byte[1], "unsupported format or damaged");
        for (String name : FORMATS) {
            byte[] head = Arrays.copyOf(file(name), 4000);
            new SplittableRandom(2).nextBytes(random);
            System.arraycopy(random, 0, head, 12, head.length - 12);
            assertThatThrownBy(() -> Image.decode(head)).as(name).isInstanceOf(JvlmException.class);
        }
    }

    @Test
    void f03_truncatedFiles() {
        for (String name : FORMATS) {
            byte[] whole = file(name);
            Image.decode(whole);
            // All lengths but those that cut off only what follows the pixels in TIFF and GIF.
            int step = Math.max(1, whole.length / 150);
            for (int length = 12; length < whole.length - 300; length += step) {
                byte[] cut = Arrays.copyOf(whole, length);
                int at = length;
                assertThatThrownBy(() -> Image.decode(cut))
                        .as(name + " cut at " + at)
                        .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.IMAGE));
            }
        }
        for (String name : List.of("made/jpeg-95-1.jpg", "made/rgb-key.png", "made/lossy-rgba.webp")) {
            byte[] whole = file(name);
            for (int length = whole.length - 300; length < whole.length; length++) {
                byte[] cut = Arrays.copyOf(whole, length);
                assertThatThrownBy(() -> Image.decode(cut)).as(name + " cut at " + length).isInstanceOf(JvlmException.class);
            }
        }
    }

    @Test
    void f03_jpegThatEndsWithinItsPixels() {
        for (String name : List.of("made/jpeg-95-0.jpg", "made/jpeg-95-2.jpg", "made/grey.jpg", "made/cmyk.jpg", "made/restarts.jpg")) {
            byte[] whole = file(name);
            int scan = indexOf(whole, 0xff, 0xda);
            // Behind the cut comes the marker that ends a picture, so that only the count of blocks can tell.
            for (int length = scan + 20; length < whole.length - 20; length += Math.max(1, whole.length / 100)) {
                byte[] cut = Arrays.copyOf(whole, length);
                cut[length - 2] = (byte) 0xff;
                cut[length - 1] = (byte) 0xd9;
                assertThatThrownBy(() -> Image.decode(cut)).as(name + " cut at " + length).hasMessageContaining("fewer pixels");
            }
        }
    }

    @Test
    void f04_onePixel() {
        Image image = Image.decode(png(1, 1, 8, 2, new byte[] {0, 10, 20, 30}));
        GridTiler tiler = new GridTiler(448, 14, 1, 6, true, true);
        Tiles tiles = tiler.cut(image, tiler.plan(List.of(image.size())).get(0), NativeResizer.INSTANCE);
        assertThat(tiles.count()).isEqualTo(5);
        for (int i = 0; i < tiles.rgb().capacity(); i++) {
            assertThat(tiles.rgb().get(i)).isEqualTo((byte) (10 + 10 * (i % 3)));
        }
    }

    @Test
    void f05_absurdAspectRatios() {
        GridTiler grid = new GridTiler(448, 14, 1, 6, true, false);
        for (Tiler tiler : List.of(grid, new AspectTiler(980, 378, 14, false, true))) {
            for (int[] size : new int[][] {{1, 60_000}, {60_000, 1}, {3, 30_001}, {Integer.MAX_VALUE, 1}}) {
                assertThatThrownBy(() -> tiler.plan(List.of(new Size(size[0], size[1]))))
                        .isInstanceOf(JvlmException.class)
                        .hasMessageContaining("one side may be at most 10000 times the other");
            }
        }
        assertThat(grid.plan(List.of(new Size(3, 30_000))).get(0)).hasSize(7);
        // 64-bit arithmetic: 10,000 times the shorter side is more than an int holds.
        assertThat(grid.plan(List.of(new Size(2_000_000_000, 1_900_000_000))).get(0)).hasSize(5);
    }

    @Test
    void f06_bombIsRefusedFromItsHeader() {
        byte[] png = pngOf(40_000, 40_000, 8, 2, new byte[5_000_000]);
        byte[] gif = "GIF89a".concat("\u00ff\u00ff\u00ff\u00ff\0\0\0").getBytes(StandardCharsets.ISO_8859_1);
        byte[] jpeg = file("made/jpeg-95-1.jpg");
        int frame = indexOf(jpeg, 0xff, 0xc2);
        Arrays.fill(jpeg, frame + 5, frame + 9, (byte) 0xff);
        for (byte[] bomb : List.of(png, gif, jpeg)) {
            long[] before = memory();
            refused(bomb, "pixels; at most");
            long[] after = memory();
            assertThat(after[0] - before[0]).as("heap").isLessThan(1 << 20);
            assertThat(after[1] - before[1]).as("outside the heap").isLessThan(1 << 20);
        }
    }

    private static long[] memory() {
        long direct = ManagementFactory.getPlatformMXBeans(BufferPoolMXBean.class).stream()
                .filter(pool -> pool.getName().equals("direct"))
                .mapToLong(BufferPoolMXBean::getMemoryUsed)
                .sum();
        long heap = ((com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean())
                .getThreadAllocatedBytes(Thread.currentThread().getId());
        return new long[] {heap, direct};
    }

    @Test
    void f06_jpegOfCountlessScans() {
        byte[] jpeg = file("made/jpeg-95-1.jpg");
        int scan = indexOf(jpeg, 0xff, 0xda);
        int end = indexOf(jpeg, 0xff, 0xda, scan + 2);
        ByteBuffer bomb = ByteBuffer.allocate(jpeg.length + 100 * (end - scan)).put(jpeg, 0, end);
        for (int i = 0; i < 100; i++) {
            bomb.put(jpeg, scan, end - scan);
        }
        refused(bomb.put(jpeg, end, jpeg.length - end).array(), "more than 100 scans");
    }

    @Test
    void f07_headerThatLiesAboutTheSize() {
        byte[] lines = new byte[40 * 31];
        Image.decode(png(10, 40, 8, 2, lines));
        refused(png(10, 41, 8, 2, lines), "fewer pixels");
        refused(png(10, 39, 8, 2, lines), "more pixels");
        byte[] jpeg = file("made/jpeg-95-1.jpg");
        int frame = indexOf(jpeg, 0xff, 0xc2);
        jpeg[frame + 5] = jpeg[frame + 7] = 0x1f;
        refused(jpeg, "fewer pixels");
        for (String name : List.of("made/jpeg-95-0.jpg", "made/jpeg-95-2.jpg", "made/grey.jpg", "made/restarts.jpg")) {
            byte[] taller = file(name);
            taller[indexOf(taller, 0xff, 0xc0) + 6] += 16;
            refused(taller, "fewer pixels");
        }
        byte[] gif = file("made/still.gif");
        gif[indexOf(gif, 0x2c, 0) + 5]++;
        refused(gif, "fewer pixels");
        byte[] bmp = file("made/rgb.bmp");
        bmp[22]++;
        refused(bmp, "too early");
        byte[] webp = file("made/lossy-rgba.webp");
        webp[24]++;
        refused(webp, "different sizes");
    }

    @Test
    void f09_orientation() {
        String[] corners = {"RGBW", "GRWB", "WBGR", "BWRG", "RBGW", "BRWG", "WGBR", "GWRB"};
        for (int orientation = 1; orientation <= 8; orientation++) {
            byte[] png = withChunk(corners(), "eXIf", exif(orientation));
            Image turned = Image.decode(png);
            Image left = Image.decode(png, Decoding.REFERENCE);
            assertThat(read(turned)).as("orientation " + orientation).isEqualTo(corners[orientation - 1]);
            assertThat(turned.width()).isEqualTo(orientation < 5 ? 3 : 2);
            assertThat(read(left)).isEqualTo("RGBW");
        }
    }

    /** 3 x 2 pixels: red, black, green; blue, black, white. */
    private static byte[] corners() {
        int f = 255;
        int[] v = {0, f, 0, 0, 0, 0, 0, 0, f, 0, 0, 0, 0, f, 0, 0, 0, f, f, f};
        byte[] lines = new byte[v.length];
        for (int i = 0; i < v.length; i++) {
            lines[i] = (byte) v[i];
        }
        return png(3, 2, 8, 2, lines);
    }

    private static String read(Image image) {
        StringBuilder seen = new StringBuilder();
        for (int y : new int[] {0, image.height() - 1}) {
            for (int x : new int[] {0, image.width() - 1}) {
                int at = 3 * (y * image.width() + x);
                int bits = (image.rgb().get(at) & 1) << 2 | (image.rgb().get(at + 1) & 1) << 1 | image.rgb().get(at + 2) & 1;
                seen.append("-B G  RW".charAt(bits == 4 ? 6 : bits == 2 ? 3 : bits));
            }
        }
        return seen.toString();
    }

    private static byte[] exif(int orientation) {
        return ByteBuffer.allocate(26)
                .order(ByteOrder.LITTLE_ENDIAN)
                .put("II*\0".getBytes(StandardCharsets.US_ASCII))
                .putInt(8)
                .putShort((short) 1)
                .putShort((short) 0x112)
                .putShort((short) 3)
                .putInt(1)
                .putInt(orientation)
                .array();
    }

    @Test
    void f10_transparencyOnWhite() {
        // Half transparent red, fully transparent blue.
        byte[] png = png(2, 1, 8, 6, new byte[] {0, (byte) 200, 0, 0, (byte) 128, 0, 0, (byte) 255, 0});
        assertThat(bytes(Image.decode(png))).containsExactly(227, 127, 127, 255, 255, 255);
        assertThat(bytes(Image.decode(png, Decoding.REFERENCE))).containsExactly(200, 0, 0, 0, 0, 255);
        // Grey 3 of 2 bits is declared transparent.
        byte[] keyed = withChunk(png(4, 1, 2, 0, new byte[] {0, 0b00_01_10_11}), "tRNS", new byte[] {0, 3});
        assertThat(bytes(Image.decode(keyed))).containsExactly(0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255);
        byte[] black = withChunk(png(4, 1, 2, 0, new byte[] {0, 0b00_01_10_11}), "tRNS", new byte[] {0, 0});
        assertThat(bytes(Image.decode(black))).startsWith(255, 255, 255, 85);
        assertThat(bytes(Image.decode(black, Decoding.REFERENCE))).startsWith(0, 0, 0, 85);
    }

    private static int[] bytes(Image image) {
        int[] all = new int[image.rgb().remaining()];
        for (int i = 0; i < all.length; i++) {
            all[i] = image.rgb().get(i) & 0xff;
        }
        return all;
    }

    @Test
    void f11_framesOfAnimations() {
        // That each frame has the right pixels is checked with the other recorded pictures.
        for (String name : List.of("made/animated.gif", "made/animated.png", "made/animated.webp", "made/pages.tif")) {
            byte[] file = file(name);
            assertThat(Image.decode(file).rgb()).as(name).isEqualTo(Image.decode(file, Decoding.DEFAULT.withFrame(0)).rgb());
            assertThat(Image.decode(file).rgb()).as(name).isNotEqualTo(Image.decode(file, Decoding.DEFAULT.withFrame(3)).rgb());
            assertThatThrownBy(() -> Image.decode(file, Decoding.DEFAULT.withFrame(4)))
                    .as(name)
                    .isInstanceOf(JvlmException.class)
                    .hasMessageContaining("no frame 4: it has 4");
        }
        assertThatThrownBy(() -> Image.decode(file("made/rgb.bmp"), Decoding.DEFAULT.withFrame(1))).isInstanceOf(JvlmException.class);
        assertThatThrownBy(() -> Decoding.DEFAULT.withFrame(Decoding.MAX_FRAMES)).hasMessageContaining("frame must be between 0 and 9999");
    }

    @Test
    void f12_otherFormats() {
        for (String head : List.of(
                "<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
                "<?xml version=\"1.0\"?><svg/>",
                "\0\0\0\u0018ftypheic\0\0\0\0",
                "\0\0\0\u001cftypavif\0\0\0\0",
                "\0\0\0\u000cjP  \r\n\u0087\n",
                "\u00ff\u004f\u00ff\u0051\0\u002f",
                "v/1\u0001\2\0\0\0",
                "P6\n2 2\n255\n",
                "P4\n2 2\n",
                "#?RADIANCE\n",
                "\u0059\u00a6\u006a\u0095",
                "8BPS\0\1",
                "\0\0\1\0\1\0",
                "%PDF-1.7",
                "RIFF\0\0\0\0WAVE",
                "\u00ff\n")) {
            refused(Arrays.copyOf(head.getBytes(StandardCharsets.ISO_8859_1), 200), "use JPEG, PNG, WebP, TIFF, GIF or BMP");
        }
        refused(file("pillow/16bit.cropped.jp2"), "unsupported format");
    }

    @Test
    void f13_hugeMetadataAreNotCopied() {
        byte[] metadata = new byte[30_000_000];
        byte[] png = withChunk(corners(), "iCCP", metadata);
        byte[] jpeg = file("made/jpeg-95-1.jpg");
        ByteBuffer big = ByteBuffer.allocate(jpeg.length + 500 * 65_537);
        big.put(jpeg, 0, 2);
        for (int i = 0; i < 500; i++) {
            big.putShort((short) 0xffe2).putShort((short) 65_535).position(big.position() + 65_533);
        }
        big.put(jpeg, 2, jpeg.length - 2);
        for (byte[] file : List.of(png, big.array())) {
            Image.decode(file);
            long[] before = memory();
            Image image = Image.decode(file);
            long[] after = memory();
            assertThat(image.width()).isLessThan(100);
            assertThat(after[0] - before[0]).as("heap").isLessThan(1 << 20);
            assertThat(after[1] - before[1]).as("outside the heap").isLessThan(1 << 20);
        }
    }

    @Test
    void f18_callerWritesToItsArray() throws InterruptedException {
        for (String name : FORMATS) {
            byte[] file = file(name);
            Image image = Image.decode(file);
            ByteBuffer before = ByteBuffer.allocate(image.rgb().remaining()).put(image.rgb()).flip();
            Arrays.fill(file, (byte) 0x55);
            assertThat(image.rgb()).as(name).isEqualTo(before);
        }
        byte[] rgb = new byte[12];
        Image image = Image.of(2, 2, rgb);
        rgb[0] = 1;
        assertThat(image.rgb().get(0)).isZero();
        assertThat(image.rgb().isReadOnly()).isTrue();

        // While it decodes, too: whatever comes out, it is a picture or a typed error.
        for (String name : FORMATS) {
            byte[] shared = file(name);
            Thread writer = new Thread(() -> {
                SplittableRandom random = new SplittableRandom(3);
                while (!Thread.currentThread().isInterrupted()) {
                    shared[random.nextInt(shared.length)] ^= 1;
                }
            });
            writer.start();
            for (int i = 0; i < 50; i++) {
                try {
                    Image.decode(shared, Decoding.DEFAULT.withMaxPixels(1 << 16));
                } catch (JvlmException e) {
                    assertThat(e.code()).isEqualTo(JvlmException.Code.IMAGE);
                }
            }
            writer.interrupt();
            writer.join();
        }
    }

    @Test
    void f23_directoriesInALoop() {
        byte[] tiff = file("made/pages.tif");
        ByteBuffer in = ByteBuffer.wrap(tiff).order(ByteOrder.LITTLE_ENDIAN);
        int first = in.getInt(4);
        int second = in.getInt(next(in, first));
        in.putInt(next(in, second), first);
        refused(tiff, "leads back into itself");
        in.putInt(next(in, first), first);
        refused(tiff, "leads back into itself");
    }

    private static int next(ByteBuffer in, int directory) {
        return directory + 2 + 12 * in.getShort(directory);
    }

    private static int indexOf(byte[] file, int first, int second) {
        return indexOf(file, first, second, 0);
    }

    private static int indexOf(byte[] file, int first, int second, int from) {
        for (int i = from; ; i++) {
            if (file[i] == (byte) first && file[i + 1] == (byte) second) {
                return i;
            }
        }
    }

    /** A PNG of these lines, each with its filter byte before it. */
    private static byte[] png(int width, int height, int depth, int color, byte[] lines) {
        Deflater deflater = new Deflater();
        deflater.setInput(lines);
        deflater.finish();
        byte[] data = new byte[lines.length + 100];
        int length = deflater.deflate(data);
        deflater.end();
        return pngOf(width, height, depth, color, Arrays.copyOf(data, length));
    }

    private static byte[] pngOf(int width, int height, int depth, int color, byte[] compressed) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.writeBytes("\u0089PNG\r\n\u001a\n".getBytes(StandardCharsets.ISO_8859_1));
        byte[] header =
                ByteBuffer.allocate(13).putInt(width).putInt(height).put((byte) depth).put((byte) color).array();
        out.writeBytes(chunk("IHDR", header));
        out.writeBytes(chunk("IDAT", compressed));
        out.writeBytes(chunk("IEND", new byte[0]));
        return out.toByteArray();
    }

    private static byte[] chunk(String type, byte[] body) {
        ByteBuffer chunk = ByteBuffer.allocate(12 + body.length).putInt(body.length);
        chunk.put(type.getBytes(StandardCharsets.US_ASCII)).put(body);
        CRC32 crc = new CRC32();
        crc.update(chunk.array(), 4, 4 + body.length);
        return chunk.putInt((int) crc.getValue()).array();
    }

    /** The PNG with one chunk more behind its header. */
    private static byte[] withChunk(byte[] png, String type, byte[] body) {
        byte[] chunk = chunk(type, body);
        return ByteBuffer.allocate(png.length + chunk.length).put(png, 0, 33).put(chunk).put(png, 33, png.length - 33).array();
    }
}
