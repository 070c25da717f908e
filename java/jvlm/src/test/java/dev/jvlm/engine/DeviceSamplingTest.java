package dev.jvlm.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.Jvlm;
import dev.jvlm.Options;
import dev.jvlm.error.JvlmException;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.request.Answer;
import dev.jvlm.request.FinishReason;
import dev.jvlm.request.Request;
import dev.jvlm.request.Sampling;
import dev.jvlm.sampling.DeviceSampling;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.node.ObjectNode;

/**
 * Where the device chooses, answers are those of Java's sampler, which chooses the same requests' tokens, on the same device, when their
 * log-probabilities are wanted. In deterministic mode both see the same logits to the last bit, whatever runs beside them. The emulated card;
 * {@code folder} holds a model with bad words.
 */
class DeviceSamplingTest {
    private static final Path NANO = Path.of(System.getProperty("jvlm.root")).resolve("weights/nano");
    private static final int END = 98;
    /** What a greedy answer to our question would begin with, and what would often be drawn. */
    private static final List<Integer> BAD_WORDS = List.of(76, 14);

    private static final Options OPTIONS =
            Options.DEFAULT.withDevice("emu").withPrecision(Options.Precision.BF16).withContext(256).withSequences(3);

    @TempDir
    private static Path folder;

    @BeforeAll
    static void copyModel() throws IOException {
        try (Stream<Path> files = Files.list(NANO)) {
            for (Path file : files.filter(Files::isRegularFile).toList()) {
                Files.copy(file, folder.resolve(file.getFileName()));
            }
        }
        Path file = folder.resolve("generation_config.json");
        ObjectNode config = (ObjectNode) new ObjectMapper().readTree(file.toFile());
        BAD_WORDS.forEach(id -> config.withArray("bad_words_ids").add(config.arrayNode().add(id)));
        Files.write(file, new ObjectMapper().writeValueAsBytes(config));
    }

    @AfterEach
    void nothingLeaks() {
        assertThat(EngineLoop.live()).isZero();
    }

    private static Request.Builder request(Sampling.Builder sampling) {
        return Request.builder().text("Read the text.").sampling(sampling.build()).loopGuard(false);
    }

    private static Sampling.Builder hot(long seed) {
        return Sampling.builder().temperature(3).seed(seed);
    }

    /** Everything that a device can do, and a greedy answer, whose steps are taken back where a bad word is the likeliest. */
    private static List<Request.Builder> requests(long seed, int maxTokens) {
        Sampling.Builder penalties = Sampling.builder().repetitionPenalty(1.2f).presencePenalty(1).frequencyPenalty(0.7f);
        return List.of(
                request(Sampling.builder()),
                request(hot(seed).allowedTokens(Set.of(33, 34, 35))).stop("AB", "BA", "BC", "CB", "AC", "CA"),
                request(hot(seed)),
                request(hot(seed).topK(5)),
                request(hot(seed).topP(0.8f).minP(0.02f)).minTokens(3),
                request(penalties).minTokens(maxTokens),
                request(penalties.temperature(1).seed(seed)),
                request(hot(seed).logitBias(Map.of(END, -100f, 20, 5f)).frequencyPenalty(2)),
                request(hot(seed).allowedTokens(Set.of(33, 34, 35, 36, END))).minTokens(2),
                request(Sampling.builder().bannedTokens(Set.of(48, END))));
    }

    /** Each request twice, by the device and by the sampler, three in each step and one after the other in their places. */
    private static List<Answer> compare(Path model, int maxTokens, long seed) {
        List<Request> requests = new ArrayList<>();
        for (Request.Builder r : requests(seed, maxTokens)) {
            for (int logprobs : new int[] {0, 1}) {
                requests.add(r.maxTokens(maxTokens).logprobs(logprobs).build());
            }
        }
        List<Answer> answers;
        try (Jvlm vlm = Jvlm.open(model, OPTIONS.withDeterministic(true))) {
            answers = vlm.generateAll(requests);
        }
        for (int i = 0; i < answers.size(); i += 2) {
            Answer device = answers.get(i);
            Answer sampler = answers.get(i + 1);
            assertThat(device.ids()).as("request " + i / 2).isEqualTo(sampler.ids());
            assertThat(device.text()).isEqualTo(sampler.text());
            assertThat(device.finishReason()).isEqualTo(sampler.finishReason());
        }
        assertThat(answers).extracting(Answer::finishReason).contains(FinishReason.END, FinishReason.STOP_STRING, FinishReason.LENGTH);
        return answers;
    }

    @Tag("full")
    @Test
    void answersAreTheSamplers() {
        assertThat(compare(folder, 6, 1)).allSatisfy(a -> assertThat(a.ids()).doesNotContainAnyElementsOf(BAD_WORDS));
    }

