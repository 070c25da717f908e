package dev.jvlm.image;

import dev.jvlm.error.JvlmException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/**
 * Files to pictures. The format is decided by signature, sizes and structure are read from the file by our own code, and only then are
 * pixels decoded: JPEG and WebP by OpenCV, which is given a new file of only those parts that hold pixels; the others here.
 */
final class Decoder {
    private Decoder() {}

    static Image decode(byte[] file, Decoding decoding) {
        if (file.length == 0) {
            throw new JvlmException(JvlmException.Code.IMAGE, "The image is empty: it has no bytes");
        }
        Raster raster;
        try {
            raster = read(file, decoding);
        } catch (IndexOutOfBoundsException | BufferUnderflowException e) {
            // The readers follow lengths and offsets that the file gives; Java's checks catch those that lead out of it.
            throw Damage.truncated();
        } catch (OutOfMemoryError e) {
            throw new JvlmException(
                    JvlmException.Code.CAPACITY,
                    "There is no memory for the pixels of this image; raise -Xmx, or decode fewer images at a time",
                    e);
        }
        if (decoding.reference()) {
            return new Image(raster.width, raster.height, raster.rgb);
        }
        raster.flatten();
        return raster.upright();
    }

    private static Raster read(byte[] file, Decoding decoding) {
        if (starts(file, 0, "\u00ff\u00d8\u00ff")) {
            return Jpeg.read(file, decoding);
        }
        if (starts(file, 0, "\u0089PNG\r\n\u001a\n")) {
            return Png.read(file, decoding);
        }
        if (starts(file, 0, "RIFF") && starts(file, 8, "WEBP")) {
            return Webp.read(file, decoding);
        }
        if (starts(file, 0, "II*\0") || starts(file, 0, "MM\0*") || starts(file, 0, "II+\0") || starts(file, 0, "MM\0+")) {
            return Tiff.read(file, decoding);
        }
        if (starts(file, 0, "GIF87a") || starts(file, 0, "GIF89a")) {
            return Gif.read(file, decoding);
        }
        if (starts(file, 0, "BM")) {
            return Bmp.read(file, decoding);
        }
        throw new JvlmException(
                JvlmException.Code.IMAGE, "The image is of an unsupported format or damaged; use JPEG, PNG, WebP, TIFF, GIF or BMP");
    }

    static boolean starts(byte[] file, int at, String signature) {
        byte[] expected = signature.getBytes(StandardCharsets.ISO_8859_1);
        if (file.length < at + expected.length) {
            return false;
        }
        return ByteBuffer.wrap(file, at, expected.length).equals(ByteBuffer.wrap(expected));
    }

    static JvlmException noSuchFrame(int frame, int frames) {
        return new JvlmException(
                JvlmException.Code.IMAGE,
                "The image has no frame " + frame + ": it has " + frames + ", counted from 0");
    }
}
