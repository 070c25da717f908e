package dev.jvlm.text;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Streamed text against the decoding of all ids at once, with every vocabulary of the tests. */
class TextStreamTest {

    private static final Path ROOT = Path.of(System.getProperty("jvlm.root"));

    private static final List<String> TEXTS = List.of(
            "Hello world",
            "  two leading blanks, two   inside, two at the end  ",
            "    ",
            "line\nline\r\n\n\n\ttab\n",
            "👩‍👩‍👧‍👦 🇩🇪 👍🏽 é e\u0301 \uD835\uDD38 x😀😀y",
            "人工智能 Ελληνικά русский ไทย हिन्दी عربى",
            "▁already▁escaped▁",
            "<|end|></s><0x41><image><unk>",
            "a\0b\u00a0c\u200bd\uFEFF\uFFFD",
            "12,345.67 EUR ........ ------ $$$",
            "\n",
            "É");

    @TempDir
    Path folder;

    static Stream<String> vocabularies() throws IOException {
        try (Stream<Path> all = Stream.of(ROOT.resolve("tests/tokenizers"), ROOT.resolve("tests/goldens"), ROOT.resolve("weights"))
                .flatMap(TextStreamTest::walk)) {
            List<String> found = all.filter(p -> p.endsWith("tokenizer.model") || p.endsWith("tokenizer.json"))
                    .map(p -> ROOT.relativize(p).toString())
                    .sorted()
                    .toList();
            assertThat(found).hasSizeGreaterThanOrEqualTo(10);
            return found.stream();
        }
    }

