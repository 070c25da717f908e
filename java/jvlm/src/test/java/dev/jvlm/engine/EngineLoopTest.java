package dev.jvlm.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.Manifest;
import dev.jvlm.request.Answer;
import dev.jvlm.request.FinishReason;
import dev.jvlm.request.Part;
import dev.jvlm.request.Request;
import dev.jvlm.request.Sampling;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ObjectNode;

/** What the engine does with weights that are not what they should be. */
class EngineLoopTest {
    private static final Path NANO = Path.of(System.getProperty("jvlm.root")).resolve("weights/nano");

    @TempDir
    Path folder;

    @BeforeEach
    void copyModel() throws IOException {
        try (Stream<Path> files = Files.list(NANO)) {
            for (Path file : files.filter(Files::isRegularFile).toList()) {
                Files.copy(file, folder.resolve(file.getFileName()));
            }
        }
    }

    @AfterEach
    void nothingLeaks() {
        assertThat(EngineLoop.live()).isZero();
    }

    private static EngineLoop open(Checkpoint checkpoint) {
        return EngineLoop.open(checkpoint, "cpu", "float32", false, 256, 2, 8, 0, (done, all) -> {});
    }

    @Test
    void loadingReportsItsProgressUpToTheEnd() {
        List<Long> done = new ArrayList<>();
        long[] whole = new long[1];
        Checkpoint checkpoint = Checkpoint.open(folder);
        EngineLoop.open(checkpoint, "cpu", "bf16", false, 256, 2, 8, 0, (now, all) -> {
                    done.add(now);
                    whole[0] = all;
                })
                .close();
        assertThat(whole[0]).isEqualTo(checkpoint.manifest().bytes());
        assertThat(done).isSorted().endsWith(whole[0]);
    }

    @Test
    void aProgressListenerThatThrowsLeavesNothingOpen() {
        RuntimeException mine = new RuntimeException("mine");
        assertThatThrownBy(() -> EngineLoop.open(Checkpoint.open(folder), "cpu", "bf16", false, 256, 2, 8, 0, (now, all) -> {
                    throw mine;
                }))
                .isSameAs(mine);
    }

    @Test
    void f56_weightsThatAreNoNumbersEndARequestWithAnError() throws IOException {
        Checkpoint checkpoint = Checkpoint.open(folder);
        Manifest.Piece norm = checkpoint.manifest().pieces().stream()
                .filter(p -> p.target().equals("decoder.norm.weight"))
                .findFirst()
                .orElseThrow();
        try (FileChannel file = FileChannel.open(Path.of(norm.file()), StandardOpenOption.WRITE)) {
            file.write(ByteBuffer.wrap(new byte[] {(byte) 0xc0, (byte) 0x7f}), norm.offset()); // a bfloat16 NaN
        }
        for (String[] device : new String[][] {{"cpu", "float32"}, {"emu", "bf16"}}) {
            try (EngineLoop loop = EngineLoop.open(checkpoint, device[0], device[1], false, 256, 2, 8, 0, (done, all) -> {})) {
                for (int logprobs : new int[] {0, 1}) {
                    for (float temperature : new float[] {0, 1}) {
                        Generation g = loop.prepare(Request.builder().text("Hi").logprobs(logprobs)
                                .sampling(Sampling.builder().temperature(temperature).build()).build(), piece -> {});
                        loop.submit(g);
                        assertThatThrownBy(() -> g.done().join())
                                .hasCauseInstanceOf(JvlmException.class)
                                .hasMessageContaining("no numbers")
                                .extracting(e -> ((JvlmException) e.getCause()).code())
                                .isEqualTo(JvlmException.Code.MODEL_FORMAT);
                    }
                }
            }
        }
    }

