package dev.jvlm.engine;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Filter;
import dev.jvlm.image.Image;
import dev.jvlm.image.Resizer;
import dev.jvlm.image.Size;
import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import java.util.List;

/** Resizing in native code, on all cores. */
public final class NativeResizer implements Resizer {
    public static final NativeResizer INSTANCE = new NativeResizer();

    private NativeResizer() {}

    @Override
    public ByteBuffer resize(Image image, Filter filter, List<Size> sizes) {
        long bytes = 0;
        IntBuffer pairs = StepPlan.ints(2 * sizes.size());
        for (Size size : sizes) {
            pairs.put(size.height()).put(size.width());
            bytes += size.bytes();
        }
        if (bytes > Integer.MAX_VALUE) {
            throw new JvlmException(
                    JvlmException.Code.IMAGE,
                    "The resized picture would take " + bytes + " bytes; at most 2^31 - 1 can be held. Ask for fewer tiles");
        }
        ByteBuffer out = ByteBuffer.allocateDirect((int) bytes);
        Engine.call(() -> {
            NativeJvlm.resize(image.rgb(), image.height(), image.width(), filter.ordinal(), pairs.flip(), sizes.size(), out);
            return null;
        });
        return out;
    }
}
