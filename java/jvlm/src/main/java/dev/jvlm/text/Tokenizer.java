package dev.jvlm.text;

import dev.jvlm.error.JvlmException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/** Strings to ids and back: added tokens around a subword model. Immutable, safe for any number of threads. */
public final class Tokenizer {

    private static final ObjectMapper JSON = new ObjectMapper();

    private final SubwordModel model;
    /** Longest content first, so that the first match at a position is the longest. */
    private final List<AddedToken> added;

    private final Map<String, Integer> addedIds = new LinkedHashMap<>();
    private final BitSet special = new BitSet();
    private final int bos;
    private final boolean cleansUp;
    private final int size;

    private Tokenizer(SubwordModel model, List<AddedToken> added, int bos, boolean cleansUp) {
        this.model = model;
        this.added = added.stream()
                .sorted(Comparator.comparingInt((AddedToken t) -> t.content().length()).reversed())
                .toList();
        added.forEach(t -> addedIds.put(t.content(), t.id()));
        added.stream().filter(AddedToken::special).forEach(t -> special.set(t.id()));
        this.bos = bos;
        this.cleansUp = cleansUp;
        this.size = Math.max(model.size(), added.stream().mapToInt(t -> t.id() + 1).max().orElse(0));
    }

    /**
     * Reads the tokenizer of a checkpoint folder: {@code tokenizer.model}, which is what the references use, or
     * {@code tokenizer.json} where there is no such file, and {@code tokenizer_config.json} and {@code added_tokens.json} beside it.
     *
     * @throws JvlmException MODEL_FORMAT if a file is missing or damaged, MODEL_UNSUPPORTED if it uses what is not implemented
     */
    public static Tokenizer load(Path folder) {
        Path sentencePiece = folder.resolve("tokenizer.model");
        Path json = folder.resolve("tokenizer.json");
        if (Files.exists(sentencePiece)) {
            return load(folder, new SentencePiece(read(sentencePiece)), List.of());
        }
        if (Files.exists(json)) {
            JsonNode root = parse(json);
            return load(folder, new TokenizerJson(root), addedTokens(root.path("added_tokens")));
        }
        throw new JvlmException(
                JvlmException.Code.MODEL_FORMAT,
                "The folder has neither tokenizer.model nor tokenizer.json; copy it from the checkpoint");
    }

    private static Tokenizer load(Path folder, SubwordModel model, List<AddedToken> fromModel) {
        Map<Integer, AddedToken> added = new LinkedHashMap<>();
        fromModel.forEach(t -> added.put(t.id(), t));
        Path simple = folder.resolve("added_tokens.json");
        if (Files.exists(simple)) {
            parse(simple).properties().forEach(e -> added.putIfAbsent(
                    e.getValue().asInt(), new AddedToken(e.getValue().asInt(), e.getKey(), false, false, true)));
        }
        int bos = -1;
        boolean cleansUp = false;
        Path configFile = folder.resolve("tokenizer_config.json");
        if (Files.exists(configFile)) {
            JsonNode config = parse(configFile);
            config.path("added_tokens_decoder").properties().forEach(e -> {
                AddedToken token = addedToken(Integer.parseInt(e.getKey()), e.getValue());
                added.put(token.id(), token);
            });
            cleansUp = config.path("clean_up_tokenization_spaces").asBoolean(false)
                    || config.path("tokenizer_class").asString("").equals("InternLM2Tokenizer");
            if (config.path("add_bos_token").asBoolean(false)) {
                JsonNode bosToken = config.path("bos_token");
                String content = bosToken.isObject() ? bosToken.path("content").asString() : bosToken.asString("");
                bos = added.values().stream()
                        .filter(t -> t.content().equals(content))
                        .mapToInt(AddedToken::id)
                        .findFirst()
                        .orElseThrow(() -> new JvlmException(
                                JvlmException.Code.MODEL_FORMAT,
                                "tokenizer_config.json asks for a first token '" + content + "' that it does not list"));
            }
        }
        return new Tokenizer(model, List.copyOf(added.values()), bos, cleansUp);
    }

    private static List<AddedToken> addedTokens(JsonNode list) {
        List<AddedToken> tokens = new ArrayList<>();
        list.forEach(t -> tokens.add(addedToken(t.path("id").asInt(), t)));
        return tokens;
    }

