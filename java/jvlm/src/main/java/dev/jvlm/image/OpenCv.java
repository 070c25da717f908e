package dev.jvlm.image;

import dev.jvlm.error.JvlmException;
import java.nio.ByteBuffer;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.opencv.global.opencv_core;
import org.bytedeco.opencv.global.opencv_imgcodecs;
import org.bytedeco.opencv.opencv_core.Mat;

/** OpenCV's JPEG and WebP decoders. The only class that touches OpenCV: of it core and imgcodecs, which need no display. */
final class OpenCv {
    private static final JvlmException FAILURE = load();

    private OpenCv() {}

    private static JvlmException load() {
        // JavaCPP's limits follow the Java heap and count the whole process, weights included; they are read when its Pointer class is
        // first used, which may be here.
        for (String limit : new String[] {"maxBytes", "maxPhysicalBytes"}) {
            System.getProperties().putIfAbsent("org.bytedeco.javacpp." + limit, "0");
        }
        System.getProperties().putIfAbsent("org.bytedeco.javacpp.noPointerGC", "true");
        try {
            Loader.load(opencv_imgcodecs.class);
            return null;
        } catch (LinkageError e) {
            return new JvlmException(
                    JvlmException.Code.DEVICE,
                    "OpenCV, which decodes JPEG and WebP, cannot be loaded; check that the jars of opencv and openblas with classifier"
                            + " linux-x86_64 are on the class path, or name another folder to unpack to with"
                            + " -Dorg.bytedeco.javacpp.cachedir=FOLDER (the cause says more)",
                    e);
        }
    }

    /**
     * Decodes a file that was checked before.
     *
     * @param file direct, from position to limit
     * @param transparent whether it has an alpha channel
     */
    static Raster decode(ByteBuffer file, int width, int height, boolean transparent) {
        Raster raster = new Raster(width, height, transparent);
        ByteBuffer pixels = transparent ? Raster.allocate(4L * width * height) : raster.rgb;
        int flags = transparent
                ? opencv_imgcodecs.IMREAD_UNCHANGED
                : opencv_imgcodecs.IMREAD_COLOR_RGB | opencv_imgcodecs.IMREAD_IGNORE_ORIENTATION;
        decode(file, flags, width, height, transparent ? opencv_core.CV_8UC4 : opencv_core.CV_8UC3, pixels);
        if (transparent) {
            byte[] line = new byte[4 * width];
            byte[] rgb = new byte[3 * width];
            for (int y = 0; y < height; y++) {
                pixels.get(4 * width * y, line);
                for (int x = 0; x < width; x++) {
                    rgb[3 * x] = line[4 * x + 2];
                    rgb[3 * x + 1] = line[4 * x + 1];
                    rgb[3 * x + 2] = line[4 * x];
                    raster.alpha[y * width + x] = line[4 * x + 3];
                }
                raster.row(y, rgb);
            }
        }
        return raster;
    }

    /** The luma of a JPEG, (height, width) bytes. */
    static ByteBuffer luma(ByteBuffer jpeg, int width, int height) {
        ByteBuffer pixels = Raster.allocate((long) width * height);
        int flags = opencv_imgcodecs.IMREAD_GRAYSCALE | opencv_imgcodecs.IMREAD_IGNORE_ORIENTATION;
        decode(jpeg, flags, width, height, opencv_core.CV_8UC1, pixels);
        return pixels;
    }

    /** A JPEG of RGB in half its size, which is given: (height, width, 3), blue first. A channel of half the size comes as it is stored. */
    static ByteBuffer halved(ByteBuffer jpeg, int width, int height) {
        ByteBuffer pixels = Raster.allocate(3L * width * height);
        int flags = opencv_imgcodecs.IMREAD_REDUCED_COLOR_2 | opencv_imgcodecs.IMREAD_IGNORE_ORIENTATION;
        decode(jpeg, flags, width, height, opencv_core.CV_8UC3, pixels);
        return pixels;
    }

    private static void decode(ByteBuffer file, int flags, int width, int height, int type, ByteBuffer pixels) {
        if (FAILURE != null) {
            throw new JvlmException(FAILURE.code(), FAILURE.getMessage(), FAILURE.getCause());
        }
        try (BytePointer from = new BytePointer(file);
                BytePointer to = new BytePointer(pixels);
                Mat in = new Mat(1, file.remaining(), opencv_core.CV_8UC1, from);
                Mat out = new Mat(height, width, type, to);
                Mat result = opencv_imgcodecs.imdecode(in, flags, out)) {
            // OpenCV writes into our buffer as long as size and type are those that it expects, and allocates its own otherwise.
            if (result.empty() || out.data() == null || out.data().address() != to.address()) {
                throw Damage.of("its compressed data are inconsistent");
            }
        } catch (JvlmException e) {
            throw e;
        } catch (RuntimeException e) {
            // Without the cause: its text names files and addresses.
            throw Damage.of("its compressed data are inconsistent");
        }
    }
}