    /** A greedy answer must keep to it too, though the device's own choice, from which steps run ahead, knows nothing of it. */
    @Test
    void badWordsOfTheModelAreNeverGenerated() throws IOException {
        Image word = Image.decode(Files.readAllBytes(NANO.resolve("samples/00_word.png")));
        Request.Builder request = Request.builder().image(word).text("Read the text.").maxTokens(12).loopGuard(false);
        List<Integer> free;
        List<Integer> banned;
        try (EngineLoop loop = open(Checkpoint.open(folder))) {
            free = ids(loop, request.build());
            banned = ids(loop, request.sampling(Sampling.builder().bannedTokens(Set.of(free.get(0), free.get(2))).build()).build());
            assertThat(banned).doesNotContain(free.get(0), free.get(2)).hasSizeGreaterThan(4);
        }
        Path file = folder.resolve("generation_config.json");
        ObjectNode config = (ObjectNode) new ObjectMapper().readTree(file.toFile());
        config.putArray("bad_words_ids").add(config.arrayNode().add(free.get(0))).add(config.arrayNode().add(free.get(2)));
        Files.write(file, new ObjectMapper().writeValueAsBytes(config));
        try (EngineLoop loop = open(Checkpoint.open(folder))) {
            Request greedy = request.sampling(Sampling.greedy()).build();
            assertThat(ids(loop, greedy)).isEqualTo(banned);
            // Beside one that begins earlier and is longer: others' steps go on.
            Generation other = loop.prepare(Request.builder().text("abc").maxTokens(40).loopGuard(false).build(), piece -> {});
            loop.submit(other);
            assertThat(ids(loop, greedy)).isEqualTo(banned);
            assertThat(other.done().join().ids()).doesNotContain(free.get(0), free.get(2));
            // Through the sampler, whose processors know the bad words themselves.
            assertThat(ids(loop, request.minTokens(1).build())).isEqualTo(banned);
        }
    }

    private static List<Integer> ids(EngineLoop loop, Request request) {
        Generation g = loop.prepare(request, piece -> {});
        loop.submit(g);
        return g.done().join().ids();
    }

    @Test
    void aCompletionHasNothingAroundItsParts() {
        try (EngineLoop loop = open(Checkpoint.open(folder))) {
            Request.Builder request = Request.builder().text("Read the text.").maxTokens(4);
            Generation chat = loop.prepare(request.build(), piece -> {});
            Generation completion = loop.prepare(request.mode(Request.Mode.COMPLETION).build(), piece -> {});
            assertThat(completion.sequence.prompt).isEqualTo(Checkpoint.open(folder).tokenizer().encode("Read the text."));
            assertThat(chat.sequence.prompt.length).isGreaterThan(completion.sequence.prompt.length);
            loop.submit(completion);
            assertThat(completion.done().join().usage().completionTokens()).isPositive();
            assertThatThrownBy(() -> loop.prepare(request.splitImages(true).build(), piece -> {})).hasMessageContaining("splitImages");
        }
    }

    @Test
    void f61_aFileCutShortAfterItWasCheckedIsAnError() throws IOException {
        Checkpoint checkpoint = Checkpoint.open(folder);
        try (RandomAccessFile file = new RandomAccessFile(folder.resolve("model.safetensors").toFile(), "rw")) {
            file.setLength(file.length() / 2);
        }
        assertThatThrownBy(() -> open(checkpoint))
                .isInstanceOf(JvlmException.class)
                .hasMessageNotContaining(folder.toString())
                .extracting("code")
                .isEqualTo(JvlmException.Code.MODEL_FORMAT);
    }

    @Test
    void f61_aFileThatHasGoneIsAnError() throws IOException {
        Checkpoint checkpoint = Checkpoint.open(folder);
        Files.delete(folder.resolve("model.safetensors"));
        assertThatThrownBy(() -> open(checkpoint))
                .isInstanceOf(JvlmException.class)
                .extracting("code")
                .isEqualTo(JvlmException.Code.MODEL_FORMAT);
    }

    @Test
    void f63_aCardWithTooLittleMemoryIsToldWithBothNumbers() {
        // 60,000 sequences of 256 tokens: over the emulated card's 8 GiB.
        assertThatThrownBy(() -> EngineLoop.open(Checkpoint.open(folder), "emu", "bf16", false, 256, 60_000, 8, 0, (done, all) -> {}))
                .isInstanceOf(JvlmException.class)
                .hasMessageMatching("The model needs \\d+ MiB of the device's memory and \\d+ MiB are free; choose .*")
                .extracting("code")
                .isEqualTo(JvlmException.Code.CAPACITY);
        assertThat(EngineLoop.live()).isZero();
    }