    private static AddedToken addedToken(int id, JsonNode t) {
        String content = t.path("content").asString("");
        if (content.isEmpty() || id < 0) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, "An added token has no content or a negative id");
        }
        if (t.path("single_word").asBoolean(false)) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_UNSUPPORTED,
                    "The added token '" + content + "' is matched as a single word only, which is not implemented");
        }
        return new AddedToken(
                id,
                content,
                t.path("lstrip").asBoolean(false),
                t.path("rstrip").asBoolean(false),
                t.path("special").asBoolean(false));
    }

    private static byte[] read(Path file) {
        try {
            return Files.readAllBytes(file);
        } catch (IOException e) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, file.getFileName() + " cannot be read", e);
        }
    }

    private static JsonNode parse(Path file) {
        try {
            return JSON.readTree(read(file));
        } catch (JacksonException e) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, file.getFileName() + " is no valid JSON", e);
        }
    }

    /** The number of ids: one more than the largest. */
    public int size() {
        return size;
    }

    /** The id of an added token, or -1 if there is none of this content. */
    public int addedId(String content) {
        return addedIds.getOrDefault(content, -1);
    }

    /** The ids of a whole text that counts as template, with the first token where the tokenizer adds one. */
    public int[] encode(String text) {
        return encode(List.of(Span.template(text)));
    }

    /**
     * The ids of a rendered prompt. The text is encoded in one pass, because merges may cross the border between template and user
     * text; added tokens are matched only where they lie inside one template span.
     */
    public int[] encode(List<Span> spans) {
        StringBuilder text = new StringBuilder();
        spans.forEach(s -> text.append(s.text()));
        Ids out = new Ids();
        if (bos >= 0) {
            out.add(bos);
        }
        String all = text.toString();
        int segment = 0;
        int offset = 0;
        for (Span span : spans) {
            int end = offset + span.text().length();
            for (int i = offset; span.template() && i < end; ) {
                AddedToken token = addedAt(all, i, end);
                if (token == null) {
                    i++;
                    continue;
                }
                int from = i;
                while (token.lstrip() && from > segment && Character.isWhitespace(all.charAt(from - 1))) {
                    from--;
                }
                encodeSegment(all, segment, from, out);
                out.add(token.id());
                i += token.content().length();
                while (token.rstrip() && i < all.length() && Character.isWhitespace(all.charAt(i))) {
                    i++;
                }
                segment = i;
            }
            offset = end;
        }
        encodeSegment(all, segment, all.length(), out);
        return out.toArray();
    }

    private void encodeSegment(String text, int from, int to, Ids out) {
        if (from < to) {
            model.encode(text.substring(from, to), from == 0, out);
        }
    }

    private AddedToken addedAt(String text, int at, int end) {
        for (AddedToken token : added) {
            if (at + token.content().length() <= end && text.startsWith(token.content(), at)) {
                return token;
            }
        }
        return null;
    }

    /** How the vocabulary writes the piece of an id; empty for ids that have none. An added token's name is its content. */
    public String pieceName(int id) {
        return added.stream().filter(t -> t.id() == id).map(AddedToken::content).findFirst().orElseGet(() -> model.pieceName(id));
    }

    /** The byte, 0 to 255, that an id stands for and that may be part of a character, or -1. */
    int byteOf(int id) {
        return ByteRuns.valueOf(model.pieceName(id));
    }

    /** Whether the text of a run of byte pieces may still change with the bytes that follow. */
    boolean isUndecided(byte[] run) {
        return model.isUndecided(run);
    }

    /** Whether decoding passes over an id: special tokens, control pieces, and ids that have no piece, for a model may have unused rows. */
    boolean isSilent(int id) {
        return id < 0 || special.get(id) || model.isControl(id) || pieceName(id).isEmpty();
    }

    /** Whether {@link #decode} takes blanks away as {@link CleanUp} does. */
    boolean cleansUp() {
        return cleansUp;
    }

    /** The text of ids; those that stand for no text ({@code <s>}, {@code <|end|>}, unused rows) are passed over. */
    public String decode(int[] ids) {
        String raw = decodeRaw(ids);
        return cleansUp ? CleanUp.of(raw) : raw;
    }

    /** The text of one id by itself, before blanks are taken away. */
    public String decode(int id) {
        return decodeRaw(new int[] {id});
    }

    /** {@link #decode} before blanks are taken away. */
    String decodeRaw(int[] ids) {
        return decodeWithSpecial(Arrays.stream(ids).filter(id -> !isSilent(id)).toArray());
    }

    /** The text of ids, special tokens written out. */
    String decodeWithSpecial(int[] ids) {
        return model.decode(ids, added);
    }
}
