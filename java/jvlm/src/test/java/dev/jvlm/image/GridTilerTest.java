package dev.jvlm.image;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

class GridTilerTest {

    private static final JsonNode GOLDEN = new ObjectMapper()
            .readTree(Path.of(System.getProperty("jvlm.root"), "tests/goldens/tiles/tiles.json").toFile());

    private static GridTiler tiler(int maxTiles, boolean msac) {
        return new GridTiler(448, 14, 1, maxTiles, true, msac);
    }

    @Test
    void gridsAreThoseOfTheReferenceCode() {
        List<String> wrong = new ArrayList<>();
        JsonNode cases = GOLDEN.get("grid");
        for (JsonNode c : cases) {
            GridTiler tiler = tiler(c.get(2).asInt(), false);
            Size size = new Size(c.get(0).asInt(), c.get(1).asInt());
            Grid grid = tiler.choose(size.width(), size.height());
            List<TileShape> tiles = tiler.plan(List.of(size)).get(0);
            if (!grid.equals(new Grid(c.get(3).asInt(), c.get(4).asInt()))
                    || !tiles.equals(Collections.nCopies(c.get(5).asInt(), new TileShape(448, 448, 32, 32)))) {
                wrong.add(c + " got " + grid);
            }
        }
        assertThat(wrong).isEmpty();
        assertThat(cases.size()).isGreaterThan(1000);
    }

    @Test
    void msacGridsAreThoseOfTheReferenceCode() {
        List<String> wrong = new ArrayList<>();
        JsonNode cases = GOLDEN.get("msac");
        for (JsonNode c : cases) {
            int width = c.get(0).asInt();
            int height = c.get(1).asInt();
            GridTiler tiler = tiler(c.get(2).asInt(), true);
            Grid coarse = tiler.choose(width, height);
            Grid fine = tiler.chooseFine(width, height, coarse);
            int tiles = tiler.plan(List.of(new Size(width, height))).get(0).size();
            if (!coarse.equals(new Grid(c.get(3).asInt(), c.get(4).asInt()))
                    || !fine.equals(new Grid(c.get(5).asInt(), c.get(6).asInt()))
                    || tiles != c.get(7).asInt()) {
                wrong.add(c + " got " + coarse + ", " + fine + ", " + tiles + " tiles");
            }
        }
        assertThat(wrong).isEmpty();
        assertThat(cases.size()).isGreaterThan(1000);
    }

    @Test
    void areaDecidesBetweenGridsOfOneRatio() {
        assertThat(tiler(6, false).choose(633, 633)).isEqualTo(new Grid(1, 1));
        assertThat(tiler(6, false).choose(634, 634)).isEqualTo(new Grid(2, 2));
    }

    @Test
    void f05_extremeStripsDoNotOverflow() {
        assertThat(tiler(6, false).choose(60_000, 1)).isEqualTo(new Grid(6, 1));
        assertThat(tiler(6, false).choose(1, 60_000)).isEqualTo(new Grid(1, 6));
        assertThat(tiler(6, false).choose(50_000, 50_000)).isEqualTo(new Grid(2, 2));
    }

    @Test
    void emptyPictureIsRefused() {
        assertThatThrownBy(() -> tiler(6, false).choose(0, 5)).hasMessageContaining("at least one pixel");
    }
}
