package dev.jvlm.request;

import dev.jvlm.error.JvlmException;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/**
 * The most tiles a picture that InternVL 1.5's published scores were reached with, by data set: for {@link Request.Builder#maxTiles}. From
 * InternVL's own instructions for the evaluation; OCR-VQA, OCRBench, RealWorldQA and HallusionBench from VLMEvalKit, by which they were scored.
 */
public final class TileLimits {
    private static final Map<String, Integer> TILES = new TreeMap<>(Map.ofEntries(
            Map.entry("AI2D", 6), Map.entry("CCBench", 6), Map.entry("ChartQA", 12), Map.entry("DocVQA", 18),
            Map.entry("HallusionBench", 6), Map.entry("InfoVQA", 24), Map.entry("MathVista", 6), Map.entry("MMBench", 6),
            Map.entry("MME", 12), Map.entry("MMMU", 6), Map.entry("MM-Vet", 6), Map.entry("OCRBench", 24), Map.entry("OCR-VQA", 12),
            Map.entry("RealWorldQA", 6), Map.entry("SEED", 6), Map.entry("TextVQA", 24)));

    private TileLimits() {}

    /**
     * The limit of a data set.
     *
     * @param dataset its name, for instance {@code DocVQA}; case, hyphens, underscores and blanks do not matter
     * @throws JvlmException REQUEST, naming the data sets that there are
     */
    public static int of(String dataset) {
        if (dataset != null) {
            for (Map.Entry<String, Integer> e : TILES.entrySet()) {
                if (plain(e.getKey()).equals(plain(dataset))) {
                    return e.getValue();
                }
            }
        }
        throw new JvlmException(
                JvlmException.Code.REQUEST,
                "There is no tile limit for the data set '" + dataset + "'; there are those of " + String.join(", ", TILES.keySet()));
    }

    private static String plain(String name) {
        return name.replaceAll("[-_ ]", "").toLowerCase(Locale.ROOT);
    }
}
