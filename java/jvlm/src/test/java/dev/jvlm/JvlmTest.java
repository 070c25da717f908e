package dev.jvlm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;

import dev.jvlm.engine.EngineLoop;
import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import dev.jvlm.request.Answer;
import dev.jvlm.request.FinishReason;
import dev.jvlm.request.Part;
import dev.jvlm.request.Request;
import dev.jvlm.request.Sampling;
import dev.jvlm.request.Turn;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The public API over the bundled line reader. Rows of faults are named by their numbers. */
class JvlmTest {
    private static final Path NANO = Path.of(System.getProperty("jvlm.root")).resolve("weights/nano");
    private static final Options OPTIONS = Options.DEFAULT.withPrecision(Options.Precision.FLOAT32);

    private static Jvlm vlm;
    private static Image line;
    private static Image word;

    @BeforeAll
    static void open() throws Exception {
        vlm = Jvlm.open(NANO, OPTIONS);
        line = Image.decode(Files.readAllBytes(NANO.resolve("samples/08_line.png")));
        word = Image.decode(Files.readAllBytes(NANO.resolve("samples/00_word.png")));
    }

    @AfterAll
    static void nothingLeaks() {
        vlm.close();
        assertThat(EngineLoop.live()).isZero();
    }

    private static Request.Builder read(Image image) {
        return Request.builder().image(image).text("Read the text.");
    }

    /** A request that goes on until something else ends it: the id that ends answers is banned. */
    private static Request.Builder endless(int maxTokens) {
        int end = vlm.checkpoint().stopIds().get(0);
        return read(word).sampling(Sampling.builder().bannedTokens(Set.of(end)).build()).loopGuard(false).maxTokens(maxTokens);
    }

    @Test
    void deterministicModeIsRefusedWhereItIsNotHonoured() {
        assertThatThrownBy(() -> Jvlm.open(NANO, OPTIONS.withDevice("cpu").withDeterministic(true)))
                .isInstanceOf(JvlmException.class)
                .hasMessageContainingAll("cpu has no deterministic mode", "CUDA device")
                .extracting("code")
                .isEqualTo(JvlmException.Code.DEVICE);
    }

    private static void assertRefused(Runnable call, String... saying) {
        assertThatThrownBy(call::run)
                .isInstanceOf(JvlmException.class)
                .hasMessageContainingAll(saying)
                .extracting("code")
                .isEqualTo(JvlmException.Code.REQUEST);
    }

    @Test
    void readsAWord() {
        Answer answer = vlm.generate(read(word).build());
        assertThat(answer.text()).isEqualTo("proselytized");
        assertThat(answer.ids()).containsExactly(80, 82, 79, 83, 69, 76, 89, 84, 73, 90, 69, 68, 98);
        assertThat(answer.finishReason()).isEqualTo(FinishReason.END);
        assertThat(answer.usage().promptTokens()).isEqualTo(40);
        assertThat(answer.usage().imageTokens()).isEqualTo(20);
        assertThat(answer.usage().tiles()).isEqualTo(5);
        assertThat(answer.usage().completionTokens()).isEqualTo(13);
        assertThat(answer.logprobs()).isEmpty();
        var t = answer.timings();
        assertThat(t.visionMs()).isPositive();
        assertThat(t.prefillMs()).isPositive();
        assertThat(t.totalMs()).isGreaterThanOrEqualTo(t.visionMs() + t.prefillMs() + t.decodeMs());
    }

    @Test
    void aStreamIsTheAnswerInPieces() {
        StringBuilder pieces = new StringBuilder();
        int[] count = {0};
        Thread caller = Thread.currentThread();
        Answer answer = vlm.stream(read(line).build(), piece -> {
            assertThat(Thread.currentThread()).isSameAs(caller);
            pieces.append(piece);
            count[0]++;
        });
        assertThat(pieces.toString()).isEqualTo(answer.text()).isEqualTo(vlm.generate(read(line).build()).text());
        assertThat(count[0]).isGreaterThan(5);
    }

