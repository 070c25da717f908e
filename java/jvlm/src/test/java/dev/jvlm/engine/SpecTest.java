package dev.jvlm.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.error.JvlmException;
import dev.jvlm.model.Blueprint;
import java.nio.file.Path;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** What native code makes of the text that Java sends it: which keys there are depends on kinds, and none is passed over. */
class SpecTest {
    private static final Path CONFIGS = Path.of(System.getProperty("jvlm.root"), "tests/configs");
    private static final Blueprint H2OVL = Blueprint.read(CONFIGS.resolve("h2ovl-mississippi-800m.json"));
    private static final String PIXEL_SHUFFLE = H2OVL.spec().toText();
    private static final String PERCEIVER = Blueprint.read(CONFIGS.resolve("idefics2-8b.json")).spec().toText();

    private static void plan(String spec) {
        Engine.plan("cpu", spec, Limits.of(H2OVL.spec(), H2OVL.tiling(), "cpu", "bf16", false, 1024, 1));
    }

    private static void assertRefused(String spec, JvlmException.Code code, String saying) {
        assertThatThrownBy(() -> plan(spec))
                .as(saying)
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(code))
                .hasMessageContaining(saying);
    }

    private static Set<String> keys(String spec) {
        return spec.lines().map(line -> line.substring(0, line.indexOf(' '))).collect(Collectors.toCollection(TreeSet::new));
    }

    @Test
    void everyKeyOfAKindMustBeThereOnce() {
        for (String spec : new String[] {PIXEL_SHUFFLE, PERCEIVER}) {
            for (String key : keys(spec)) {
                String without = spec.lines().filter(line -> !line.startsWith(key + " ")).collect(Collectors.joining("\n", "", "\n"));
                assertRefused(without, JvlmException.Code.MODEL_FORMAT, "'" + key + "' is missing");
                assertRefused(spec + key + " 1\n", JvlmException.Code.MODEL_FORMAT, "'" + key + "' is given twice");
            }
        }
        plan(PIXEL_SHUFFLE);
        plan(PERCEIVER);
    }

    @Test
    void keysOfTheOtherKindAreUnknown() {
        Set<String> perceivers = keys(PERCEIVER);
        perceivers.removeAll(keys(PIXEL_SHUFFLE));
        assertThat(perceivers).hasSize(8).allMatch(key -> key.startsWith("connector."));
        for (String key : perceivers) {
            assertRefused(PIXEL_SHUFFLE + key + " 16\n", JvlmException.Code.MODEL_FORMAT, "'" + key + "' is no key of such a model");
        }
        assertRefused(PERCEIVER + "vision.mystery 1\n", JvlmException.Code.MODEL_FORMAT, "'vision.mystery' is no key of such a model");
    }

    @Test
    void kindsAndNumbersThatCannotBeAreRefused() {
        assertRefused(PERCEIVER.replace("kind perceiver", "kind resampler"), JvlmException.Code.MODEL_UNSUPPORTED, "pixel_shuffle and perceiver");
        assertRefused(PERCEIVER.replace("kv_heads 4", "kv_heads 5"), JvlmException.Code.MODEL_FORMAT, "no multiple of connector.kv_heads");
        assertRefused(PERCEIVER.replace("image 980", "image 981"), JvlmException.Code.MODEL_FORMAT, "whole number of patches");
        assertRefused(PIXEL_SHUFFLE.replace("image 448", "image 434"), JvlmException.Code.MODEL_FORMAT, "even number of patches");
        assertRefused(PIXEL_SHUFFLE.replace("class_token 1", "class_token 2"), JvlmException.Code.MODEL_FORMAT, "vision.class_token");
    }
}
