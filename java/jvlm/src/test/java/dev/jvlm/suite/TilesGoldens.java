package dev.jvlm.suite;

import dev.jvlm.image.Grid;
import dev.jvlm.image.GridTiler;
import dev.jvlm.image.Size;
import java.nio.file.Path;
import java.util.List;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** The choice of grids for many picture sizes, against the references' (tiles/tiles.json). */
final class TilesGoldens {
    private TilesGoldens() {}

    /** Returns the number of cases. */
    static int run(Path file, Differences differences) {
        JsonNode golden = new ObjectMapper().readTree(file.toFile());
        for (JsonNode c : golden.path("grid")) {
            int[] v = GoldenCase.ints(c);
            GridTiler tiler = new GridTiler(448, 14, 1, v[2], true, false);
            Grid grid = tiler.choose(v[0], v[1]);
            String as = "tiles grid " + v[0] + " x " + v[1] + ", at most " + v[2];
            differences.same(as, grid, new Grid(v[3], v[4]));
            differences.same(as + " number of tiles", tiles(tiler, v), v[5]);
        }
        for (JsonNode c : golden.path("msac")) {
            int[] v = GoldenCase.ints(c);
            String as = "tiles msac " + v[0] + " x " + v[1] + ", at most " + v[2];
            GridTiler tiler = new GridTiler(448, 14, 1, v[2], true, true);
            Grid coarse = tiler.choose(v[0], v[1]);
            differences.same(as + " coarse grid", coarse, new Grid(v[3], v[4]));
            differences.same(as + " fine grid", tiler.chooseFine(v[0], v[1], coarse), new Grid(v[5], v[6]));
            differences.same(as + " number of tiles", tiles(tiler, v), v[7]);
        }
        return golden.path("grid").size() + golden.path("msac").size();
    }

    private static int tiles(GridTiler tiler, int[] size) {
        return tiler.plan(List.of(new Size(size[0], size[1]))).get(0).size();
    }
}