    /** Greedy answers differ neither by company nor by path: run ahead, through the sampler, alone, together, streamed. */
    @Test
    void sharedStepsChangeNoAnswer() {
        List<Request> requests = new ArrayList<>();
        for (int i = 0; i < 24; i++) {
            Image image = i % 2 == 0 ? line : word;
            requests.add(i % 3 == 0 ? read(image).logprobs(2).build() : i % 3 == 1 ? read(image).build() : read(image).mode(Request.Mode.OCR).build());
        }
        String ofLine = vlm.generate(read(line).build()).text();
        List<Answer> answers = vlm.generateAll(requests);
        for (int i = 0; i < answers.size(); i++) {
            assertThat(answers.get(i).text()).as("answer %d", i).isEqualTo(i % 2 == 0 ? ofLine : "proselytized");
        }
        Answer withLogprobs = answers.get(0);
        assertThat(withLogprobs.logprobs()).hasSameSizeAs(withLogprobs.ids());
        for (int i = 0; i < withLogprobs.ids().size(); i++) {
            var token = withLogprobs.logprobs().get(i);
            assertThat(token.id()).isEqualTo(withLogprobs.ids().get(i)).isEqualTo(token.top().get(0).id());
            assertThat(token.logprob()).isNegative().isEqualTo(token.top().get(0).logprob());
            assertThat(token.top()).hasSize(2);
        }
    }

    @Test
    void moreRequestsThanTheQueueHoldsAreFed() {
        try (Jvlm small = Jvlm.open(NANO, OPTIONS.withSequences(1).withQueue(1))) {
            assertThat(small.generateAll(Collections.nCopies(7, read(word).build())))
                    .hasSize(7)
                    .allMatch(a -> a.text().equals("proselytized"));
        }
    }

    @Test
    void sampledAnswersFollowTheSeed() {
        Request hot = read(line).sampling(Sampling.builder().temperature(3).seed(7).build()).maxTokens(40).build();
        String first = vlm.generate(hot).text();
        assertThat(vlm.generateAll(List.of(endless(30).build(), hot, read(word).build())).get(1).text()).isEqualTo(first);
        Request other = read(line).sampling(Sampling.builder().temperature(3).seed(8).build()).maxTokens(40).build();
        assertThat(vlm.generate(other).text()).isNotEqualTo(first);
    }

    @Test
    void finishReasonsAreTrue() {
        Answer length = vlm.generate(read(word).maxTokens(3).build());
        assertThat(length.finishReason()).isEqualTo(FinishReason.LENGTH);
        assertThat(length.text()).isEqualTo("pro");
        assertThat(length.ids()).hasSize(3);
        Answer stop = vlm.generate(read(word).stop("ytiz", "zzz").build());
        assertThat(stop.finishReason()).isEqualTo(FinishReason.STOP_STRING);
        assertThat(stop.text()).isEqualTo("prosel");
        Answer least = vlm.generate(read(word).minTokens(20).maxTokens(25).build());
        assertThat(least.usage().completionTokens()).isBetween(20, 25);
        // One allowed token: the answer repeats it until the guard sees the loop.
        int a = vlm.generate(read(word).maxTokens(1).build()).ids().get(0);
        Request looping = read(word).sampling(Sampling.builder().allowedTokens(Set.of(a)).build()).maxTokens(400).build();
        Answer loop = vlm.generate(looping);
        assertThat(loop.finishReason()).isEqualTo(FinishReason.LOOP);
        assertThat(loop.text()).matches("p+");
        // The context ends an answer too.
        int room = vlm.context() - 40 + 1;
        Answer full = vlm.generate(endless(vlm.context()).build());
        assertThat(full.finishReason()).isEqualTo(FinishReason.LENGTH);
        assertThat(full.ids()).hasSize(room);
    }

    @Test
    void aConversationGoesOn() {
        Turn turn = new Turn(List.of(Part.image(word), Part.text("Read the text.")), "proselytized");
        Answer answer = vlm.generate(Request.builder().history(List.of(turn)).image(line).text("Read the text.").maxTokens(5).build());
        assertThat(answer.usage().imageTokens()).isGreaterThan(20);
        assertThat(answer.ids()).isNotEmpty();
    }

