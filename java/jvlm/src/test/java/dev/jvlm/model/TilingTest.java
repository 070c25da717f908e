package dev.jvlm.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.AspectTiler;
import dev.jvlm.image.GridTiler;
import dev.jvlm.request.Request;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

/** What a request says of its pictures is honoured or refused, never passed over. */
class TilingTest {

    private static final Tiling GRID = new Tiling.Grid(448, 1, 6, true, true);
    private static final Tiling ASPECT = new Tiling.Aspect(980, 378, true);

    private static Request request(Consumer<Request.Builder> set) {
        Request.Builder b = Request.builder().text("?");
        set.accept(b);
        return b.build();
    }

    @Test
    void whatARequestSaysOverridesTheModel() {
        assertThat(GRID.tiler(request(b -> {}), 1, 14)).isEqualTo(new GridTiler(448, 14, 1, 6, true, true));
        assertThat(GRID.tiler(request(b -> {}), 2, 14)).isEqualTo(new GridTiler(448, 14, 1, 6, true, false));
        assertThat(GRID.tiler(request(b -> b.maxTiles(9).msac(false)), 1, 14)).isEqualTo(new GridTiler(448, 14, 1, 9, true, false));
        assertThat(ASPECT.tiler(request(b -> {}), 3, 14)).isEqualTo(new AspectTiler(980, 378, 14, true, true));
        assertThat(ASPECT.tiler(request(b -> b.splitImages(false).partialPatches(false)), 3, 14))
                .isEqualTo(new AspectTiler(980, 378, 14, false, false));
        assertThat(new Tiling.Aspect(700, 350, false).tiler(request(b -> b.splitImages(true).partialPatches(true)), 1, 10))
                .isEqualTo(new AspectTiler(700, 350, 10, true, true));
    }

    @Test
    void f44_whatTheOtherKindOfTilingKnowsIsRefused() {
        for (Consumer<Request.Builder> set : List.<Consumer<Request.Builder>>of(
                b -> b.splitImages(true), b -> b.splitImages(false), b -> b.partialPatches(true), b -> b.partialPatches(false))) {
            refused(GRID, request(set), "splitImages", "maxTiles");
        }
        for (Consumer<Request.Builder> set :
                List.<Consumer<Request.Builder>>of(b -> b.maxTiles(3), b -> b.msac(true), b -> b.msac(false))) {
            refused(ASPECT, request(set), "maxTiles", "splitImages");
        }
        refused(GRID, request(b -> b.msac(true)), "single picture", "holds 2");
    }

    private static void refused(Tiling tiling, Request request, String... saying) {
        assertThatThrownBy(() -> tiling.tiler(request, 2, 14))
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.REQUEST))
                .hasMessageContainingAll(saying);
    }
}
