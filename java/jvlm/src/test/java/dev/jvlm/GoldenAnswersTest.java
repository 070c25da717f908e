package dev.jvlm;

import static org.assertj.core.api.Assertions.assertThat;

import dev.jvlm.engine.EngineLoop;
import dev.jvlm.image.Decoding;
import dev.jvlm.image.Image;
import dev.jvlm.model.SeededWeights;
import dev.jvlm.request.Answer;
import dev.jvlm.request.FinishReason;
import dev.jvlm.request.Request;
import dev.jvlm.suite.GoldenCase;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/**
 * The recorded answers of every family through the public API: settings of a request, prompts in chunks, pictures of several requests in
 * turn, sequences of different lengths in one step. While some answers grow, they pass the limit of their model's rope, beside others that stay below.
 */
class GoldenAnswersTest {
    private static final Path GOLDENS = Path.of(System.getProperty("jvlm.root"), "tests/goldens");

    /** Cases of prompts up to this length. */
    private static final int LONGEST = 1500;

    @Tag("full")
    @ParameterizedTest
    @CsvSource({"h2ovl-0.8b, 5", "idefics2, 13", "internvl-chat-v1-5, 5", "mini-internvl-2b-v1-5, 1"})
    void answersOfTheOthersAreTheReferences(String family, int count, @TempDir Path folder) throws IOException {
        answersAreTheReferences(family, count, folder);
    }

    @ParameterizedTest
    @CsvSource({"h2ovl-2b, 6", "mini-internvl-4b-v1-5, 2"})
    void answersAreTheReferences(String family, int count, @TempDir Path folder) throws IOException {
        SeededWeights.build(GOLDENS.resolve(family), folder);
        List<JsonNode> cases = new ObjectMapper().readTree(GOLDENS.resolve(family).resolve("golden.json").toFile()).path("cases").valueStream()
                .filter(c -> c.path("length").asInt() <= LONGEST)
                .toList();
        assertThat(cases).hasSize(count);
        List<Request> requests = new ArrayList<>(List.of(Request.builder().text("Wie hoch ist der Gesamtbetrag?").maxTokens(60).loopGuard(false).build()));
        for (JsonNode c : cases) {
            requests.add(request(c));
        }
        try (Jvlm vlm = Jvlm.open(folder, Options.DEFAULT.withDevice("cpu").withPrecision(Options.Precision.FLOAT32).withContext(LONGEST + 100))) {
            List<Answer> answers = vlm.generateAll(requests);
            for (int i = 0; i < count; i++) {
                JsonNode c = cases.get(i);
                Answer answer = answers.get(i + 1);
                String as = family + " " + c.path("prompt") + " " + c.path("patch_rule");
                List<Integer> ids = c.path("greedy_ids").valueStream().map(JsonNode::asInt).toList();
                if (c.path("stop").asString().equals("tie")) { // What follows is anybody's.
                    assertThat(answer.ids()).as(as).startsWith(ids.toArray(Integer[]::new));
                } else {
                    assertThat(answer.ids()).as(as).isEqualTo(ids);
                }
                assertThat(answer.finishReason()).as(as).isEqualTo(c.path("stop").asString().equals("eos") ? FinishReason.END : FinishReason.LENGTH);
                assertThat(answer.usage().promptTokens()).as(as).isEqualTo(c.path("length").asInt());
            }
        }
        assertThat(EngineLoop.live()).isZero();
    }

    private static Request request(JsonNode c) throws IOException {
        List<Image> pictures = new ArrayList<>();
        for (String file : GoldenCase.pictures(c)) {
            pictures.add(Image.decode(Files.readAllBytes(GOLDENS.resolve("images").resolve(file)), Decoding.REFERENCE));
        }
        GoldenCase conversation = GoldenCase.of(c, pictures);
        Request.Builder request = Request.builder().history(conversation.history()).maxTokens(c.path("max_new").asInt()).loopGuard(false)
                .system(c.path("system").asString(null));
        conversation.question().forEach(request::part);
        if (c.has("max_tiles")) {
            request.maxTiles(c.path("max_tiles").asInt()).msac(c.path("msac").asBoolean());
        } else {
            request.splitImages(c.path("split").asBoolean()).partialPatches(c.path("patch_rule").asString().equals("any"));
        }
        return (c.path("base").asBoolean() ? request.mode(Request.Mode.COMPLETION) : request).build();
    }
}
