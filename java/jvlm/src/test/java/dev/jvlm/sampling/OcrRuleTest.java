package dev.jvlm.sampling;

import static org.assertj.core.api.Assertions.assertThat;

import dev.jvlm.request.Sampling;
import dev.jvlm.text.Tokenizer;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** Against what H2OVL's own code did with the Mistral vocabulary. */
class OcrRuleTest {

    private static final Path ROOT = Path.of(System.getProperty("jvlm.root"), "tests");
    private static final JsonNode GOLDEN = new ObjectMapper().readTree(ROOT.resolve("goldens/sampling/ocr_rule.json").toFile());

    @TempDir
    static Path folder;

    private static Tokenizer tokenizer;
    private static OcrRule rule;

    @BeforeAll
    static void load() throws IOException {
        // Only the SentencePiece model; the json beside it holds added tokens.
        Files.copy(ROOT.resolve("tokenizers").resolve(GOLDEN.path("vocabulary").asString()), folder.resolve("tokenizer.model"));
        tokenizer = Tokenizer.load(folder);
        rule = new OcrRule(tokenizer);
    }

    private static int[] ints(JsonNode array) {
        return array.valueStream().mapToInt(JsonNode::asInt).toArray();
    }

    @Test
    void blankIdsAreTheReferences() {
        int[] blank = IntStream.range(0, tokenizer.size()).filter(rule::isBlank).toArray();
        assertThat(blank).isEqualTo(ints(GOLDEN.path("whitespace_ids"))).hasSize(29);
    }

    @Test
    void suppressesWhatTheReferenceSuppresses() {
        JsonNode cases = GOLDEN.path("cases");
        int suppressing = 0;
        for (JsonNode c : cases) {
            int[] generated = ints(c.path("generated"));
            int[] best = ints(c.path("best"));
            float[] row = new float[tokenizer.size()];
            java.util.Arrays.fill(row, -100);
            for (int i = 0; i < best.length; i++) {
                row[best[i]] = 50 - i;
            }
            // The likeliest that is not suppressed must be chosen, and only the suppressed ones may have lost their place.
            int[] suppressed = ints(c.path("suppressed"));
            int[] left = IntStream.of(best).filter(id -> IntStream.of(suppressed).noneMatch(s -> s == id)).toArray();
            Sampler sampler = new Sampler(Sampling.builder().temperature(1).build(), new int[0], 0, rule, row.length);
            sampler.remember(generated);
            sampler.survivors(FloatBuffer.wrap(row));
            int[] ranked = IntStream.range(0, left.length).map(sampler::id).toArray();
            assertThat(ranked).as(c.toString()).isEqualTo(left);

            Sampler greedy = new Sampler(Sampling.greedy(), new int[0], 0, rule, row.length);
            greedy.remember(generated);
            int chosen = greedy.next(FloatBuffer.wrap(row));
            if (left.length > 0) {
                assertThat(chosen).as(c.toString()).isEqualTo(left[0]);
            }
            suppressing += suppressed.length > 0 ? 1 : 0;
        }
        assertThat(cases.size()).isEqualTo(60);
        assertThat(suppressing).isGreaterThan(5);
    }
}
