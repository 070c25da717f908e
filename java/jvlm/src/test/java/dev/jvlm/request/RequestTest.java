package dev.jvlm.request;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

class RequestTest {

    private static void refused(Runnable build, String... words) {
        assertThatThrownBy(build::run)
                .isInstanceOfSatisfying(JvlmException.class, e -> assertThat(e.code()).isEqualTo(JvlmException.Code.REQUEST))
                .message()
                .contains(words)
                .doesNotContain("Exception", "null pointer");
    }

    private static void sampling(Consumer<Sampling.Builder> set, String... words) {
        refused(() -> {
            Sampling.Builder b = Sampling.builder();
            set.accept(b);
            b.build();
        }, words);
    }

    private static void request(Consumer<Request.Builder> set, String... words) {
        refused(() -> {
            Request.Builder b = Request.builder().text("Read the text.");
            set.accept(b);
            b.build();
        }, words);
    }

    @Test
    void f39_samplingParametersThatAreNoNumbersOrOutOfRangeAreRefusedByName() {
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, -0.5f, 1e30f}) {
            sampling(b -> b.temperature(bad), "temperature", "100");
            sampling(b -> b.topP(bad), "topP", "1");
            sampling(b -> b.minP(bad), "minP", "1");
            sampling(b -> b.typicalP(bad), "typicalP", "1");
            sampling(b -> b.repetitionPenalty(bad), "repetitionPenalty", "100");
            sampling(b -> b.logitBias(Map.of(3, bad == -0.5f ? -1001 : bad)), "logitBias of token 3", "1000");
        }
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, -101, 101}) {
            sampling(b -> b.presencePenalty(bad), "presencePenalty", "100");
            sampling(b -> b.frequencyPenalty(bad), "frequencyPenalty", "100");
        }
        sampling(b -> b.topP(0), "topP", "above 0");
        sampling(b -> b.typicalP(0), "typicalP", "above 0");
        sampling(b -> b.repetitionPenalty(0), "repetitionPenalty");
        sampling(b -> b.topK(-1), "topK is -1", "at least 0");
        sampling(b -> b.noRepeatNgram(-1), "noRepeatNgram is -1");
        sampling(b -> b.noRepeatNgram(Integer.MAX_VALUE), "noRepeatNgram", "1024");
    }

    @Test
    void f39_theLimitsThemselvesAreAllowed() {
        Sampling s = Sampling.builder()
                .temperature(100).topP(Float.MIN_VALUE).minP(1).typicalP(Float.MIN_VALUE).repetitionPenalty(100)
                .presencePenalty(-100).frequencyPenalty(100).topK(Integer.MAX_VALUE).noRepeatNgram(1024)
                .logitBias(Map.of(0, -1000f)).build();
        assertThat(s.isPlainGreedy()).isFalse();
        assertThat(Sampling.greedy().isPlainGreedy()).isTrue();
        assertThat(Sampling.builder().logitBias(Map.of(1, 1f)).build().isPlainGreedy()).isFalse();
        assertThat(Sampling.builder().bannedTokens(Set.of(1)).build().isPlainGreedy()).isFalse();
    }

    @Test
    void f40_countsOutOfRangeAreRefusedWithTheLimitNamed() {
        request(b -> b.maxTokens(-1), "maxTokens is -1", "1 to 1048576");
        request(b -> b.maxTokens(0), "maxTokens is 0");
        request(b -> b.maxTokens(Integer.MAX_VALUE), "maxTokens is 2147483647", "1048576");
        request(b -> b.maxTokens(5).minTokens(6), "minTokens is 6", "0 to 5");
        request(b -> b.minTokens(-1), "minTokens is -1");
        request(b -> b.logprobs(32_000), "logprobs is 32000", "0 to 20");
        request(b -> b.logprobs(-1), "logprobs is -1");
        request(b -> b.maxTiles(0), "maxTiles is 0", "1 to 128");
        request(b -> b.maxTiles(129), "maxTiles is 129");
        request(b -> b.deadline(Duration.ZERO), "deadline");
        request(b -> b.deadline(Duration.ofSeconds(-1)), "deadline");
    }

    @Test
    void f16_aThousandPicturesAreRefusedWhereverTheyStand() {
        Part picture = Part.image(Image.of(1, 1, new byte[3]));
        request(b -> IntStream.range(0, 1000).forEach(i -> b.part(picture)), "1000 pictures", "256");
        Turn turn = new Turn(Collections.nCopies(200, picture), "ok");
        request(b -> b.history(List.of(turn, turn)), "400 pictures", "256");
        Part block = Part.pictures(Collections.nCopies(150, Image.of(1, 1, new byte[3])));
        request(b -> b.part(block).part(block), "300 pictures", "256");
    }

    @Test
    void f41_logitBiasOfUnknownIdsOrAMillionEntriesIsRefused() {
        Map<Integer, Float> many = new HashMap<>();
        IntStream.range(0, 1_000_000).forEach(i -> many.put(i, 1f));
        sampling(b -> b.logitBias(many), "logitBias", "1000000", "65536");
        Set<Integer> ids = new HashSet<>(many.keySet());
        sampling(b -> b.allowedTokens(ids), "allowedTokens", "65536");
        sampling(b -> b.bannedTokens(ids), "bannedTokens", "65536");
        for (int id : new int[] {-1, 470, Integer.MAX_VALUE}) {
            refused(() -> Sampling.builder().logitBias(Map.of(id, 1f)).build().checkAgainst(470), "token " + id, "0 to 469");
            refused(() -> Sampling.builder().bannedTokens(Set.of(id)).build().checkAgainst(470), "token " + id, "0 to 469");
            refused(() -> Sampling.builder().allowedTokens(Set.of(id)).build().checkAgainst(470), "token " + id, "0 to 469");
        }
        Sampling.builder().logitBias(Map.of(0, 1f, 469, 1f)).build().checkAgainst(470);
    }

    @Test
    void f42_stopStringsAreCappedAndNeverEmpty() {
        request(b -> b.stop(Collections.nCopies(10_000, "x")), "stop strings is 10000", "64");
        request(b -> b.stop("x", ""), "stop string is empty");
        request(b -> b.stop("x".repeat(1025)), "stop string", "1025", "1024");
        // Half a character would cut an answer inside one.
        request(b -> b.stop("\uDE00"), "stop string", "Unicode");
        request(b -> b.stop("a\uD83D"), "stop string", "Unicode");
        assertThat(Request.builder().text("x").stop(Collections.nCopies(64, "😀".repeat(512))).build().stop()).hasSize(64);
    }

    @Test
    void f44_contradictionsNameBothOptions() {
        sampling(b -> b.allowedTokens(Set.of(1)).bannedTokens(Set.of(2)), "allowedTokens", "bannedTokens");
        request(b -> b.mode(Request.Mode.COMPLETION).system("Be brief."), "COMPLETION", "system prompt", "parts");
        request(b -> b.mode(Request.Mode.COMPLETION).history(List.of(new Turn(List.of(Part.text("q")), "a"))), "COMPLETION", "history");
    }

    @Test
    void f38_whatIsMissingIsNamed() {
        refused(() -> Request.builder().build(), "no parts");
        refused(() -> Request.of(), "no parts");
        refused(() -> Request.builder().part(null), "part");
        refused(() -> Part.text(null), "text");
        refused(() -> Part.image(null), "picture");
        refused(() -> new Turn(List.of(), "a"), "question");
        refused(() -> new Turn(List.of(Part.text("q")), null), "answer");
        request(b -> b.sampling(null), "sampling");
        request(b -> b.history(null), "history");
        request(b -> b.history(Arrays.asList((Turn) null)), "history");
        request(b -> b.stop((List<String>) null), "stop");
        request(b -> b.stop(Arrays.asList("x", null)), "stop");
        request(b -> b.mode(null), "mode");
        sampling(b -> b.logitBias(null), "logitBias");
        sampling(b -> b.allowedTokens(null), "allowedTokens");
        Map<Integer, Float> hole = new HashMap<>();
        hole.put(1, null);
        sampling(b -> b.logitBias(hole), "logitBias");
        sampling(b -> b.bannedTokens(Collections.singleton(null)), "bannedTokens");
    }

    @Test
    void laterChangesOfWhatWasGivenChangeNothing() {
        Map<Integer, Float> bias = new HashMap<>(Map.of(1, 1f));
        Sampling s = Sampling.builder().logitBias(bias).build();
        bias.put(2, Float.NaN);
        assertThat(s.logitBias()).containsOnlyKeys(1);
        List<String> stop = new java.util.ArrayList<>(List.of("x"));
        Request r = Request.builder().text("q").stop(stop).build();
        stop.add("");
        assertThat(r.stop()).containsExactly("x");
    }

    /** Java's assertions are off unless asked for and C's are compiled out: neither may check anything that matters, so there are none. */
    @Test
    void f45_nothingIsCheckedByAssertions() throws IOException {
        Path root = Path.of(System.getProperty("jvlm.root"));
        Pattern java = Pattern.compile("(?m)^\\s*assert\\b");
        Pattern c = Pattern.compile("(?<!static_)\\bassert\\s*\\(");
        try (Stream<Path> files = Stream.concat(Files.walk(root.resolve("java/jvlm/src/main")), Files.walk(root.resolve("native")))) {
            List<String> sources = files.map(Path::toString)
                    .filter(f -> f.endsWith(".java") || f.endsWith(".cc") || f.endsWith(".h"))
                    .toList();
            assertThat(sources.size()).isGreaterThan(60);
            assertThat(sources.stream().filter(f -> (f.endsWith(".java") ? java : c).matcher(read(f)).find()).collect(Collectors.toList()))
                    .isEmpty();
        }
    }

    private static String read(String file) {
        try {
            return Files.readString(Path.of(file));
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }
}
