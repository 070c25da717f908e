package dev.jvlm.image;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import javax.imageio.stream.ImageInputStream;
import javax.imageio.stream.MemoryCacheImageInputStream;

/**
 * JPEG (ITU-T T.81), Huffman or arithmetic, baseline or progressive, 8 bits. The file is walked marker by marker, and the decoder gets a
 * new one of the parts that make pixels: no metadata, and whole to the end.
 */
final class Jpeg {
    /** What the four channels of a CMYK file hold. */
    enum Ink {
        /** Adobe's convention, which files on their own follow: 255 is no ink. */
        INVERTED,
        /** Inside TIFF: 255 is full ink. */
        PLAIN
    }

    /** Progressive files have about ten; each costs a pass over the whole picture, however small it is in the file. */
    private static final int MOST_SCANS = 100;

    /** Adobe's segment for channels that are RGB or CMYK as they stand. */
    static final byte[] ADOBE_RGB = {(byte) 0xff, (byte) 0xee, 0, 14, 'A', 'd', 'o', 'b', 'e', 0, 100, 0, 0, 0, 0, 0};

    private final byte[] file;
    private final List<Span> kept = new ArrayList<>();
    private int width;
    private int height;
    private int components;
    private int scans;
    private final int[] sampling = new int[4];
    private int frameMarker;
    private int widest = 1;
    private int tallest = 1;
    private final int[] ids = new int[4];
    private final int[] tableAt = new int[8];
    private final short[][] tables = new short[8][];
    private int restart;
    private int adobeTransform = -1;
    private int orientation = 1;

    private Jpeg(byte[] file) {
        this.file = file;
    }

    static Raster read(byte[] file, Decoding decoding) {
        if (decoding.frame() > 0) {
            throw Decoder.noSuchFrame(decoding.frame(), 1);
        }
        return read(file, decoding, Ink.INVERTED);
    }

    static Raster read(byte[] file, Decoding decoding, Ink ink) {
        Jpeg jpeg = new Jpeg(file);
        jpeg.walk(decoding);
        ByteBuffer kept = jpeg.kept();
        Raster raster =
                switch (jpeg.components) {
                    case 1, 3 -> OpenCv.decode(kept, jpeg.width, jpeg.height, false);
                    case 4 -> jpeg.inks(kept, ink);
                    default -> throw Damage.unsupported("a JPEG of " + jpeg.components + " channels");
                };
        raster.orientation = jpeg.orientation;
        return raster;
    }

    /** Channels as they are stored: luma in full, and (cr, cb, -) for each 2 x 2 pixels. */
    record Halved(ByteBuffer luma, ByteBuffer chroma) {}

    /**
     * What a file of luma and halved chroma holds.
     *
     * @throws dev.jvlm.error.JvlmException IMAGE if its channels are stored otherwise
     */
    static Halved halved(byte[] file, int width, int height, Decoding decoding) {
        Jpeg jpeg = new Jpeg(file);
        jpeg.walk(decoding);
        if (jpeg.width != width || jpeg.height != height) {
            throw Damage.of("its headers name different sizes");
        }
        if (jpeg.components != 3 || !Arrays.equals(jpeg.sampling, new int[] {0x22, 0x11, 0x11, 0}) || jpeg.adobeTransform >= 0) {
            throw Damage.unsupported("a TIFF with old-style JPEG whose chroma is not halved both ways");
        }
        // Declared to be RGB, the channels are not converted, and at half the size chroma needs no interpolation. JFIF's segment would
        // say otherwise.
        jpeg.kept.removeIf(span -> (file[span.start() + 1] & 0xff) == 0xe0);
        ByteBuffer kept = jpeg.kept();
        ByteBuffer asRgb = Raster.allocate(kept.limit() + ADOBE_RGB.length);
        asRgb.put(kept.slice(0, 2)).put(ADOBE_RGB).put(kept.slice(2, kept.limit() - 2)).flip();
        return new Halved(OpenCv.luma(kept, width, height), OpenCv.halved(asRgb, (width + 1) / 2, (height + 1) / 2));
    }

    /** The new file: what was kept of the old. */
    private ByteBuffer kept() {
        ByteBuffer copy = Raster.allocate(kept.stream().mapToLong(Span::length).sum());
        kept.forEach(span -> copy.put(file, span.start(), span.length()));
        return copy.flip();
    }