    @Tag("full")
    @Test
    void longAnswersWithoutBadWordsAreTheSamplersToo() {
        compare(NANO, 48, 3);
    }

    @Test
    void whatADeviceCannotDoStaysWithTheSampler() {
        try (EngineLoop emu = loop("emu", "bf16", 2); EngineLoop cpu = loop("cpu", "float32", 2)) {
            for (Request.Builder r : requests(1, 9)) {
                assertThat(runsAhead(emu, r)).isTrue();
            }
            for (Sampling.Builder s : List.of(Sampling.builder().noRepeatNgram(2), Sampling.builder().temperature(1).typicalP(0.9f))) {
                assertThat(runsAhead(emu, request(s))).isFalse();
            }
            assertThat(runsAhead(emu, request(hot(1)).logprobs(1))).isFalse();
            assertThat(runsAhead(emu, request(hot(1)).mode(Request.Mode.OCR))).isFalse();
            assertThat(runsAhead(emu, request(Sampling.builder().typicalP(0.9f)))).isTrue(); // Greedy: nothing is filtered.
            assertThat(runsAhead(cpu, request(Sampling.builder()))).isTrue();
            assertThat(runsAhead(cpu, request(hot(1)))).isFalse();
            assertThat(runsAhead(cpu, request(Sampling.builder()).minTokens(1))).isFalse();
        }
    }

    private static EngineLoop loop(String device, String precision, int sequences) {
        return EngineLoop.open(Checkpoint.open(folder), device, precision, false, 256, sequences, 8, 0, (done, all) -> {});
    }

    private static boolean runsAhead(EngineLoop loop, Request.Builder request) {
        return loop.prepare(request.build(), piece -> {}).sequence.runsAhead;
    }

    @Test
    void whatANativeEngineCannotDoIsRefused() {
        Checkpoint checkpoint = Checkpoint.open(folder);
        int vocabulary = checkpoint.blueprint().spec().decoder().vocabulary();
        Limits limits = new Limits("bf16", 4, 64, 1, 16, 256, 1, 256, false);
        for (String[] expected : new String[][] {{"cpu", "0", "the likeliest token only"}, {"emu", "1", "sample (slot) holds 1"}}) {
            try (Engine engine = Engine.open(expected[0], checkpoint.blueprint().spec().toText(), checkpoint.manifest().toText(), limits,
                    vocabulary, null)) {
                StepPlan plan = new StepPlan(limits.stepTokens(), limits.sequences(), limits.pages());
                plan.begin(0, new int[] {0}, 1);
                plan.add(1, -1);
                plan.wantLogits();
                plan.end(1);
                DeviceSampling.LIKELIEST.write(plan.sample, Integer.parseInt(expected[1]), 0);
                assertThatThrownBy(() -> engine.submit(plan)).isInstanceOf(JvlmException.class).hasMessageContaining(expected[2]);
            }
        }
    }

    /** What it has counted and how it was biased is no other answer's, though both have the one place there is. */
    @Tag("full")
    @Test
    void aCancelledAnswerLeavesNothingBehind() throws Exception {
        Request next = request(hot(5).presencePenalty(50)).maxTokens(8).build();
        try (EngineLoop loop = loop("emu", "bf16", 1)) {
            List<Integer> before = start(loop, next, piece -> {}).done().join().ids();
            CountDownLatch begun = new CountDownLatch(3);
            Request endless = request(hot(6).presencePenalty(-50).bannedTokens(Set.of(END))).maxTokens(200).build();
            Generation cancelled = start(loop, endless, piece -> begun.countDown());
            begun.await();
            cancelled.cancel();
            assertThat(start(loop, next, piece -> {}).done().join().ids()).isEqualTo(before);
            assertThat(cancelled.done().join().finishReason()).isEqualTo(FinishReason.CANCELLED);
        }
    }

    private static Generation start(EngineLoop loop, Request request, Consumer<String> pieces) {
        Generation g = loop.prepare(request, pieces);
        loop.submit(g);
        return g;
    }

    @Test
    void whereNothingMayBeChosenOnlyThatRequestEnds() {
        Request impossible = request(hot(1).allowedTokens(Set.of(END))).minTokens(1).build();
        Request other = request(hot(1)).maxTokens(4).build();
        try (Jvlm vlm = Jvlm.open(folder, OPTIONS.withDeterministic(true))) {
            CompletableFuture<Answer> beside = vlm.submit(other);
            assertThatThrownBy(() -> vlm.generate(impossible))
                    .isInstanceOf(JvlmException.class)
                    .hasMessageContaining("Every token is banned")
                    .extracting("code")
                    .isEqualTo(JvlmException.Code.REQUEST);
            assertThat(beside.join().ids()).isEqualTo(vlm.generate(other).ids());
        }
    }
}
