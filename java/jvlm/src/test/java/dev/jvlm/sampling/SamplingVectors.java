package dev.jvlm.sampling;

import dev.jvlm.request.Sampling;
import dev.jvlm.text.Tokenizer;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** Compares the choice of tokens with what the references recorded (tests/goldens/sampling). */
public final class SamplingVectors {
    private SamplingVectors() {}

    /**
     * Which ids survive transformers' processors and with what probability. The reference works in float32 throughout, here only the scores
     * are. Its softmax rounds the difference to the largest score (d: d 2^-24 of the result), exp (within an ulp: 2 x 2^-24) and the
     * quotient (2^-24); the recorded ones are divided by their sum, which carries the same errors averaged: (d + 3 + mean of (d + 3)) 2^-24
     * of a probability. Logits are recorded with six decimals, half a unit off at most, which penalty and temperature stretch and which
     * count twice, in the score and in the sum.
     *
     * <p>Sets could differ where a cumulative sum comes within rounding of its limit: the reference adds up to 2,000 float32 probabilities,
     * here double ones are rounded to float32 once. No recorded case is that close, so all are compared.
     *
     * @param differs takes a sentence for each thing that differs
     * @return the number of cases
     */
    public static int processors(Path file, Consumer<String> differs) {
        JsonNode cases = new ObjectMapper().readTree(file.toFile());
        for (JsonNode c : cases) {
            Sampling.Builder b = Sampling.builder().temperature(1);
            for (Map.Entry<String, JsonNode> field : c.path("spec").properties()) {
                float value = field.getValue().floatValue();
                switch (field.getKey()) {
                    case "temperature" -> b.temperature(value);
                    case "top_k" -> b.topK((int) value);
                    case "top_p" -> b.topP(value);
                    case "min_p" -> b.minP(value);
                    case "typical_p" -> b.typicalP(value);
                    case "repetition_penalty" -> b.repetitionPenalty(value);
                    case "no_repeat_ngram_size" -> b.noRepeatNgram((int) value);
                    default -> throw new IllegalStateException("The case has " + field.getKey());
                }
            }
            int vocabulary = c.path("vocab").asInt();
            float[] row = new float[vocabulary];
            for (int i = 0; i < vocabulary; i++) {
                row[i] = c.path("logits").get(i).floatValue();
            }
            Sampling sampling = b.build();
            double stretch = Math.max(sampling.repetitionPenalty(), 1 / sampling.repetitionPenalty()) / sampling.temperature();
            Sampler sampler = new Sampler(sampling, new int[0], 0, null, List.of(), vocabulary);
            sampler.remember(c.path("previous").valueStream().mapToInt(JsonNode::asInt).toArray());
            int kept = sampler.survivors(FloatBuffer.wrap(row));
            String as = c.path("spec") + " over " + vocabulary;
            if (kept != c.path("kept").asInt()) {
                differs.accept(as + ": " + kept + " survive, not " + c.path("kept"));
                continue;
            }
            // The twelve likeliest are recorded.
            if (c.path("probabilities").size() != Math.min(12, c.path("kept").asInt())) {
                differs.accept(as + ": " + c.path("probabilities").size() + " probabilities are recorded");
            }
            double mean = 0;
            for (int i = 0; i < kept; i++) {
                mean += sampler.probability(i, kept) * Math.log(sampler.probability(0, kept) / sampler.probability(i, kept));
            }
            int rank = 0;
            for (Map.Entry<String, JsonNode> p : c.path("probabilities").properties()) {
                double expected = p.getValue().asDouble();
                double d = Math.log(sampler.probability(0, kept) / expected);
                double bound = (d + mean + 6) * 0x1p-24 + 2 * 0.5e-6 * stretch;
                double ratio = Math.abs(sampler.probability(rank, kept) / expected - 1) / bound;
                if (sampler.id(rank) != Integer.parseInt(p.getKey()) || !(ratio <= 1)) {
                    differs.accept(
                            as + ": rank " + rank + " is " + sampler.id(rank) + " with " + sampler.probability(rank, kept) + ", not " + p);
                }
                rank++;
            }
        }
        return cases.size();
    }

    /**
     * H2OVL's ocr() rule: which ids are blank, and which of the thirty likeliest it puts out of reach.
     *
     * @param tokenizer with the vocabulary that the file names
     */
    public static int ocrRule(Path file, Tokenizer tokenizer, Consumer<String> differs) {
        JsonNode golden = new ObjectMapper().readTree(file.toFile());
        OcrRule rule = new OcrRule(tokenizer);
        int[] blank = IntStream.range(0, tokenizer.size()).filter(rule::isBlank).toArray();
        if (!Arrays.equals(blank, ints(golden.path("whitespace_ids")))) {
            differs.accept("blank ids are " + Arrays.toString(blank) + " instead of " + golden.path("whitespace_ids"));
        }
        for (JsonNode c : golden.path("cases")) {
            int[] best = ints(c.path("best"));
            float[] row = new float[tokenizer.size()];
            Arrays.fill(row, -100);
            for (int i = 0; i < best.length; i++) {
                row[best[i]] = 50 - i;
            }
            // Those that are not suppressed must follow each other as before, ahead of all others.
            int[] suppressed = ints(c.path("suppressed"));
            int[] left = IntStream.of(best).filter(id -> IntStream.of(suppressed).noneMatch(s -> s == id)).toArray();
            Sampler sampler = new Sampler(Sampling.builder().temperature(1).build(), new int[0], 0, rule, List.of(), row.length);
            sampler.remember(ints(c.path("generated")));
            sampler.survivors(FloatBuffer.wrap(row));
            int[] ranked = IntStream.range(0, left.length).map(sampler::id).toArray();
            Sampler greedy = new Sampler(Sampling.greedy(), new int[0], 0, rule, List.of(), row.length);
            greedy.remember(ints(c.path("generated")));
            int chosen = greedy.next(FloatBuffer.wrap(row));
            if (!Arrays.equals(ranked, left) || left.length > 0 && chosen != left[0]) {
                differs.accept("after " + c.path("generated") + ": " + chosen + " is chosen, " + Arrays.toString(ranked)
                        + " lead instead of " + Arrays.toString(left));
            }
        }
        return golden.path("cases").size();
    }

    private static int[] ints(JsonNode array) {
        return array.valueStream().mapToInt(JsonNode::asInt).toArray();
    }
}
