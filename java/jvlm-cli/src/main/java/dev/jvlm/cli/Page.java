package dev.jvlm.cli;

import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.Random;
import javax.imageio.ImageIO;

/** A photographed page to measure with: lines of dark strokes on paper that is not quite white, 12 megapixels of JPEG. */
final class Page {
    static final int WIDTH = 3000;
    static final int HEIGHT = 4000;

    private Page() {}

    /** The file's bytes; the same every time. */
    static byte[] jpeg() {
        Random random = new Random(1);
        BufferedImage page = new BufferedImage(WIDTH, HEIGHT, BufferedImage.TYPE_INT_RGB);
        int[] row = new int[WIDTH];
        for (int y = 0; y < HEIGHT; y++) {
            for (int x = 0; x < WIDTH; x++) {
                int grey = 235 + random.nextInt(8);
                row[x] = grey << 16 | grey << 8 | grey - 6;
            }
            page.setRGB(0, y, WIDTH, 1, row, 0, WIDTH);
        }
        for (int line = 200; line < HEIGHT - 200; line += 70) {
            for (int x = 200; x < WIDTH - 230; x += 4 + random.nextInt(24)) {
                int width = 3 + random.nextInt(4);
                int height = 8 + random.nextInt(32);
                int[] ink = new int[width * height];
                Arrays.fill(ink, 0x202028);
                page.setRGB(x, line + random.nextInt(40 - height + 1), width, height, ink, 0, width);
            }
        }
        try {
            ByteArrayOutputStream file = new ByteArrayOutputStream();
            ImageIO.setUseCache(false);
            ImageIO.write(page, "jpeg", file);
            return file.toByteArray();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
