package dev.jvlm.text;

import dev.jvlm.error.JvlmException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.Stream;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/**
 * Compares tokenizers with recorded vectors: a folder of vocabularies, one folder each, and {@code vectors/} beside them, whose files say
 * by their names what they are (tests/tokenizers/PROVENANCE.md).
 */
public final class TokenizerVectors {

    private static final ObjectMapper JSON = new ObjectMapper();

    private final Path folder;
    private final Consumer<String> differs;
    private int cases;

    private TokenizerVectors(Path folder, Consumer<String> differs) {
        this.folder = folder;
        this.differs = differs;
    }

    /**
     * Checks every file of vectors.
     *
     * @param differs takes a sentence for each case that differs
     * @return the number of cases
     */
    public static int check(Path folder, Consumer<String> differs) {
        TokenizerVectors vectors = new TokenizerVectors(folder, differs);
        try (Stream<Path> files = Files.list(folder.resolve("vectors"))) {
            for (Path file : files.sorted().toList()) {
                vectors.check(file);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return vectors.cases;
    }

    private void check(Path file) throws IOException {
        String name = file.getFileName().toString();
        try {
            if (name.startsWith("sentencepiece-") && name.endsWith(".json")) {
                sentencePiece(file, name.substring("sentencepiece-".length(), name.length() - ".json".length()));
            } else if (name.startsWith("hf-tokenizers-") && name.endsWith(".json")) {
                tokenizerJson(file, name.substring("hf-tokenizers-".length(), name.length() - ".json".length()));
            } else if (name.startsWith("internlm2tokenizer-") && name.endsWith(".json")) {
                internLm2Tokenizer(file, name.substring("internlm2tokenizer-".length(), name.length() - ".json".length()));
            } else if (name.equals("mistral-tokenizer-js.json")) {
                mistralTokenizerJs(file);
            } else if (name.equals("llama.cpp")) {
                try (Stream<Path> inputs = Files.list(file)) {
                    for (Path input : inputs.filter(f -> f.toString().endsWith(".inp")).sorted().toList()) {
                        llamaCpp(input);
                    }
                }
            } else if (name.equals("mistral-common")) {
                mistralChat(file);
            } else {
                differs.accept(name + ": no vectors of a known kind");
            }
        } catch (JvlmException e) {
            differs.accept(name + ": its vocabulary is refused: " + e.getMessage());
        }
    }

    /** Texts, ids and decoded text of the SentencePiece library. */
    private void sentencePiece(Path file, String vocabulary) throws IOException {
        SubwordModel model = model(vocabulary);
        for (JsonNode c : JSON.readTree(file.toFile()).path("cases")) {
            String as = file.getFileName() + " " + c.path("text");
            int[] ids = ids(c.path("ids"));
            same(as, encode(model, c.path("text").asString()), ids);
            same(as, model.decode(ids, List.of()), c.path("decoded").asString());
        }
    }

    /** The same of Hugging Face tokenizers, made with tokenizer.json alone: no tokenizer_config.json, special tokens kept in the text. */
    private void tokenizerJson(Path file, String vocabulary) throws IOException {
        Path alone = Files.createTempDirectory("tokenizer");
        Path json = Files.copy(folder.resolve(vocabulary).resolve("tokenizer.json"), alone.resolve("tokenizer.json"));
        Tokenizer tokenizer = Tokenizer.load(alone);
        Files.delete(json);
        Files.delete(alone);
        for (JsonNode c : JSON.readTree(file.toFile()).path("cases")) {
            String as = file.getFileName() + " " + c.path("text");
            int[] ids = ids(c.path("ids"));
            same(as, tokenizer.encode(c.path("text").asString()), ids);
            same(as, tokenizer.decodeWithSpecial(ids), c.path("decoded").asString());
        }
    }

    /** Ids and what the published InternLM2Tokenizer makes of them, special tokens left out; at once and as a stream. */
    private void internLm2Tokenizer(Path file, String vocabulary) throws IOException {
        Path alone = Files.createTempDirectory("tokenizer");
        Path model = Files.copy(folder.resolve(vocabulary).resolve("tokenizer.model"), alone.resolve("tokenizer.model"));
        Path config = Files.writeString(alone.resolve("tokenizer_config.json"), """
                {"tokenizer_class": "InternLM2Tokenizer", "clean_up_tokenization_spaces": false,
                 "added_tokens_decoder": {"0": {"content": "<unk>", "special": true}, "1": {"content": "<s>", "special": true},
                                          "2": {"content": "</s>", "special": true}}}""");
        Tokenizer tokenizer = Tokenizer.load(alone);
        for (Path p : List.of(model, config, alone)) {
            Files.delete(p);
        }
        for (JsonNode c : JSON.readTree(file.toFile()).path("cases")) {
            String as = file.getFileName() + " " + c.path("ids");
            String decoded = c.path("decoded").asString();
            int[] ids = ids(c.path("ids"));
            same(as, tokenizer.decode(ids), decoded);
            TextStream stream = new TextStream(tokenizer, List.of());
            StringBuilder text = new StringBuilder();
            Arrays.stream(ids).forEach(id -> text.append(stream.add(id)));
            same(as + " as a stream", text.append(stream.finish()).toString(), decoded);
        }
    }

    /** Texts with the first token that the library puts in front. */
    private void mistralTokenizerJs(Path file) throws IOException {
        SubwordModel model = model("mistral-7b-v0.1");
        for (JsonNode c : JSON.readTree(file.toFile())) {
            int[] withoutFirst = Arrays.stream(ids(c.path("ids"))).skip(1).toArray();
            same(file.getFileName() + " " + c.path("text"), encode(model, c.path("text").asString()), withoutFirst);
        }
    }

    /** ggml-vocab-NAME.gguf.inp holds texts, .out their ids, a line each. */
    private void llamaCpp(Path input) throws IOException {
        String name = input.getFileName().toString();
        String vocabulary = name.substring("ggml-vocab-".length(), name.length() - ".gguf.inp".length());
        Tokenizer tokenizer = Tokenizer.load(folder.resolve(vocabulary));
        String[] texts = Files.readString(input).split("\n__ggml_vocab_test__\n", -1);
        List<String> lines = Files.readAllLines(input.resolveSibling(name.replace(".inp", ".out")));
        for (int i = 0; i < lines.size(); i++) {
            int[] ids = Arrays.stream(lines.get(i).trim().split(" "))
                    .filter(s -> !s.isEmpty())
                    .mapToInt(Integer::parseInt)
                    .toArray();
            same(name + " " + JSON.writeValueAsString(texts[i]), tokenizer.encode(texts[i]), ids);
        }
    }

    /** A chat whose turns mistral-common encodes one by one, answers ended by {@code </s>}, the whole begun by {@code <s>}. */
    private void mistralChat(Path chat) throws IOException {
        SubwordModel model = model("mistral-7b-v0.1");
        Ids ids = new Ids();
        ids.add(1);
        for (JsonNode message : JSON.readTree(chat.resolve("no_tools-sample.json").toFile()).path("messages")) {
            boolean user = message.path("role").asString().equals("user");
            String content = message.path("content").asString();
            model.encode(user ? "[INST] " + content + " [/INST]" : content, true, ids);
            if (!user) {
                ids.add(2);
            }
        }
        int[] expected = ids(JSON.readTree(chat.resolve("no_tools-tokens_v1.json").toFile()).path("tokens"));
        same(chat.getFileName() + " no_tools-sample", ids.toArray(), expected);
    }

    private SubwordModel model(String vocabulary) throws IOException {
        return new SentencePiece(Files.readAllBytes(folder.resolve(vocabulary).resolve("tokenizer.model")));
    }

    static int[] encode(SubwordModel model, String text) {
        Ids out = new Ids();
        if (!text.isEmpty()) {
            model.encode(text, true, out);
        }
        return out.toArray();
    }

    private static int[] ids(JsonNode array) {
        return array.valueStream().mapToInt(JsonNode::asInt).toArray();
    }

    private void same(String as, int[] got, int[] expected) {
        cases++;
        int at = Arrays.mismatch(got, expected);
        if (at >= 0) {
            differs.accept(as + ": " + got.length + " ids instead of " + expected.length + ", the first difference at " + at + ": "
                    + list(got, at) + " instead of " + list(expected, at));
        }
    }

    private static List<Integer> list(int[] ids, int from) {
        List<Integer> few = new ArrayList<>();
        for (int i = from; i < Math.min(ids.length, from + 6); i++) {
            few.add(ids[i]);
        }
        return few;
    }

    private void same(String as, String got, String expected) {
        cases++;
        if (!got.equals(expected)) {
            differs.accept(as + " decodes to " + JSON.writeValueAsString(got) + " instead of " + JSON.writeValueAsString(expected));
        }
    }
}