    @Test
    void f62_whatADeviceCannotDoIsRefusedWithTheRemedy() {
        for (String[] wanted : new String[][] {{"emu", "float32", "bf16"}, {"cuda:0", "bf16", "driver"}, {"tpu", "bf16", "cuda:0"}}) {
            assertThatThrownBy(() -> EngineLoop.open(Checkpoint.open(folder), wanted[0], wanted[1], false, 256, 2, 8, 0, (done, all) -> {}))
                    .isInstanceOf(JvlmException.class)
                    .hasMessageContaining(wanted[2])
                    .hasMessageContaining("cpu")
                    .extracting("code")
                    .isEqualTo(JvlmException.Code.DEVICE);
        }
    }

    /** Answers with their probabilities, on the emulated card. */
    @Test
    void inDeterministicModeAnAnswerIsTheSameWhateverRunsBesideIt() {
        Request request = Request.builder().text("Read the text.").maxTokens(6).logprobs(2).loopGuard(false).build();
        try (EngineLoop loop = EngineLoop.open(Checkpoint.open(folder), "emu", "bf16", true, 256, 3, 8, 0, (done, all) -> {})) {
            Answer alone = answer(loop, request);
            List<Generation> others = List.of(
                    loop.prepare(Request.builder().text("abc").maxTokens(9).loopGuard(false).build(), piece -> {}),
                    loop.prepare(Request.builder().text("x".repeat(150)).maxTokens(3).loopGuard(false).build(), piece -> {}));
            others.forEach(loop::submit);
            assertThat(answer(loop, request).logprobs()).isEqualTo(alone.logprobs());
            others.forEach(g -> g.done().join());
        }
    }

    private static Answer answer(EngineLoop loop, Request request) {
        Generation g = loop.prepare(request, piece -> {});
        loop.submit(g);
        return g.done().join();
    }

    @Test
    void aPromptAsLongAsTheContextIsAnsweredWithOneToken() {
        try (EngineLoop loop = open(Checkpoint.open(folder))) {
            int empty = loop.prepare(Request.of(Part.text("x")), piece -> {}).sequence.prompt.length - 1;
            Generation g = loop.prepare(Request.of(Part.text("x".repeat(256 - empty))), piece -> {});
            loop.submit(g);
            assertThat(g.done().join().ids()).hasSize(1);
        }
    }

    /** Pictures, texts, sampling, cancellations and deadlines at random: each ends truthfully, and all pages and rows come back. */
    @Tag("full")
    @Test
    void randomTrafficLeavesNothingBehind() throws Exception {
        Random random = new Random(1);
        try (EngineLoop loop = EngineLoop.open(Checkpoint.open(folder), "cpu", "float32", false, 512, 3, 1000, 0, (done, all) -> {})) {
            int all = loop.freePages();
            List<Generation> started = new ArrayList<>();
            for (int i = 0; i < 150; i++) {
                Request.Builder request = Request.builder().maxTokens(1 + random.nextInt(40));
                for (int n = random.nextInt(3); n > 0; n--) {
                    int width = 1 + random.nextInt(300);
                    int height = 1 + random.nextInt(100);
                    request.image(Image.of(width, height, new byte[3 * width * height]));
                }
                request.text("Read the text.");
                if (random.nextInt(3) == 0) {
                    request.sampling(Sampling.builder().temperature(2).seed(i).build());
                }
                if (random.nextInt(8) == 0) {
                    request.deadline(Duration.ofMillis(1 + random.nextInt(50)));
                }
                Generation g = loop.prepare(request.build(), piece -> {});
                loop.submit(g);
                started.add(g);
                if (random.nextInt(4) == 0) {
                    started.get(random.nextInt(started.size())).cancel();
                    loop.wake();
                }
                if (random.nextInt(10) == 0) {
                    Thread.sleep(random.nextInt(30));
                }
            }
            for (Generation g : started) {
                Answer answer = g.done().get(60, TimeUnit.SECONDS);
                if (answer.finishReason() == FinishReason.LENGTH) {
                    assertThat(answer.ids()).hasSize(g.sequence.maxTokens);
                }
                assertThat(answer.usage().completionTokens()).isEqualTo(answer.ids().size()).isLessThanOrEqualTo(g.sequence.maxTokens);
            }
            assertThat(started.stream().map(g -> g.done().join().finishReason())).contains(FinishReason.END, FinishReason.CANCELLED);
            long until = System.nanoTime() + 5_000_000_000L; // An answer is told before its pages are given back.
            while (loop.freePages() < all && System.nanoTime() < until) {
                Thread.sleep(1);
            }
            assertThat(loop.freePages()).isEqualTo(all);
        }
    }
}