    private void walk(Decoding decoding) {
        keep(0, 2);
        int at = 2;
        while (true) {
            // Some programs leave bytes between segments; decoders skip them.
            while (file[at] != (byte) 0xff || file[at + 1] == 0 || file[at + 1] == (byte) 0xff) {
                at++;
            }
            int marker = file[at + 1] & 0xff;
            if (marker == 0xd9) {
                keep(at, 2);
                break;
            }
            if (marker == 0x01 || marker >= 0xd0 && marker <= 0xd8) {
                at += 2;
                continue;
            }
            int length = 2 + two(at + 2);
            if (length < 4 || at + length > file.length) {
                throw Damage.truncated();
            }
            if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc) {
                frame(marker, at + 4, decoding);
                keep(at, length);
            } else if (marker == 0xe1) {
                exif(at + 4, length - 4);
            } else if (marker == 0xee) {
                adobe(at, length);
            } else if (marker == 0xda) {
                if (width == 0) {
                    throw Damage.of("its pixels come before its size");
                }
                if (++scans > MOST_SCANS) {
                    throw Damage.unsupported("a JPEG of more than " + MOST_SCANS + " scans");
                }
                int end = scanEnd(at + length);
                keep(at, end - at);
                check(at, at + length, end);
                at = end;
                continue;
            } else if (marker <= 0xe0) {
                // Tables, and JFIF's segment.
                keep(at, length);
                if (marker == 0xc4) {
                    tables(at + 4, at + length);
                } else if (marker == 0xdd) {
                    restart = two(at + 4);
                }
            }
            at += length;
        }
        if (scans == 0) {
            throw Damage.of("it holds no pixels");
        }
    }

    private int two(int at) {
        return (file[at] & 0xff) << 8 | file[at + 1] & 0xff;
    }

    private void keep(int from, int count) {
        kept.add(new Span(from, count));
    }

    private void frame(int marker, int at, Decoding decoding) {
        if (width != 0) {
            throw Damage.of("it has two headers");
        }
        if (marker > 0xc2 && marker != 0xc9 && marker != 0xca || file[at] != 8) {
            throw Damage.unsupported("a JPEG that is lossless, hierarchical or of other than 8 bits");
        }
        Raster.check(two(at + 3), two(at + 1), decoding);
        frameMarker = marker;
        height = two(at + 1);
        width = two(at + 3);
        components = file[at + 5];
        if (components < 1 || components > 4) {
            throw Damage.unsupported("a JPEG of " + components + " channels");
        }
        for (int i = 0; i < components; i++) {
            ids[i] = file[at + 6 + 3 * i];
            sampling[i] = file[at + 7 + 3 * i];
            if ((sampling[i] & 15) < 1 || (sampling[i] & 15) > 4 || (sampling[i] >> 4 & 15) < 1 || (sampling[i] >> 4 & 15) > 4) {
                throw Damage.of("its header is contradictory");
            }
            widest = Math.max(widest, sampling[i] >> 4 & 15);
            tallest = Math.max(tallest, sampling[i] & 15);
        }
    }

    /**
     * Refuses a scan that holds fewer pixels than the header says. Sequential ones are followed to their last block; of progressive ones
     * it is only known that each block of the first takes a bit at least.
     */
    private void check(int header, int data, int end) {
        boolean whole = true;
        if (frameMarker <= 0xc1) {
            int count = file[header + 4];
            List<short[][]> units = new ArrayList<>();
            long mcus = mcus(widest, tallest);
            for (int i = 0; i < count; i++) {
                int c = channel(file[header + 5 + 2 * i]);
                int selected = file[header + 6 + 2 * i];
                short[][] pair = {table(selected >> 4 & 3), table(4 + (selected & 3))};
                if (c < 0) {
                    throw Damage.of("a channel that it uses is missing");
                }
                if (pair[0] == null || pair[1] == null) {
                    // Frames of motion JPEG rely on the standard's own tables, which decoders have.
                    return;
                }
                int across = sampling[c] >> 4 & 15;
                int down = sampling[c] & 15;
                if (count == 1) {
                    // Alone, a channel is coded block by block, and none beyond its own edge.
                    long columns = ((long) width * across + widest - 1) / widest;
                    long rows = ((long) height * down + tallest - 1) / tallest;
                    mcus = (columns + 7) / 8 * ((rows + 7) / 8);
                }
                units.addAll(Collections.nCopies(count == 1 ? 1 : across * down, pair));
            }
            whole = JpegScan.whole(file, data, end, units.toArray(new short[0][][]), mcus, restart);
        } else if (frameMarker == 0xc2 && scans == 1) {
            whole = 8L * (end - data) >= mcus(widest, tallest);
        }
        if (!whole) {
            throw Damage.of("it holds fewer pixels than its header says");
        }
    }

    private short[] table(int slot) {
        if (tables[slot] == null && tableAt[slot] > 0) {
            tables[slot] = JpegScan.table(file, tableAt[slot]);
        }
        return tables[slot];
    }

    private long mcus(int across, int down) {
        return (width + 8L * across - 1) / (8L * across) * ((height + 8L * down - 1) / (8L * down));
    }

    private int channel(int id) {
        for (int c = 0; c < components; c++) {
            if (ids[c] == id) {
                return c;
            }
        }
        return -1;
    }

    /** Notes where the Huffman tables of a segment lie: DC's are 0 to 3, AC's 4 to 7. */
    private void tables(int at, int end) {
        while (at + 17 <= end) {
            int slot = (file[at] >> 4 & 1) * 4 + (file[at] & 3);
            int symbols = 0;
            for (int i = 1; i <= 16; i++) {
                symbols += file[at + i] & 0xff;
            }
            if (at + 17 + symbols > end) {
                throw Damage.truncated();
            }
            tableAt[slot] = at + 1;
            tables[slot] = null;
            at += 17 + symbols;
        }
    }

    private void exif(int at, int length) {
        if (Decoder.starts(file, at, "Exif\0\0") && length > 6) {
            int found = Exif.orientation(ByteBuffer.wrap(file, at, length));
            orientation = orientation == 1 ? found : orientation;
        }
    }

    private void adobe(int at, int length) {
        if (length >= 16 && Decoder.starts(file, at + 4, "Adobe")) {
            adobeTransform = file[at + 15];
            keep(at, length);
        }
    }

    /** The first marker behind entropy-coded data that is not part of them. */
    private int scanEnd(int at) {
        while (true) {
            while (file[at] != (byte) 0xff) {
                at++;
            }
            int next = file[at + 1] & 0xff;
            if (next == 0xff) {
                at++;
            } else if (next == 0 || next >= 0xd0 && next <= 0xd7) {
                at += 2;
            } else {
                return at;
            }
        }
    }

    /** CMYK and YCCK: OpenCV gives them out as RGB by a formula other than Pillow's; the JDK gives the channels as they are. */
    private Raster inks(ByteBuffer jpeg, Ink ink) {
        byte[] bytes = new byte[jpeg.remaining()];
        jpeg.get(bytes);
        java.awt.image.Raster stored;
        ImageReader reader = ImageIO.getImageReadersByFormatName("jpeg").next();
        try (ImageInputStream in = new MemoryCacheImageInputStream(new ByteArrayInputStream(bytes))) {
            reader.setInput(in, true, true);
            stored = reader.readRaster(0, null);
        } catch (IOException | RuntimeException e) {
            throw Damage.of("its compressed data are inconsistent");
        } finally {
            reader.dispose();
        }
        if (stored.getWidth() != width || stored.getHeight() != height || stored.getNumBands() != 4) {
            throw Damage.of("its compressed data are inconsistent");
        }
        Raster raster = new Raster(width, height, false);
        int[] line = new int[4 * width];
        byte[] rgb = new byte[3 * width];
        for (int y = 0; y < height; y++) {
            stored.getPixels(0, y, width, 1, line);
            for (int x = 0; x < width; x++) {
                int i = 4 * x;
                if (adobeTransform == 2) {
                    // YCCK: its YCC is that of the complement of CMY.
                    Colors.yccToRgb(line[i], line[i + 1], line[i + 2], Colors.JPEG_BLUE_IN_GREEN, rgb, 3 * x);
                    for (int c = 0; c < 3; c++) {
                        line[i + c] = 255 - (rgb[3 * x + c] & 0xff);
                    }
                }
                if (ink == Ink.INVERTED) {
                    for (int c = 0; c < 4; c++) {
                        line[i + c] = 255 - line[i + c];
                    }
                }
                Colors.cmykToRgb(line[i], line[i + 1], line[i + 2], line[i + 3], rgb, 3 * x);
            }
            raster.row(y, rgb);
        }
        return raster;
    }
}
