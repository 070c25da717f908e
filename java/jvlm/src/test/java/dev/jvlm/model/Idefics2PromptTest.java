package dev.jvlm.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import dev.jvlm.request.Part;
import dev.jvlm.request.Turn;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ObjectNode;

/** Idefics2's way to write a conversation down, and the base model's, which has none. */
class Idefics2PromptTest {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Part PICTURE = Part.image(Image.of(1, 1, new byte[3]));
    private static final String FAKE = "<fake_token_around_image>";
    private static final String ROWS = "<image>".repeat(64);

    @TempDir
    static Path built;

    @TempDir
    Path folder;

    private static Checkpoint model;

    @BeforeAll
    static void open() {
        model = Checkpoint.open(SeededWeights.build(Path.of(System.getProperty("jvlm.root"), "tests/goldens/idefics2"), built));
    }

    @BeforeEach
    void copy() throws IOException {
        for (Path file : Files.list(built).toList()) {
            Path to = folder.resolve(file.getFileName());
            if (file.toString().endsWith(".safetensors")) {
                Files.createLink(to, file);
            } else {
                Files.copy(file, to);
            }
        }
    }

    private void edit(String file, Consumer<ObjectNode> change) throws IOException {
        ObjectNode root = (ObjectNode) JSON.readTree(folder.resolve(file).toFile());
        change.accept(root);
        Files.write(folder.resolve(file), JSON.writeValueAsBytes(root));
    }

    private static void assertIds(Prompt prompt, String text) {
        assertThat(prompt.ids()).isEqualTo(model.tokenizer().encode(text));
        int image = model.tokenizer().addedId("<image>");
        int next = 0;
        for (int i = 0; i < prompt.ids().length; i++) {
            assertThat(prompt.visionRow()[i]).as("position " + i).isEqualTo(prompt.ids()[i] == image ? next++ : -1);
        }
        assertThat(prompt.rows()).isEqualTo(next);
    }

    @Test
    void aPictureIsEnclosedAndOneTokenStandsBetweenTwo() {
        assertIds(model.prompt(null, List.of(), List.of(PICTURE, Part.text("Hi")), new int[] {64}, 999),
                "User:" + FAKE + ROWS + FAKE + "Hi<end_of_utterance>\nAssistant:");
        String five = FAKE + (ROWS + FAKE).repeat(5);
        assertIds(model.prompt(null, List.of(), List.of(Part.text("Hi "), PICTURE), new int[] {320}, 999),
                "User: Hi " + five + "<end_of_utterance>\nAssistant:");
        // Five, one and five that touch, also across a text without characters; then one apart.
        assertIds(
                model.prompt(null, List.of(), List.of(PICTURE, PICTURE, Part.text(""), PICTURE, Part.text("\n"), PICTURE),
                        new int[] {320, 64, 320, 64}, 999),
                "User:" + FAKE + (ROWS + FAKE).repeat(11) + "\n" + FAKE + ROWS + FAKE + "<end_of_utterance>\nAssistant:");
    }

    @Test
    void turnsFollowEachOther() {
        List<Turn> history = List.of(
                new Turn(List.of(Part.text("A")), "B"), new Turn(List.of(PICTURE), ""), new Turn(List.of(PICTURE, Part.text("C")), " D"));
        assertIds(model.prompt(null, history, List.of(Part.text("E")), new int[] {64, 64}, 999),
                "User: A<end_of_utterance>\nAssistant: B<end_of_utterance>\nUser:" + FAKE + ROWS + FAKE
                        + "<end_of_utterance>\nAssistant: <end_of_utterance>\nUser:" + FAKE + ROWS + FAKE
                        + "C<end_of_utterance>\nAssistant:  D<end_of_utterance>\nUser: E<end_of_utterance>\nAssistant:");
    }

    @Test
    void aCompletionIsItsPartsAlone() {
        assertIds(model.completion(List.of(PICTURE, Part.text("In this image")), new int[] {64}, 999), FAKE + ROWS + FAKE + "In this image");
        assertIds(model.completion(List.of(Part.text("Once")), new int[0], 999), "Once");
        assertThatThrownBy(() -> model.completion(List.of(), new int[0], 999)).hasMessageContaining("no parts");
    }

    @Test
    void f33_markersInUserTextStayText() {
        String markers = "<image>" + FAKE + FAKE + "<end_of_utterance></s><s>";
        for (Prompt prompt : List.of(
                model.prompt(null, List.of(new Turn(List.of(Part.text(markers)), markers)), List.of(Part.text(markers), PICTURE), new int[] {64},
                        9999),
                model.completion(List.of(Part.text(markers), PICTURE), new int[] {64}, 9999))) {
            assertThat(prompt.rows()).isEqualTo(64);
            assertThat(count(prompt, "<image>")).isEqualTo(64);
            assertThat(count(prompt, FAKE)).isEqualTo(2);
            assertThat(count(prompt, "<s>")).isEqualTo(1);
            assertThat(count(prompt, "</s>")).isZero();
            assertThat(count(prompt, "<end_of_utterance>")).isIn(0L, 3L);
        }
    }

