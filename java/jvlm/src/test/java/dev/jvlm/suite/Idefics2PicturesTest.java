package dev.jvlm.suite;

import static org.assertj.core.api.Assertions.assertThat;

import dev.jvlm.Options.Precision;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.SeededWeights;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.databind.node.StringNode;

/** Pixels, sizes, patches and prompts of Idefics2's cases, under both rules for patches, against what the reference made. */
class Idefics2PicturesTest {
    private static final Path GOLDENS = Path.of(System.getProperty("jvlm.root"), "tests/goldens");
    private static final Path FAMILY = GOLDENS.resolve("idefics2");

    private static Checkpoint checkpoint;

    @BeforeAll
    static void open(@TempDir Path folder) {
        checkpoint = Checkpoint.open(SeededWeights.build(FAMILY, folder));
    }

    private static String differences(JsonNode cases) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        Differences differences = new Differences(new PrintStream(out, true, StandardCharsets.UTF_8));
        FamilyGoldens goldens =
                new FamilyGoldens(FAMILY, GOLDENS.resolve("images"), checkpoint, "cpu", Precision.FLOAT32, differences);
        for (int i = 0; i < cases.size(); i++) {
            Forced forced = goldens.prepare("case " + i, cases.get(i)).forced();
            // What the reference fills pictures up to is the largest height and width of them all.
            int[] filled = cases.get(i).has("pixel_shape") ? GoldenCase.ints(cases.get(i).path("pixel_shape")) : new int[4];
            differences.same("case " + i + " pictures", forced.tiles().count(), filled[0]);
            differences.same("case " + i + " height", forced.tiles().shapes().stream().mapToInt(s -> s.height()).max().orElse(0), filled[2]);
            differences.same("case " + i + " width", forced.tiles().shapes().stream().mapToInt(s -> s.width()).max().orElse(0), filled[3]);
        }
        return out.toString(StandardCharsets.UTF_8);
    }

    private static JsonNode cases() {
        return new ObjectMapper().readTree(FAMILY.resolve("golden.json").toFile()).path("cases");
    }

    @Test
    void allCasesAreTheReferences() throws IOException {
        assertThat(cases().size()).isEqualTo(13);
        assertThat(differences(cases())).isEmpty();
    }

    @Test
    void whatIsAlteredIsNamed() throws IOException {
        ArrayNode cases = (ArrayNode) cases();
        ((ObjectNode) cases.get(2)).put("patch_rule", "all");
        ((ObjectNode) cases.get(4)).put("split", true);
        ((ArrayNode) cases.get(5).path("pixels_sha256")).set(7, StringNode.valueOf("0".repeat(64)));
        ((ObjectNode) cases.get(8)).put("base", false);
        String found = differences(cases);
        assertThat(found)
                .contains("case 2 rows and columns")
                .contains("case 4 heights and widths")
                .contains("case 4 pictures")
                .contains("case 5 picture 1 (square.png) tile 2")
                .contains("case 8 prompt")
                .doesNotContain("case 0", "case 1 ", "case 3", "case 6", "case 7", "case 9", "case 10", "case 11", "case 12");
    }
}
