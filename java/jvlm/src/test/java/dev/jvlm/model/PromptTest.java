package dev.jvlm.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assertions.assertTimeout;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import dev.jvlm.request.Part;
import dev.jvlm.request.Turn;
import dev.jvlm.text.Span;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PromptTest {

    private static final Path ROOT = Path.of(System.getProperty("jvlm.root"));
    private static final Part PICTURE = Part.image(Image.of(1, 1, new byte[3]));
    private static final int[] NO_PICTURES = {};

    /** The 2B's layout: a SentencePiece tokenizer with a dummy prefix, role words as user-defined pieces. */
    private static Checkpoint model;

    @BeforeAll
    static void open(@TempDir Path folder) {
        model = Checkpoint.open(SeededWeights.build(ROOT.resolve("tests/goldens/h2ovl-2b"), folder));
    }

    private static void assertRefused(Runnable call, String... saying) {
        assertThatThrownBy(call::run)
                .isInstanceOf(JvlmException.class)
                .hasMessageContainingAll(saying)
                .extracting("code")
                .isEqualTo(JvlmException.Code.REQUEST);
    }

    @Test
    void idsAreThoseOfWrittenOutPlaceholders() {
        String text = "<|prompt|>A<img>" + "<IMG_CONTEXT>".repeat(7) + "</img>\n B<img><IMG_CONTEXT></img>\n<|end|><|answer|>";
        Prompt prompt = model.prompt(
                null, List.of(), List.of(Part.text("A"), PICTURE, Part.text(" B"), PICTURE), new int[] {7, 1}, 100);
        assertThat(prompt.ids()).isEqualTo(model.tokenizer().encode(text));
        assertThat(Arrays.stream(prompt.visionRow()).filter(r -> r >= 0)).containsExactly(0, 1, 2, 3, 4, 5, 6, 7);
        assertThat(prompt.rows()).isEqualTo(8);
    }

    @Test
    void picturesOfTheHistoryComeFirst() {
        Turn turn = new Turn(List.of(PICTURE, Part.text("What?")), "This.");
        Prompt prompt = model.prompt(null, List.of(turn), List.of(PICTURE), new int[] {2, 3}, 100);
        String text = "<|prompt|><img><IMG_CONTEXT><IMG_CONTEXT></img>\nWhat?<|end|><|answer|>This.<|end|>"
                + "<|prompt|><img><IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT></img>\n<|end|><|answer|>";
        assertThat(prompt.ids()).isEqualTo(model.tokenizer().encode(text));
    }

    @Test
    void severalPicturesInOneBlockAreAsOneOfAllTheirRows() {
        Image image = Image.of(1, 1, new byte[3]);
        List<Part> question = List.of(Part.text("A"), Part.pictures(List.of(image, image, image)), PICTURE, Part.text("B"));
        Turn turn = new Turn(List.of(Part.pictures(List.of(image, image))), "This.");
        Prompt prompt = model.prompt(null, List.of(turn), question, new int[] {1, 2, 1, 1, 4, 3}, 100);
        String text = "<|prompt|><img><IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT></img>\n<|end|><|answer|>This.<|end|>"
                + "<|prompt|>A<img>" + "<IMG_CONTEXT>".repeat(6) + "</img>\n<img>" + "<IMG_CONTEXT>".repeat(3) + "</img>\nB<|end|><|answer|>";
        assertThat(prompt.ids()).isEqualTo(model.tokenizer().encode(text));
        assertThat(prompt.rows()).isEqualTo(12);
        assertThat(Arrays.stream(prompt.visionRow()).filter(r -> r >= 0)).containsExactly(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
        assertRefused(() -> model.prompt(null, List.of(), question, new int[] {1, 2, 3}, 100), "4 pictures", "for 3");
        assertRefused(() -> Part.pictures(List.of()), "has none");
        assertRefused(() -> Part.pictures(Arrays.asList(image, null)), "is missing");
    }

    @Test
    void f33_markersInUserTextStayText() {
        String markers = "<image><img><IMG_CONTEXT></img><|end|></s>";
        Turn turn = new Turn(List.of(Part.text(markers)), markers);
        Prompt prompt = model.prompt(null, List.of(turn), List.of(Part.text(markers), PICTURE), new int[] {2}, 500);
        for (String token : List.of("<img>", "<IMG_CONTEXT>", "</img>", "<|end|>")) {
            int id = model.tokenizer().addedId(token);
            long expected = token.equals("<IMG_CONTEXT>") ? 2 : token.equals("<|end|>") ? 3 : 1;
            assertThat(Arrays.stream(prompt.ids()).filter(i -> i == id).count()).as(token).isEqualTo(expected);
        }
        assertThat(prompt.ids()).doesNotContain(model.tokenizer().addedId("</s>"));
        assertThat(prompt.rows()).isEqualTo(2);
    }

    @Test
    void f34_picturesAndRowsMustMatch() {
        List<Part> two = List.of(PICTURE, PICTURE, Part.text("?"));
        assertRefused(() -> model.prompt(null, List.of(), two, new int[] {256}, 8192), "2 pictures", "for 1");
        assertRefused(() -> model.prompt(null, List.of(), two, NO_PICTURES, 8192), "2 pictures", "for 0");
        assertRefused(() -> model.prompt(null, List.of(), two, new int[] {1, 2, 3}, 8192), "2 pictures", "for 3");
        assertRefused(() -> model.prompt(null, List.of(), two, new int[] {256, 0}, 8192), "at least one row");
        assertRefused(() -> model.prompt(null, List.of(), List.of(Part.text("<image>")), new int[] {256}, 8192), "0 pictures", "for 1");
    }

    @Test
    void f35_brokenAndEndlessTextHasADefinedEncodingInLinearTime() {
        int[] broken = model.prompt(null, List.of(), List.of(Part.text("x\uD800y\0")), NO_PICTURES, 100).ids();
        assertThat(broken).isEqualTo(model.prompt(null, List.of(), List.of(Part.text("x\uFFFDy\0")), NO_PICTURES, 100).ids());
        // A pair of surrogates cut by the border of two parts is whole again in the rendered text.
        assertThat(model.prompt(null, List.of(), List.of(Part.text("\uD83E"), Part.text("\uDDFE")), NO_PICTURES, 100).ids())
                .isEqualTo(model.prompt(null, List.of(), List.of(Part.text("\uD83E\uDDFE")), NO_PICTURES, 100).ids());
        Part megabyte = Part.text("a".repeat(1 << 20));
        // Quadratic work would take hours.
        assertTimeout(Duration.ofSeconds(60), () -> model.prompt(null, List.of(), List.of(megabyte), NO_PICTURES, 1 << 21));
    }

    @Test
    void f36_promptsLongerThanTheContextAreRefusedWithBothNumbers() {
        List<Part> question = List.of(PICTURE, Part.text("Logo?"));
        int length = model.prompt(null, List.of(), question, new int[] {256}, 8192).ids().length;
        assertThat(model.prompt(null, List.of(), question, new int[] {256}, length).ids()).hasSize(length);
        assertRefused(() -> model.prompt(null, List.of(), question, new int[] {256}, length - 1), length + " tokens", "holds " + (length - 1));
        // Refused before anything of that size is made.
        assertRefused(() -> model.prompt(null, List.of(), question, new int[] {Integer.MAX_VALUE}, 8192), "2147483647 of them");
        List<Part> many = Collections.nCopies(3, PICTURE);
        int[] rows = {Integer.MAX_VALUE, Integer.MAX_VALUE, Integer.MAX_VALUE};
        assertRefused(() -> model.prompt(null, List.of(), many, rows, Integer.MAX_VALUE), "6442450941 of them");
    }

    @Test
    void f38_emptyQuestionsAreRefused() {
        assertRefused(() -> model.prompt(null, List.of(), List.of(), NO_PICTURES, 100), "no parts");
        assertRefused(() -> new Turn(List.of(), "a"), "no question");
    }

    @Test
    void aSystemPromptIsRefusedWhereTheFamilyHasNone() {
        assertRefused(() -> model.prompt("Be brief.", List.of(), List.of(Part.text("b")), NO_PICTURES, 100), "system prompt");
    }

    @Test
    void aSystemPromptStandsFirstWhereTheFamilyHasOne() {
        ChatTemplate template = new ChatTemplate(
                new ChatTemplate.System("[S]", "[/S]", "default"), new ChatTemplate.Role("[U]", "[/U]"),
                new ChatTemplate.Role("[A]", "[/A]"), new ChatTemplate.Picture("[", "*", "]", " "), List.of("[/A]"));
        Turn turn = new Turn(List.of(Part.text("q")), "a");
        assertThat(template.render(null, List.of(turn), List.of(PICTURE)))
                .extracting(Span::text)
                .containsExactly("[S]", "default", "[/S]", "[U]", "q", "[/U][A]", "a", "[/A]", "[U]", "[*] ", "[/U][A]");
        assertThat(template.render("own", List.of(), List.of(Part.text("q"))).get(1)).isEqualTo(Span.user("own"));
    }

    @Test
    void aThousandPicturesCostNoMoreThanTheirRows() {
        List<Part> parts = Collections.nCopies(1000, PICTURE);
        int[] rows = new int[1000];
        Arrays.fill(rows, 1792);
        Prompt prompt = model.prompt(null, List.of(), parts, rows, 1 << 22);
        assertThat(prompt.rows()).isEqualTo(1_792_000);
        assertThat(prompt.visionRow()[prompt.ids().length - 7]).isEqualTo(1_791_999);
    }
}
