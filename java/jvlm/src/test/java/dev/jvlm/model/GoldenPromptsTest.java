package dev.jvlm.model;

import static dev.jvlm.suite.GoldenCase.ints;
import static dev.jvlm.suite.GoldenCase.sha256;
import static dev.jvlm.suite.GoldenCase.unrolled;
import static org.assertj.core.api.Assertions.assertThat;

import dev.jvlm.image.Image;
import dev.jvlm.request.Part;
import dev.jvlm.suite.GoldenCase;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** Prompts, tokens and decoded text against what the reference implementations recorded. */
class GoldenPromptsTest {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path ROOT = Path.of(System.getProperty("jvlm.root"));
    private static final Image PICTURE = Image.of(1, 1, new byte[3]);

    @TempDir
    Path folder;

    @ParameterizedTest
    @CsvSource({"h2ovl-0.8b, 82, 8", "h2ovl-2b, 59, 11", "internvl-chat-v1-5, 53, 9", "mini-internvl-2b-v1-5, 55, 3",
        "mini-internvl-4b-v1-5, 53, 4", "idefics2, 99, 13"})
    void promptsTokensAndTextAreTheReferences(String family, int tensors, int cases) {
        Path golden = ROOT.resolve("tests/goldens").resolve(family);
        Checkpoint checkpoint = Checkpoint.open(SeededWeights.build(golden, folder));
        JsonNode expected = JSON.readTree(golden.resolve("golden.json").toFile());

        assertThat(checkpoint.notes()).isEmpty();
        assertThat(checkpoint.blueprint().weights().stream().map(Weight::name).distinct())
                .hasSize(tensors)
                .containsExactlyInAnyOrderElementsOf(strings(expected.path("tensors")));
        assertThat(checkpoint.blueprint().parameters()).isEqualTo(expected.path("parameters").asLong());

        for (JsonNode text : expected.path("tokenizer")) {
            assertThat(checkpoint.tokenizer().encode(text.path("text").asString()))
                    .as(text.path("text").toString())
                    .isEqualTo(ints(text.path("ids")));
        }
        assertThat(expected.path("cases").size()).isEqualTo(cases);
        for (JsonNode c : expected.path("cases")) {
            int perTile = checkpoint.blueprint().spec().rowsPerTile();
            int[] rows = c.has("tiles")
                    ? Arrays.stream(ints(c.path("tiles"))).map(t -> t * perTile).toArray()
                    : GoldenCase.pictures(c).stream().mapToInt(file -> (c.path("split").asBoolean() ? 5 : 1) * perTile).toArray();
            GoldenCase conversation = GoldenCase.of(c, Collections.nCopies(rows.length, PICTURE));
            Prompt prompt = conversation.prompt(c, checkpoint, rows);

            String as = family + " " + c.path("prompt");
            assertThat(prompt.ids()).as(as).isEqualTo(GoldenCase.ids(c)).hasSize(c.path("length").asInt());
            assertThat(sha256(prompt.ids())).as(as).isEqualTo(c.path("ids_sha256").asString(sha256(GoldenCase.ids(c))));
            assertThat(prompt.rows()).as(as).isEqualTo(Arrays.stream(rows).sum());
            assertVisionRowsCountUp(prompt, checkpoint.tokenizer().addedId(checkpoint.blueprint().template().picture().row()));

            int[] greedy = ints(c.path("greedy_ids"));
            assertThat(checkpoint.tokenizer().decode(greedy)).as(as).isEqualTo(c.path("greedy_text").asString());
        }
    }

    @Test
    void nanoPromptsAndTextAreTheReferences() {
        Path nano = ROOT.resolve("weights/nano");
        Checkpoint checkpoint = Checkpoint.open(nano);
        assertThat(checkpoint.notes()).isEmpty();
        assertThat(checkpoint.blueprint().parameters()).isEqualTo(2_625_984);
        assertThat(checkpoint.blueprint().tiling()).isEqualTo(new Tiling.Grid(56, 1, 12, true, false));
        assertThat(checkpoint.ocrQuestion()).isEqualTo("Read the text.");
        assertThat(checkpoint.stopIds()).containsExactly(98);
        JsonNode samples = JSON.readTree(nano.resolve("samples/samples.json").toFile()).path("samples");
        for (JsonNode sample : samples) {
            int[] rows = {sample.path("tiles").asInt() * checkpoint.blueprint().spec().rowsPerTile()};
            List<Part> question = List.of(Part.image(PICTURE), Part.text(checkpoint.ocrQuestion()));
            Prompt prompt = checkpoint.prompt(null, List.of(), question, rows, 1024);
            String as = sample.path("file").asString();
            assertThat(prompt.ids())
                    .as(as)
                    .isEqualTo(unrolled(sample.path("prompt_ids_rle")))
                    .hasSize(sample.path("prompt_length").asInt());
            assertThat(checkpoint.tokenizer().decode(ints(sample.path("greedy_ids"))))
                    .as(as)
                    .isEqualTo(sample.path("greedy").asString());
        }
        assertThat(samples.size()).isEqualTo(24);
    }

    private static void assertVisionRowsCountUp(Prompt prompt, int rowToken) {
        int next = 0;
        for (int i = 0; i < prompt.ids().length; i++) {
            assertThat(prompt.visionRow()[i]).as("position " + i).isEqualTo(prompt.ids()[i] == rowToken ? next++ : -1);
        }
        assertThat(next).isEqualTo(prompt.rows());
    }

    private static List<String> strings(JsonNode array) {
        return array.valueStream().map(JsonNode::asString).toList();
    }
}
