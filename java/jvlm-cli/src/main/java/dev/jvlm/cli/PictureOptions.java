package dev.jvlm.cli;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Decoding;
import dev.jvlm.image.Image;
import dev.jvlm.request.Request;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import picocli.CommandLine.Option;

/** How pictures are read and looked at. */
final class PictureOptions {
    private static final long MOST_BYTES = 1L << 30;

    @Option(
            names = "--max-tiles",
            paramLabel = "N",
            description = "The most tiles that a picture is cut into, 1 to 128, a thumbnail aside. Default: the model's own.")
    private Integer maxTiles;

    @Option(
            names = "--split",
            negatable = true,
            description = "Look at a picture in four quarters, too, or as a whole only (Idefics2). Default: the model's own.")
    private Boolean split;

    @Option(
            names = "--reference",
            description = "Decode as the models' published results were made: EXIF orientation is ignored, transparency dropped.")
    private boolean reference;

    Request.Builder request() {
        Request.Builder request = Request.builder();
        if (maxTiles != null) {
            request.maxTiles(maxTiles);
        }
        if (split != null) {
            request.splitImages(split);
        }
        return request;
    }

    /** @throws JvlmException IMAGE if it is no file that can be read or no picture */
    Image read(Path file) {
        return Image.decode(bytes(file), reference ? Decoding.REFERENCE : Decoding.DEFAULT);
    }

    private static byte[] bytes(Path file) {
        try {
            if (Files.isDirectory(file)) {
                throw unreadable("It is a folder; name the pictures in it", null);
            }
            if (Files.size(file) > MOST_BYTES) {
                throw unreadable("The file has more than " + (MOST_BYTES >> 20) + " MiB; no picture is that large", null);
            }
            return Files.readAllBytes(file);
        } catch (NoSuchFileException e) {
            throw unreadable("There is no such file", e);
        } catch (IOException e) {
            throw unreadable("The file cannot be read; check its permissions", e);
        }
    }

    private static JvlmException unreadable(String why, IOException cause) {
        return new JvlmException(JvlmException.Code.IMAGE, why, cause);
    }
}
