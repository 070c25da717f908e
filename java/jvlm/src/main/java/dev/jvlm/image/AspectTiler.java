package dev.jvlm.image;

import dev.jvlm.error.JvlmException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;

/**
 * Idefics2's pictures: in their own aspect ratio, within bounds, whole or as four quarters and the whole.
 *
 * <p>Source: transformers 4.44.2, {@code image_processing_idefics2.py} and the patch mask of {@code modeling_idefics2.py}.
 *
 * @param longest the longest side in pixels; a larger picture is shrunk
 * @param shortest the shortest side in pixels, at most {@code longest}; a smaller side is stretched, whatever that does to the ratio
 * @param patch edge of a patch in pixels
 * @param split whether four quarters come before the whole picture
 * @param partialPatches whether a patch counts of which only a part lies in the picture. The reference fills pictures up to the size of
 *     the request's largest one, and cuts off what is no whole patch of <em>that</em>: so this matters only beside a larger picture
 */
public record AspectTiler(int longest, int shortest, int patch, boolean split, boolean partialPatches) implements Tiler {

    public AspectTiler {
        if (patch < 1 || shortest < patch || longest < shortest) {
            throw new IllegalArgumentException("Sides from " + shortest + " to " + longest + " pixels do not fit patches of " + patch);
        }
    }

    @Override
    public List<List<TileShape>> plan(List<Size> pictures) {
        List<List<Size>> resized = new ArrayList<>();
        int height = 0;
        int width = 0;
        for (Size picture : pictures) {
            Tiler.requireLegible(picture.width(), picture.height());
            List<Size> sizes = areas(picture).stream().map(area -> resized(area.size)).toList();
            resized.add(sizes);
            for (Size size : sizes) {
                height = Math.max(height, size.height());
                width = Math.max(width, size.width());
            }
        }
        int mostRows = height / patch;
        int mostColumns = width / patch;
        return resized.stream()
                .map(sizes -> sizes.stream()
                        .map(s -> new TileShape(s.height(), s.width(), patches(s.height(), mostRows), patches(s.width(), mostColumns)))
                        .toList())
                .toList();
    }

    private int patches(int pixels, int most) {
        return partialPatches ? Math.min((pixels + patch - 1) / patch, most) : pixels / patch;
    }

    @Override
    public Tiles cut(Image image, List<TileShape> shapes, Resizer resizer) {
        ByteBuffer tiles = ByteBuffer.allocateDirect(Math.toIntExact(shapes.stream().mapToLong(TileShape::bytes).sum()));
        for (Area area : areas(image.size())) {
            tiles.put(resizer.resize(image.crop(area.x, area.y, area.size), Filter.BILINEAR, List.of(resized(area.size))));
        }
        return new Tiles(tiles.clear(), shapes);
    }

    /** A part of a picture. */
    private record Area(int x, int y, Size size) {}

    private List<Area> areas(Size picture) {
        Area whole = new Area(0, 0, picture);
        if (!split) {
            return List.of(whole);
        }
        // Of an odd number of pixels the right and the lower half get one more.
        int left = picture.width() / 2;
        int right = picture.width() - left;
        int upper = picture.height() / 2;
        int lower = picture.height() - upper;
        if (left == 0 || upper == 0) {
            throw new JvlmException(
                    JvlmException.Code.IMAGE,
                    "A picture of " + picture.width() + " x " + picture.height()
                            + " pixels cannot be split: each side needs two at least. Ask for splitImages(false)");
        }
        return List.of(
                new Area(0, 0, new Size(left, upper)), new Area(left, 0, new Size(right, upper)),
                new Area(0, upper, new Size(left, lower)), new Area(left, upper, new Size(right, lower)), whole);
    }

    private Size resized(Size size) {
        double aspect = (double) size.width() / size.height();
        int width = size.width();
        int height = size.height();
        if (width >= height && width > longest) {
            width = longest;
            height = (int) (width / aspect);
        } else if (height > width && height > longest) {
            height = longest;
            width = (int) (height * aspect);
        }
        return new Size(Math.max(width, shortest), Math.max(height, shortest));
    }
}
