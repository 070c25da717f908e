package dev.jvlm.suite;

import dev.jvlm.engine.NativeResizer;
import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Decoding;
import dev.jvlm.image.Filter;
import dev.jvlm.image.Image;
import dev.jvlm.image.Size;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/**
 * Compares decoding and resizing with what Pillow recorded for a folder of pictures: {@code pillow_decode_oracle.json} beside them,
 * whose {@code files} have, for each {@code file}, the SHA-256 of its RGB bytes and of its bicubic resize to 448 x 448 and, where they
 * are given, of a bilinear resize to 97 x 61, of the picture turned as EXIF says and of transparency on white. {@code frame} names another
 * frame than the first.
 */
public final class ImagesSuite {
    private final Path dir;
    private final PrintStream out;
    private int equal;
    private int near;
    private int refused;
    private int differ;

    private ImagesSuite(Path dir, PrintStream out) {
        this.dir = dir;
        this.out = out;
    }

    /** Prints a line for each case that differs and one that sums up; returns the number of cases that differ. */
    public static int run(Path dir, PrintStream out) {
        ImagesSuite suite = new ImagesSuite(dir, out);
        JsonNode files = new ObjectMapper().readTree(dir.resolve("pillow_decode_oracle.json").toFile()).get("files");
        for (JsonNode entry : files) {
            suite.check(entry);
        }
        out.printf(
                "images: %d cases: %d equal, %d JPEG within one grey level, %d refused or without a target, %d differ%n",
                files.size(), suite.equal, suite.near, suite.refused, suite.differ);
        return files.isEmpty() ? 1 : suite.differ;
    }

    private static int frame(JsonNode entry) {
        return entry.has("frame") ? entry.get("frame").asInt() : 0;
    }

    private void check(JsonNode entry) {
        String path = entry.get("file").asString();
        String name = frame(entry) == 0 ? path : path + ", frame " + frame(entry);
        byte[] file;
        try {
            file = Files.readAllBytes(dir.resolve(path));
        } catch (IOException e) {
            differs(name, "is not there or cannot be read");
            return;
        }
        boolean foreign = entry.has("format") && entry.get("format").asString().equals("JPEG2000");
        boolean target = !entry.has("error") && !entry.has("versions_differ") && !foreign;
        Image image;
        try {
            image = Image.decode(file, Decoding.REFERENCE.withFrame(frame(entry)));
        } catch (JvlmException e) {
            if (target || e.code() != JvlmException.Code.IMAGE) {
                differs(name, "refused (" + e.code() + "): " + e.getMessage());
            } else {
                refused++;
            }
            return;
        } catch (RuntimeException e) {
            differs(name, "failed with " + e);
            return;
        }
        if (foreign) {
            differs(name, "a format that is not supported was decoded");
        } else if (target) {
            compare(name, file, entry, image);
        } else {
            refused++;
        }
    }

    private void compare(String name, byte[] file, JsonNode entry, Image image) {
        JsonNode size = entry.get("size");
        if (image.width() != size.get(0).asInt() || image.height() != size.get(1).asInt()) {
            differs(name, "is " + image.width() + " x " + image.height() + " instead of " + size.get(0) + " x " + size.get(1));
            return;
        }
        if (!sha256(image.rgb()).equals(entry.get("rgb_sha256").asString())) {
            compareSamples(name, entry.get("samples"), image);
            return;
        }
        if (!resizes(image, Filter.BICUBIC, new Size(448, 448), entry, "bicubic448_sha256")) {
            differs(name, "pixels are equal, the bicubic resize to 448 x 448 has another SHA-256");
        } else if (!resizes(image, Filter.BILINEAR, new Size(97, 61), entry, "bilinear97x61_sha256")) {
            differs(name, "pixels are equal, the bilinear resize to 97 x 61 has another SHA-256");
        } else if (!asSeen(file, entry, "transposed_sha256")) {
            differs(name, "pixels are equal, turned as EXIF says they have another SHA-256");
        } else if (!asSeen(file, entry, "white_sha256")) {
            differs(name, "pixels are equal, with transparency on white they have another SHA-256");
        } else {
            equal++;
        }
    }

    private static boolean resizes(Image image, Filter filter, Size size, JsonNode entry, String key) {
        return !entry.has(key)
                || sha256(NativeResizer.INSTANCE.resize(image, filter, List.of(size))).equals(entry.get(key).asString());
    }

    private static boolean asSeen(byte[] file, JsonNode entry, String key) {
        return !entry.has(key)
                || sha256(Image.decode(file, Decoding.DEFAULT.withFrame(frame(entry))).rgb()).equals(entry.get(key).asString());
    }

    /** A JPEG may differ by one grey level where it was sampled. */
    private void compareSamples(String name, JsonNode samples, Image image) {
        if (samples == null) {
            differs(name, "pixels: another SHA-256 (nothing was recorded that would tell where)");
            return;
        }
        ByteBuffer rgb = image.rgb();
        int worst = 0;
        String where = "";
        for (JsonNode sample : samples) {
            int at = 3 * (sample.get(0).asInt() * image.width() + sample.get(1).asInt());
            for (int c = 0; c < 3; c++) {
                int off = (rgb.get(at + c) & 0xff) - sample.get(2 + c).asInt();
                if (Math.abs(off) > Math.abs(worst)) {
                    worst = off;
                    where = "row " + sample.get(0) + ", column " + sample.get(1) + ", channel " + c;
                }
            }
        }
        if (Math.abs(worst) > 1) {
            differs(name, where + ": off by " + worst);
        } else {
            near++;
        }
    }

    private void differs(String name, String how) {
        out.println("differs: " + name + ": " + how);
        differ++;
    }

    private static String sha256(ByteBuffer bytes) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            digest.update(bytes);
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
