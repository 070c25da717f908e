package dev.jvlm.image;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

class GridTilerTest {

    private static final JsonNode GOLDEN = new ObjectMapper()
            .readTree(Path.of(System.getProperty("jvlm.root"), "tests/goldens/tiles/tiles.json").toFile());

    private final GridTiler tiler = new GridTiler(448);

    @Test
    void gridsAreThoseOfTheReferenceCode() {
        List<String> wrong = new ArrayList<>();
        JsonNode cases = GOLDEN.get("grid");
        for (JsonNode c : cases) {
            Grid grid = tiler.choose(c.get(0).asInt(), c.get(1).asInt(), 1, c.get(2).asInt());
            if (grid.columns() != c.get(3).asInt()
                    || grid.rows() != c.get(4).asInt()
                    || tiler.count(c.get(0).asInt(), c.get(1).asInt(), 1, c.get(2).asInt(), true, false) != c.get(5).asInt()) {
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
            int maxTiles = c.get(2).asInt();
            Grid coarse = tiler.choose(width, height, 1, maxTiles);
            Grid fine = tiler.chooseFine(width, height, coarse, maxTiles);
            int tiles = tiler.count(width, height, 1, maxTiles, true, true);
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
        assertThat(tiler.choose(633, 633, 1, 6)).isEqualTo(new Grid(1, 1));
        assertThat(tiler.choose(634, 634, 1, 6)).isEqualTo(new Grid(2, 2));
    }

    @Test
    void f05_extremeStripsDoNotOverflow() {
        assertThat(tiler.choose(60_000, 1, 1, 6)).isEqualTo(new Grid(6, 1));
        assertThat(tiler.choose(1, 60_000, 1, 6)).isEqualTo(new Grid(1, 6));
        assertThat(tiler.choose(50_000, 50_000, 1, 6)).isEqualTo(new Grid(2, 2));
    }

    @Test
    void emptyPictureIsRefused() {
        assertThatThrownBy(() -> tiler.choose(0, 5, 1, 6)).hasMessageContaining("at least one pixel");
    }
}
