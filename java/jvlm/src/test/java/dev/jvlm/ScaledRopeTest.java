package dev.jvlm;

import static org.assertj.core.api.Assertions.assertThat;

import dev.jvlm.engine.EngineLoop;
import dev.jvlm.image.Decoding;
import dev.jvlm.image.Image;
import dev.jvlm.model.SeededWeights;
import dev.jvlm.request.Answer;
import dev.jvlm.request.Request;
import dev.jvlm.suite.GoldenCase;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** Models whose rope goes by the sequence's length, through the public API: prompts in chunks, and sequences of different lengths in one step. */
class ScaledRopeTest {

    private static final Path GOLDENS = Path.of(System.getProperty("jvlm.root"), "tests/goldens");

    /** Cases of up to five tiles; while one answers it passes its rope's limit, beside sequences that stay below. */
    @ParameterizedTest
    @CsvSource({"mini-internvl-2b-v1-5, 1", "mini-internvl-4b-v1-5, 2"})
    void answersAreTheReferencesWhateverRunsBeside(String family, int cases, @TempDir Path folder) throws IOException {
        SeededWeights.build(GOLDENS.resolve(family), folder);
        List<Request> requests = new ArrayList<>();
        List<List<Integer>> expected = new ArrayList<>();
        for (JsonNode c : new ObjectMapper().readTree(GOLDENS.resolve(family).resolve("golden.json").toFile()).path("cases")) {
            if (c.path("length").asInt() > 1500) {
                continue;
            }
            List<Image> pictures = new ArrayList<>();
            for (JsonNode file : c.path("images")) {
                pictures.add(Image.decode(Files.readAllBytes(GOLDENS.resolve("images").resolve(file.asString())), Decoding.REFERENCE));
            }
            Request.Builder request = Request.builder().maxTiles(c.path("max_tiles").asInt()).maxTokens(c.path("max_new").asInt()).loopGuard(false);
            GoldenCase.of(c, pictures).question().forEach(request::part);
            requests.add(request.build());
            expected.add(c.path("greedy_ids").valueStream().map(JsonNode::asInt).toList());
        }
        assertThat(expected).hasSize(cases);
        requests.add(0, Request.builder().text("Wie hoch ist der Gesamtbetrag?").maxTokens(60).loopGuard(false).build());
        try (Jvlm vlm = Jvlm.open(folder, Options.DEFAULT.withDevice("cpu").withPrecision(Options.Precision.FLOAT32).withContext(1600))) {
            List<Answer> answers = vlm.generateAll(requests);
            assertThat(answers.subList(1, answers.size())).extracting(Answer::ids).isEqualTo(expected);
        }
        assertThat(EngineLoop.live()).isZero();
    }
}