    private static Stream<Path> walk(Path path) {
        try {
            return Files.walk(path);
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    /** The vocabulary alone where a folder holds both kinds, with the added tokens beside it. */
    private Tokenizer load(String vocabulary) throws IOException {
        Path file = ROOT.resolve(vocabulary);
        for (String name : List.of(file.getFileName().toString(), "tokenizer_config.json", "added_tokens.json")) {
            if (Files.exists(file.resolveSibling(name))) {
                Files.copy(file.resolveSibling(name), folder.resolve(name));
            }
        }
        return Tokenizer.load(folder);
    }

    /** With the tokenizer of InternLM2, which takes blanks away: any order of the characters that it looks at, in pieces of any size. */
    @Test
    void blanksThatMayGoAreHeldBackAndNothingElse() throws IOException {
        Files.writeString(folder.resolve("tokenizer_config.json"), "{\"tokenizer_class\": \"InternLM2Tokenizer\"}");
        Files.copy(ROOT.resolve("tests/tokenizers/internlm2/tokenizer.model"), folder.resolve("tokenizer.model"));
        Tokenizer tokenizer = Tokenizer.load(folder);
        Random random = new Random(5);
        List<String> pieces = List.of(" ", " ", "'", "n", "t", "s", "m", "ve", "re", ".", ",", "!", "?", "the", "é", "n't", " ' ", "\n");
        for (int i = 0; i < 1500; i++) {
            String text = random.ints(1 + random.nextInt(16), 0, pieces.size()).mapToObj(pieces::get).collect(Collectors.joining());
            int[] ids = tokenizer.encode(List.of(Span.user(text)));
            assertThat(tokenizer.decode(ids)).isEqualTo(CleanUp.of(text));
            check(tokenizer, ids, i % 2 == 0 || tokenizer.decode(ids).isEmpty() ? List.of() : stops(tokenizer.decode(ids), random));
        }
        TextStream stream = new TextStream(tokenizer, List.of());
        List<String> given = new ArrayList<>();
        for (int id : tokenizer.encode(List.of(Span.user("The sum , I 'm told , is 12 .")))) {
            given.add(stream.add(id));
        }
        assertThat(String.join("|", given) + "|" + stream.finish()).isEqualTo("The| sum||,| I||'m told||,| is|| 12|.");
    }

    @Tag("full")
    @ParameterizedTest
    @MethodSource("vocabularies")
    void piecesAddUpToTheDecodingOfAllIds(String vocabulary) throws IOException {
        Tokenizer tokenizer = load(vocabulary);
        List<int[]> sequences = new ArrayList<>();
        for (String text : TEXTS) {
            sequences.add(tokenizer.encode(List.of(Span.user(text))));
            sequences.add(tokenizer.encode(text));
        }
        // Ids that no text gives: broken runs of bytes, control pieces and unused rows in between.
        Random random = new Random(17);
        int[] bytes = java.util.stream.IntStream.range(0, tokenizer.size()).filter(id -> tokenizer.byteOf(id) >= 0).toArray();
        int[] silent = java.util.stream.IntStream.range(-1, tokenizer.size() + 3).filter(tokenizer::isSilent).toArray();
        for (int i = 0; i < 150; i++) {
            int[] ids = new int[1 + random.nextInt(24)];
            for (int j = 0; j < ids.length; j++) {
                int kind = random.nextInt(8);
                ids[j] = kind < 3 && bytes.length > 0
                        ? bytes[random.nextInt(bytes.length)]
                        : kind == 3 ? silent[random.nextInt(silent.length)] : random.nextInt(tokenizer.size());
            }
            sequences.add(ids);
        }
        for (int[] ids : sequences) {
            for (int length = ids.length; length >= 0; length -= ids.length > 40 ? 7 : 1) {
                int[] prefix = Arrays.copyOf(ids, length);
                check(tokenizer, prefix, List.of());
                String whole = tokenizer.decode(prefix);
                for (int i = 0; i < 4 && !whole.isEmpty(); i++) {
                    check(tokenizer, prefix, stops(whole, random));
                }
            }
        }
    }

    /** Some strings that occur, cut at characters, and some that begin as if they occurred. */
    private static List<String> stops(String text, Random random) {
        int[] points = text.codePoints().toArray();
        List<String> stops = new ArrayList<>();
        for (int i = 1 + random.nextInt(3); i > 0; i--) {
            int from = random.nextInt(points.length);
            int to = from + 1 + random.nextInt(Math.min(9, points.length - from));
            String stop = new String(points, from, to - from);
            stops.add(random.nextInt(3) == 0 ? stop + "\u0001" : stop);
        }
        return stops;
    }

    private static void check(Tokenizer tokenizer, int[] ids, List<String> stops) {
        TextStream stream = new TextStream(tokenizer, stops);
        StringBuilder text = new StringBuilder();
        for (int i = 0; i <= ids.length; i++) {
            String piece = i < ids.length ? stream.add(ids[i]) : stream.finish();
            assertThat(piece).as(Arrays.toString(ids)).isEqualTo(Utf8.wellFormed(piece));
            text.append(piece);
        }
        String whole = tokenizer.decode(ids);
        String expected = cut(whole, stops);
        assertThat(text.toString()).as(Arrays.toString(ids) + " until " + stops).isEqualTo(expected);
        assertThat(stream.text()).isEqualTo(expected);
        assertThat(stream.stopped()).isEqualTo(stops.stream().anyMatch(whole::contains));
    }

    /** Character by character: at the first that completes a stop string, before the longest that it completes. */
    private static String cut(String text, List<String> stops) {
        for (int end = 1; end <= text.length(); end++) {
            String head = text.substring(0, end);
            int longest = stops.stream().filter(head::endsWith).mapToInt(String::length).max().orElse(0);
            if (longest > 0) {
                return head.substring(0, end - longest);
            }
        }
        return text;
    }

    @Test
    void charactersOfBytesComeAsSoonAsTheyAreComplete() throws IOException {
        Tokenizer tokenizer = load("tests/tokenizers/mistral-7b-v0.1/tokenizer.model");
        int first = java.util.stream.IntStream.range(0, 300).filter(id -> tokenizer.byteOf(id) == 0).findFirst().orElseThrow();
        TextStream stream = new TextStream(tokenizer, List.of());
        List<String> pieces = new ArrayList<>();
        for (int b : new int[] {0xF0, 0x9F, 0x98, 0x80, 0x0A, 0xE4, 0xC3, 0xA9}) {
            pieces.add(stream.add(first + b));
        }
        assertThat(pieces).containsExactly("", "", "", "😀", "\n", "", "", "\uFFFDé");
    }

    @Test
    void f42_aStopStringEndsTheTextWithTheTokenThatCompletesIt() throws IOException {
        Tokenizer tokenizer = load("tests/tokenizers/mistral-7b-v0.1/tokenizer.model");
        int[] ids = tokenizer.encode("Total: 12.50\n\nThank you");
        TextStream stream = new TextStream(tokenizer, List.of("\n\n"));
        StringBuilder text = new StringBuilder();
        int taken = 0;
        while (!stream.stopped()) {
            text.append(stream.add(ids[taken++]));
        }
        assertThat(text.toString()).isEqualTo("Total: 12.50");
        assertThat(tokenizer.decode(Arrays.copyOf(ids, taken))).isEqualTo("Total: 12.50\n\n");
        assertThat(stream.add(ids[taken]) + stream.finish()).isEmpty();
    }

    /** Ten thousand lone blanks or bytes must not take quadratic time that anyone notices. */
    @Test
    void longRunsWithoutTextOfTheirOwnStayFast() throws IOException {
        Tokenizer tokenizer = load("tests/tokenizers/mistral-7b-v0.1/tokenizer.model");
        for (String text : List.of(" ", "\n", "é")) {
            int id = tokenizer.encode(text)[tokenizer.encode(text).length - 1];
            TextStream stream = new TextStream(tokenizer, List.of("no such text"));
            long start = System.nanoTime();
            for (int i = 0; i < 10_000; i++) {
                stream.add(id);
            }
            stream.finish();
            assertThat((System.nanoTime() - start) / 1e9).as(text).isLessThan(5);
            assertThat(stream.text().length()).isGreaterThanOrEqualTo(9_999);
        }
    }
}
