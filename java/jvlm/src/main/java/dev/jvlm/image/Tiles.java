package dev.jvlm.image;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.IntBuffer;
import java.util.List;

/**
 * The tiles of one picture, one behind the other: (height, width, 3) bytes of RGB each.
 *
 * @param rgb a direct buffer from its position 0 on
 * @param shapes one a tile
 */
public record Tiles(ByteBuffer rgb, List<TileShape> shapes) {

    public Tiles {
        shapes = List.copyOf(shapes);
        if (!rgb.isDirect() || rgb.capacity() != bytes(shapes)) {
            throw new IllegalArgumentException(
                    "Tiles of the shapes " + shapes + " do not fill a direct buffer of " + rgb.capacity() + " bytes");
        }
    }

    /** The number of tiles. */
    public int count() {
        return shapes.size();
    }

    /** The bytes of {@code count} tiles from tile {@code first} on. */
    public ByteBuffer rgb(int first, int count) {
        return rgb.slice((int) bytes(shapes.subList(0, first)), (int) bytes(shapes.subList(first, first + count)));
    }

    /** Height, width, rows and columns of patches of {@code count} tiles from tile {@code first} on, in a direct buffer. */
    public IntBuffer shape(int first, int count) {
        IntBuffer shape = ByteBuffer.allocateDirect(16 * count).order(ByteOrder.nativeOrder()).asIntBuffer();
        for (TileShape s : shapes.subList(first, first + count)) {
            shape.put(s.height()).put(s.width()).put(s.rows()).put(s.columns());
        }
        return shape.flip();
    }

    private static long bytes(List<TileShape> shapes) {
        return shapes.stream().mapToLong(TileShape::bytes).sum();
    }
}