    private static long count(Prompt prompt, String token) {
        int id = model.tokenizer().addedId(token);
        assertThat(id).isNotNegative();
        return Arrays.stream(prompt.ids()).filter(i -> i == id).count();
    }

    @Test
    void f36_theContextCountsTheTokensBetweenTilesToo() {
        List<Part> parts = List.of(PICTURE, PICTURE);
        int length = model.completion(parts, new int[] {320, 320}, 9999).ids().length;
        assertThat(length).isEqualTo(1 + 10 * 64 + 11);
        assertThat(model.completion(parts, new int[] {320, 320}, length).ids()).hasSize(length);
        assertThatThrownBy(() -> model.completion(parts, new int[] {320, 320}, length - 1)).hasMessageContainingAll("has 652 tokens", "holds 651");
        int[] most = {Integer.MAX_VALUE, Integer.MAX_VALUE, Integer.MAX_VALUE};
        assertThatThrownBy(() -> model.completion(Collections.nCopies(3, PICTURE), most, Integer.MAX_VALUE))
                .hasMessageContaining("6442450941 of them");
    }

    @Test
    void thereIsNoSystemPrompt() {
        assertThatThrownBy(() -> model.prompt("Be brief.", List.of(), List.of(Part.text("b")), new int[0], 99))
                .hasMessageContaining("system prompt");
    }

    @Test
    void stopAndBannedTokensAreTheModels() {
        assertThat(model.stopIds()).containsExactly(2, 472);
        assertThat(model.bannedIds()).containsExactly(470, 471);
        assertThat(model.notes()).isEmpty();
        assertThat(model.blueprint().tiling()).isEqualTo(new Tiling.Aspect(980, 378, true));
    }

    /** As the base model is published: its tokenizer lacks the token that ends an utterance. */
    private Checkpoint base() throws IOException {
        edit("added_tokens.json", json -> json.remove("<end_of_utterance>"));
        edit("tokenizer_config.json", json -> ((ObjectNode) json.path("added_tokens_decoder")).remove("472"));
        edit("generation_config.json", json -> json.put("eos_token_id", 2).remove("bad_words_ids"));
        return Checkpoint.open(folder);
    }

    @Test
    void theBaseModelGoesOnFromTheQuestionAsItIs() throws IOException {
        Checkpoint base = base();
        assertThat(base.stopIds()).containsExactly(2);
        assertThat(base.bannedIds()).isEmpty();
        assertThat(base.notes()).singleElement().asString().contains("<end_of_utterance>", "base model");
        List<Part> parts = List.of(PICTURE, Part.text("In this image, "));
        int[] rows = {64};
        assertThat(base.prompt(null, List.of(), parts, rows, 999).ids())
                .isEqualTo(base.completion(parts, rows, 999).ids())
                .isEqualTo(base.tokenizer().encode(FAKE + ROWS + FAKE + "In this image, "));
        Turn turn = new Turn(List.of(Part.text("q")), "a");
        assertThatThrownBy(() -> base.prompt(null, List.of(turn), parts, rows, 999))
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.REQUEST))
                .hasMessageContaining("not trained to chat");
        assertThatThrownBy(() -> base.prompt("Be brief.", List.of(), parts, rows, 999)).hasMessageContaining("system prompt");
    }

    @Test
    void aPictureTokenThatTheTokenizerDoesNotKnowIsRefused() throws IOException {
        edit("config.json", json -> json.put("image_token_id", 470));
        assertRefused(JvlmException.Code.MODEL_FORMAT, "belongs to another model", "<image> has the id 471, config.json says 470");
    }

    @Test
    void stopTokensThatContradictEachOtherAreRefused() throws IOException {
        edit("generation_config.json", json -> json.put("eos_token_id", 5));
        assertRefused(JvlmException.Code.MODEL_FORMAT, "generation_config.json ends answers with the ids [5]");
    }

    @Test
    void bannedWordsOfSeveralTokensAreRefused() throws IOException {
        for (String words : List.of("[[470, 471]]", "[470]", "5", "[[473]]", "[[-1]]", "[[\"x\"]]", "[[]]")) {
            edit("generation_config.json", json -> json.set("bad_words_ids", JSON.readTree(words)));
            assertRefused(JvlmException.Code.MODEL_UNSUPPORTED, "generation_config.json: bad_words_ids holds ", "0 to 472");
        }
        edit("generation_config.json", json -> json.putNull("bad_words_ids"));
        assertThat(Checkpoint.open(folder).bannedIds()).isEmpty();
    }

    private void assertRefused(JvlmException.Code code, String... saying) {
        assertThatThrownBy(() -> Checkpoint.open(folder))
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(code))
                .hasMessageContainingAll(saying);
    }
}