    /** Order and vision rows of pictures in one block are those of pictures apart. */
    @Test
    void picturesInOneBlockGoThroughTheEngine() {
        Answer apart = vlm.generate(Request.builder().image(word).image(line).text("Read the text.").maxTokens(5).build());
        Answer block = vlm.generate(Request.builder().part(Part.pictures(List.of(word, line))).text("Read the text.").maxTokens(5).build());
        assertThat(block.usage().tiles()).isEqualTo(apart.usage().tiles());
        assertThat(block.usage().imageTokens()).isEqualTo(apart.usage().imageTokens());
        assertThat(block.usage().promptTokens()).isLessThan(apart.usage().promptTokens());
    }

    @Test
    void textAloneIsAnswered() {
        assertThat(vlm.generate(Request.of(Part.text("Hello"))).usage().imageTokens()).isZero();
    }

    @Test
    void whatTheModelCannotDoIsRefused() {
        assertRefused(() -> vlm.generate(read(word).system("Be brief.").build()), "system prompt");
        assertRefused(() -> vlm.generate(read(word).image(line).msac(true).build()), "msac", "2");
        assertRefused(() -> vlm.generate(read(word).sampling(Sampling.builder().bannedTokens(Set.of(99_999)).build()).build()), "99999");
        assertRefused(() -> Jvlm.open(NANO, OPTIONS.withContext(1 << 19)), "context", String.valueOf(1 << 19));
        assertThatThrownBy(() -> Jvlm.open(NANO, OPTIONS.withDevice("cuda:0")))
                .isInstanceOf(JvlmException.class)
                .hasMessageContainingAll("cuda:0", "cpu");
    }

    @Test
    void f14_picturesOfEqualBytesAndOtherShapesAreOthers() {
        byte[] rgb = new byte[3 * 120 * 60];
        new java.util.Random(14).nextBytes(rgb);
        Request wide = read(Image.of(120, 60, rgb)).maxTokens(8).build();
        Request tall = read(Image.of(60, 120, rgb)).maxTokens(8).build();
        List<Answer> together = vlm.generateAll(List.of(wide, tall, wide, tall));
        assertThat(together.get(0).ids()).isEqualTo(together.get(2).ids()).isEqualTo(vlm.generate(wide).ids());
        assertThat(together.get(1).ids()).isEqualTo(together.get(3).ids()).isEqualTo(vlm.generate(tall).ids());
        assertThat(vlm.generate(read(Image.of(120, 60, rgb)).logprobs(1).maxTokens(1).build()).logprobs())
                .isNotEqualTo(vlm.generate(read(Image.of(60, 120, rgb)).logprobs(1).maxTokens(1).build()).logprobs());
    }

    @Test
    void f16_tooManyPicturesAreRefusedByTheirTokens() {
        List<Part> parts = new ArrayList<>(Collections.nCopies(200, Part.image(line)));
        Request.Builder many = Request.builder();
        parts.forEach(many::part);
        assertRefused(() -> vlm.generate(many.build()), "tokens", "context");
        for (int i = 0; i < 1000; i++) {
            many.image(line);
        }
        assertRefused(many::build, "1200 pictures");
    }

    @Test
    void f18_pixelsAreCopiedOnEntry() {
        byte[] rgb = new byte[3 * 20 * 10];
        Image image = Image.of(20, 10, rgb);
        String before = vlm.generate(read(image).maxTokens(5).build()).ids().toString();
        java.util.Arrays.fill(rgb, (byte) 200);
        assertThat(vlm.generate(read(image).maxTokens(5).build()).ids().toString()).isEqualTo(before);
    }

    @Test
    void f36_aPromptLongerThanTheContextIsRefusedWithBothNumbers() {
        assertRefused(() -> vlm.generate(Request.of(Part.text("x".repeat(vlm.context())))), "tokens", String.valueOf(vlm.context()));
    }

    @Test
    void f40_maxTokensBeyondTheContextAreRefused() {
        assertRefused(() -> vlm.generate(read(word).maxTokens(vlm.context() + 1).build()), "maxTokens", String.valueOf(vlm.context()));
    }

