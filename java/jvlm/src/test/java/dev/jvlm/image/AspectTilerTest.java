package dev.jvlm.image;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.error.JvlmException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Sizes and quarters; what the pixels become is compared with the reference by the goldens. */
class AspectTilerTest {

    private static AspectTiler tiler(boolean split, boolean partialPatches) {
        return new AspectTiler(980, 378, 14, split, partialPatches);
    }

    /** By transformers' formula: int(980 / (w / h)) and int(980 * (w / h)) in doubles, then at least 378. */
    @ParameterizedTest
    @CsvSource({
        "500, 650, 500, 650", "980, 980, 980, 980", "981, 981, 980, 980", "378, 378, 378, 378", "1, 1, 378, 378", "100, 700, 378, 700",
        "1000, 700, 980, 686", "700, 1000, 686, 980", "981, 980, 980, 979", "980, 981, 979, 980", "5000, 500, 980, 378",
        "10000, 1, 980, 378", "1, 10000, 378, 980", "2000, 1333, 980, 653", "1333, 2000, 653, 980", "1400, 1000, 980, 700",
        "3, 2, 378, 378",
    })
    void sizesAreThoseOfTheReferenceCode(int width, int height, int resizedWidth, int resizedHeight) {
        TileShape shape = tiler(false, true).plan(List.of(new Size(width, height))).get(0).get(0);
        assertThat(new Size(shape.width(), shape.height())).isEqualTo(new Size(resizedWidth, resizedHeight));
    }

    @Test
    void quotientsAreCutOffAndNotRounded() {
        // Every size that shrinks, against exact integers: a double's quotient may fall below a whole number, and is cut off there too.
        int below = 0;
        for (int width = 981; width < 2200; width++) {
            for (int height = 378; height <= width; height += 7) {
                TileShape shape = tiler(false, true).plan(List.of(new Size(width, height))).get(0).get(0);
                int exact = Math.max(378, 980 * height / width);
                assertThat(shape.height()).as(width + " x " + height).isIn(exact, Math.max(378, exact - 1));
                if (shape.height() < exact) {
                    below++;
                    assertThat(980 * height % width).as(width + " x " + height).isZero();
                }
            }
        }
        assertThat(below).isPositive();
    }

    @Test
    void patchesDependOnTheLargestPictureBesideThem() {
        List<Size> both = List.of(new Size(521, 401), new Size(980, 378));
        assertThat(tiler(false, true).plan(both))
                .containsExactly(List.of(new TileShape(401, 521, 28, 38)), List.of(new TileShape(378, 980, 27, 70)));
        assertThat(tiler(false, false).plan(both))
                .containsExactly(List.of(new TileShape(401, 521, 28, 37)), List.of(new TileShape(378, 980, 27, 70)));
        // Alone, what is no whole patch is cut off by either rule.
        for (boolean partial : new boolean[] {true, false}) {
            assertThat(tiler(false, partial).plan(both.subList(0, 1))).containsExactly(List.of(new TileShape(401, 521, 28, 37)));
        }
        assertThat(tiler(true, true).plan(List.of())).isEmpty();
    }

    @Test
    void quartersComeBeforeTheWholeAndTheLaterOnesGetTheOddPixel() {
        byte[] rgb = new byte[3 * 3 * 5];
        for (int i = 0; i < rgb.length; i++) {
            rgb[i] = (byte) (10 + i);
        }
        Image image = Image.of(5, 3, rgb);
        List<Image> seen = new ArrayList<>();
        Resizer resizer = (part, filter, sizes) -> {
            assertThat(filter).isEqualTo(Filter.BILINEAR);
            assertThat(sizes).containsExactly(new Size(378, 378));
            seen.add(part);
            return ByteBuffer.allocateDirect(3 * 378 * 378);
        };
        AspectTiler tiler = tiler(true, true);
        Tiles tiles = tiler.cut(image, tiler.plan(List.of(image.size())).get(0), resizer);
        assertThat(tiles.count()).isEqualTo(5);
        assertThat(seen.stream().map(Image::size))
                .containsExactly(new Size(2, 1), new Size(3, 1), new Size(2, 2), new Size(3, 2), new Size(5, 3));
        int[][] corners = {{0, 0}, {2, 0}, {0, 1}, {2, 1}, {0, 0}};
        for (int i = 0; i < 5; i++) {
            Image part = seen.get(i);
            for (int y = 0; y < part.height(); y++) {
                for (int b = 0; b < 3 * part.width(); b++) {
                    assertThat(part.rgb().get(3 * y * part.width() + b))
                            .as("part " + i + " row " + y + " byte " + b)
                            .isEqualTo(rgb[3 * ((corners[i][1] + y) * 5 + corners[i][0]) + b]);
                }
            }
        }
    }

    @Test
    void f05_whatCannotBeQuarteredIsRefusedWithTheRemedy() {
        assertThatThrownBy(() -> tiler(true, true).plan(List.of(new Size(100, 100), new Size(500, 1))))
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.IMAGE))
                .hasMessageContainingAll("500 x 1", "splitImages(false)");
        assertThat(tiler(false, true).plan(List.of(new Size(500, 1)))).hasSize(1);
        assertThat(tiler(true, true).plan(List.of(new Size(2, 2))).get(0)).hasSize(5);
    }
}
