package dev.jvlm.image;

import static org.assertj.core.api.Assertions.assertThat;

import dev.jvlm.engine.NativeResizer;
import dev.jvlm.suite.ImagesSuite;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** Pictures and tiles, byte for byte those of Pillow and of the reference code. */
class PicturesTest {
    private static final Path TESTS = Path.of(System.getProperty("jvlm.root"), "tests");

    @Test
    void f08_everyKindOfPixelIsConvertedAsPillowDoes() throws IOException {
        ByteArrayOutputStream report = new ByteArrayOutputStream();
        int differ = ImagesSuite.run(TESTS.resolve("images"), new PrintStream(report, true, StandardCharsets.UTF_8));
        assertThat(differ).as(report.toString(StandardCharsets.UTF_8)).isZero();
        assertThat(Files.readString(TESTS.resolve("images/pillow_decode_oracle.json")))
                .contains("cmyk.jpg", "ycck.jpg", "basn0g16.png", "basn2c16.png", "basn3p04.png", "basn4a08.png", "1-group4.tif");
    }

    @Test
    void theSuiteReportsWhatDiffers() throws IOException {
        Path dir = Files.createTempDirectory("jvlm-images");
        Path source = TESTS.resolve("images");
        Files.copy(source.resolve("made/grey.jpg"), dir.resolve("a.jpg"));
        Files.copy(source.resolve("made/rgb.bmp"), dir.resolve("b.bmp"));
        Files.copy(source.resolve("image-rs-bad/Bad_width.bmp"), dir.resolve("c.bmp"));
        String wrong = "\"size\": [33, 50], \"rgb_sha256\": \"00\", \"samples\": [[49, 32, 255, 255, 255], [1, 1, 0, 0, 0]]";
        Files.writeString(
                dir.resolve("pillow_decode_oracle.json"),
                "{\"files\": [{\"file\": \"a.jpg\", " + wrong + "}, {\"file\": \"b.bmp\", \"size\": [61, 43], \"rgb_sha256\": \"00\"},"
                        + " {\"file\": \"c.bmp\", \"size\": [1, 1], \"rgb_sha256\": \"00\"}, {\"file\": \"d.png\"}]}");
        ByteArrayOutputStream report = new ByteArrayOutputStream();
        assertThat(ImagesSuite.run(dir, new PrintStream(report, true, StandardCharsets.UTF_8))).isEqualTo(4);
        assertThat(report.toString(StandardCharsets.UTF_8))
                .contains("a.jpg: row ", ": off by ", "b.bmp: pixels: another SHA-256", "c.bmp: refused (IMAGE)")
                .contains("d.png: is not there", "4 differ");
    }

    @Test
    void tilesAreThoseOfTheReferenceCode() throws IOException {
        List<String> wrong = new ArrayList<>();
        int checked = 0;
        for (String family : List.of("h2ovl-0.8b", "h2ovl-2b")) {
            JsonNode golden = new ObjectMapper().readTree(TESTS.resolve("goldens").resolve(family).resolve("golden.json").toFile());
            for (JsonNode c : golden.get("cases")) {
                for (int i = 0; i < c.get("images").size(); i++) {
                    String name = c.get("images").get(i).asString();
                    Image image = Image.decode(Files.readAllBytes(TESTS.resolve("goldens/images").resolve(name)), Decoding.REFERENCE);
                    int maxTiles = c.get("max_tiles").asInt();
                    boolean msac = c.get("msac").asBoolean() && c.get("images").size() == 1;
                    GridTiler tiler = new GridTiler(448, 14, 1, maxTiles, true, msac);
                    Tiles tiles = tiler.cut(image, tiler.plan(List.of(image.size())).get(0), NativeResizer.INSTANCE);
                    JsonNode hashes = c.get("tiles_sha256").get(i);
                    for (int t = 0; t < Math.max(tiles.count(), hashes.size()); t++) {
                        checked++;
                        if (t >= tiles.count() || t >= hashes.size() || !sha256(tiles, t).equals(hashes.get(t).asString())) {
                            wrong.add(family + " " + name + " at most " + maxTiles + ": tile " + t + " of " + tiles.count());
                        }
                    }
                }
            }
        }
        assertThat(wrong).isEmpty();
        assertThat(checked).isGreaterThan(100);
    }

    private static String sha256(Tiles tiles, int tile) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            digest.update(tiles.rgb(tile, 1));
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
