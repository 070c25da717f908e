package dev.jvlm.suite;

import dev.jvlm.engine.Forward;
import dev.jvlm.model.AdapterVectors;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.IntStream;

/** Compares what recorded adapters make of weights, in float32, as they come into memory. */
final class AdapterGoldens {

    private AdapterGoldens() {}

    /** Compares all cases of a folder; returns how many layers they have. */
    static int run(Path folder, Differences differences) throws IOException {
        Path config = Path.of(System.getProperty("jvlm.root"), "weights/nano/config.json");
        int layers = 0;
        for (Path c : AdapterVectors.cases(folder)) {
            for (AdapterVectors.Layer layer : AdapterVectors.layers(c, config)) {
                layers++;
                float[] got = merged(layer);
                float[] off = new float[layer.expected().length];
                Arrays.fill(off, Float.NaN); // What the engine does not give is the worst.
                for (int i = 0; i < Math.min(off.length, got.length); i++) {
                    off[i] = (float) (((double) got[i] - layer.expected()[i]) / layer.tolerance()[i]);
                }
                differences.near(c.getFileName().toString(), "adapter " + c.getFileName() + " " + layer.name(), off, new float[off.length], 1,
                        i -> "[" + i / layer.columns() + ", " + i % layer.columns() + "], recorded " + layer.expected()[i]
                                + ": the difference in parts of " + layer.tolerance()[i]);
            }
        }
        return layers;
    }

    private static float[] merged(AdapterVectors.Layer layer) {
        int[] ids = IntStream.range(0, layer.rows()).toArray();
        int[] noPicture = new int[ids.length];
        Arrays.fill(noPicture, -1);
        try (Forward forward = Forward.open(layer.checkpoint(), "cpu", "float32", ids.length, 0)) {
            forward.record("decoder.embed");
            forward.prompt(ids, noPicture);
            return forward.recorded("decoder.embed");
        }
    }
}