    @Test
    void f45_aMemoryLimitIsKept() {
        long needed = vlm.memoryPlan().values().stream().mapToLong(Long::longValue).sum();
        assertThatThrownBy(() -> Jvlm.open(NANO, OPTIONS.withMemoryLimit(needed - 1)))
                .isInstanceOf(JvlmException.class)
                .hasMessageContaining("MiB")
                .extracting("code")
                .isEqualTo(JvlmException.Code.CAPACITY);
        Jvlm.open(NANO, OPTIONS.withMemoryLimit(needed)).close();
    }

    @Test
    void f71_closeCancelsWhatRunsAndIsIdempotent() throws Exception {
        Jvlm mine = Jvlm.open(NANO, OPTIONS.withSequences(1));
        CompletableFuture<Answer> running = mine.submit(endless(500).build());
        CompletableFuture<Answer> waiting = mine.submit(endless(500).build());
        mine.close();
        assertThat(running.get(5, TimeUnit.SECONDS).finishReason()).isEqualTo(FinishReason.CANCELLED);
        Answer never = waiting.get(5, TimeUnit.SECONDS);
        assertThat(never.finishReason()).isEqualTo(FinishReason.CANCELLED);
        assertThat(never.ids()).isEmpty();
        mine.close();
        assertThatThrownBy(() -> mine.generate(read(word).build())).isInstanceOf(IllegalStateException.class).hasMessageContaining("closed");
        assertThat(EngineLoop.live()).isEqualTo(1);
    }

    @Test
    void f72_aForgottenCloseIsReportedOnceWithItsStack() {
        List<LogRecord> records = Collections.synchronizedList(new ArrayList<>());
        Handler handler = new Handler() {
            @Override
            public void publish(LogRecord record) {
                records.add(record);
            }

            @Override
            public void flush() {}

            @Override
            public void close() {}
        };
        Logger logger = Logger.getLogger("dev.jvlm");
        logger.addHandler(handler);
        logger.setUseParentHandlers(false);
        try {
            EngineLoop[] leaked = new EngineLoop[1];
            forget(leaked);
            assertTimeoutPreemptively(Duration.ofSeconds(20), () -> {
                while (records.isEmpty()) {
                    System.gc();
                    Thread.sleep(20);
                }
            });
            assertThat(records).hasSize(1);
            assertThat(records.get(0).getThrown().getStackTrace()).anyMatch(frame -> frame.getMethodName().equals("forget"));
            // It was only reported.
            assertThat(EngineLoop.live()).isEqualTo(2);
            leaked[0].close();
        } finally {
            logger.removeHandler(handler);
            logger.setUseParentHandlers(true);
        }
    }

    private static void forget(EngineLoop[] loop) {
        loop[0] = Jvlm.open(NANO, OPTIONS).loop();
    }

    @Test
    void f73_cancelInterruptAndDeadlineEndAnAnswerWithinAStep() throws Exception {
        CompletableFuture<Answer> cancelled = vlm.submit(endless(500).build());
        cancelled.cancel(true);

        AtomicReference<Answer> interrupted = new AtomicReference<>();
        boolean[] flag = {false};
        CountDownLatch started = new CountDownLatch(1);
        Thread thread = new Thread(() -> {
            interrupted.set(vlm.stream(endless(500).build(), piece -> started.countDown()));
            flag[0] = Thread.currentThread().isInterrupted();
        });
        thread.start();
        started.await();
        thread.interrupt();
        thread.join(5000);
        assertThat(interrupted.get().finishReason()).isEqualTo(FinishReason.CANCELLED);
        assertThat(interrupted.get().ids()).isNotEmpty().hasSizeLessThan(500);
        assertThat(flag[0]).isTrue();

        Answer late = vlm.generate(endless(500).deadline(Duration.ofMillis(20)).build());
        assertThat(late.finishReason()).isEqualTo(FinishReason.CANCELLED);
        assertThat(late.timings().totalMs()).isBetween(20.0, 5000.0);
        // Nothing of them is left behind.
        assertThat(vlm.generate(read(word).build()).text()).isEqualTo("proselytized");
    }

