package dev.jvlm.suite;

import dev.jvlm.image.Grid;
import dev.jvlm.image.GridTiler;
import java.nio.file.Path;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** The choice of grids for many picture sizes, against the references' (tiles/tiles.json). */
final class TilesGoldens {
    private TilesGoldens() {}

    /** Returns the number of cases. */
    static int run(Path file, Differences differences) {
        GridTiler tiler = new GridTiler(448);
        JsonNode golden = new ObjectMapper().readTree(file.toFile());
        for (JsonNode c : golden.path("grid")) {
            int[] v = GoldenCase.ints(c);
            Grid grid = tiler.choose(v[0], v[1], 1, v[2]);
            String as = "tiles grid " + v[0] + " x " + v[1] + ", at most " + v[2];
            differences.same(as, grid, new Grid(v[3], v[4]));
            differences.same(as + " number of tiles", tiler.count(v[0], v[1], 1, v[2], true, false), v[5]);
        }
        for (JsonNode c : golden.path("msac")) {
            int[] v = GoldenCase.ints(c);
            String as = "tiles msac " + v[0] + " x " + v[1] + ", at most " + v[2];
            Grid coarse = tiler.choose(v[0], v[1], 1, v[2]);
            differences.same(as + " coarse grid", coarse, new Grid(v[3], v[4]));
            differences.same(as + " fine grid", tiler.chooseFine(v[0], v[1], coarse, v[2]), new Grid(v[5], v[6]));
            differences.same(as + " number of tiles", tiler.count(v[0], v[1], 1, v[2], true, true), v[7]);
        }
        return golden.path("grid").size() + golden.path("msac").size();
    }
}