    @Test
    void f74_aConsumerThatThrowsCancelsOnlyItsOwnRequest() {
        CompletableFuture<Answer> other = vlm.submit(read(line).build());
        RuntimeException mine = new RuntimeException("mine");
        assertThatThrownBy(() -> vlm.stream(endless(500).build(), piece -> {
                    throw mine;
                }))
                .isSameAs(mine);
        assertThat(other.join().finishReason()).isEqualTo(FinishReason.END);
    }

    @Test
    void f74_aSlowConsumerSlowsDownNobody() throws Exception {
        CountDownLatch release = new CountDownLatch(1);
        CountDownLatch blocked = new CountDownLatch(1);
        Thread slow = new Thread(() -> vlm.stream(read(line).build(), piece -> {
            blocked.countDown();
            try {
                release.await();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }));
        slow.start();
        blocked.await();
        assertThat(vlm.generate(read(word).build()).text()).isEqualTo("proselytized");
        release.countDown();
        slow.join(5000);
        assertThat(slow.isAlive()).isFalse();
    }

    @Test
    void f75_callbacksMayCallBack() throws Exception {
        String[] inner = {null};
        vlm.stream(read(word).maxTokens(2).build(), piece -> inner[0] = vlm.generate(read(word).build()).text());
        assertThat(inner[0]).isEqualTo("proselytized");
        CompletableFuture<String> chained = vlm.submit(read(word).build())
                .thenApply(a -> Thread.currentThread().getName() + " " + vlm.generate(read(word).build()).text());
        assertThat(chained.get(10, TimeUnit.SECONDS)).endsWith("proselytized").doesNotContain("engine");
    }

    @Test
    void f76_tooManyCallersAreRefusedAtOnceAndTheRestIsServed() throws Exception {
        try (Jvlm small = Jvlm.open(NANO, OPTIONS.withSequences(2).withQueue(10))) {
            int callers = 200;
            CountDownLatch go = new CountDownLatch(1);
            Map<String, Integer> outcomes = new java.util.concurrent.ConcurrentHashMap<>();
            List<Thread> threads = new ArrayList<>();
            for (int i = 0; i < callers; i++) {
                Thread thread = new Thread(() -> {
                    try {
                        go.await();
                        outcomes.merge(small.generate(read(word).build()).text(), 1, Integer::sum);
                    } catch (JvlmException e) {
                        outcomes.merge(e.code().name(), 1, Integer::sum);
                    } catch (InterruptedException e) {
                        outcomes.merge("interrupted", 1, Integer::sum);
                    }
                });
                threads.add(thread);
                thread.start();
            }
            go.countDown();
            for (Thread thread : threads) {
                thread.join(30_000);
            }
            assertThat(outcomes.keySet()).isSubsetOf("proselytized", "CAPACITY");
            assertThat(outcomes.get("proselytized")).isGreaterThanOrEqualTo(10);
            assertThat(outcomes.values().stream().mapToInt(Integer::intValue).sum()).isEqualTo(callers);
            assertThat(small.generate(read(word).build()).text()).isEqualTo("proselytized");
        }
    }

    @Test
    void f77_anErrorInACallbackLeavesTheModelSound() {
        assertThatThrownBy(() -> vlm.stream(read(word).build(), piece -> {
                    throw new OutOfMemoryError("of the user's code");
                }))
                .isInstanceOf(OutOfMemoryError.class);
        CompletableFuture<Answer> failing = vlm.submit(read(word).build()).whenComplete((a, e) -> {
            throw new OutOfMemoryError("of the user's callback");
        });
        assertThatThrownBy(failing::join).hasRootCauseInstanceOf(OutOfMemoryError.class);
        assertThat(vlm.generate(read(word).build()).text()).isEqualTo("proselytized");
    }

    @Test
    void f56_whatEndsOneRequestEndsNoOther() {
        // Everything is banned after the first token: this request fails while others run.
        Set<Integer> all = java.util.stream.IntStream.range(0, vlm.checkpoint().blueprint().spec().decoder().vocabulary())
                .boxed()
                .collect(Collectors.toSet());
        CompletableFuture<Answer> other = vlm.submit(read(line).build());
        assertRefused(() -> vlm.generate(read(word).sampling(Sampling.builder().bannedTokens(all).build()).build()), "banned");
        assertThat(other.join().finishReason()).isEqualTo(FinishReason.END);
    }
}
