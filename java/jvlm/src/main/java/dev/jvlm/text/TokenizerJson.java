package dev.jvlm.text;

import dev.jvlm.error.JvlmException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import tools.jackson.databind.JsonNode;

/**
 * The BPE model of a {@code tokenizer.json} file, as far as the supported families use that format: the normalisers Prepend and
 * Replace, the pre-tokenizer Metaspace without splitting, the decoders Replace, ByteFallback, Fuse and Strip. Anything else is refused
 * by name.
 */
final class TokenizerJson implements SubwordModel {

    private record Pair(String left, String right) {}

    private record Replacement(String pattern, String content) {}

    private final Map<String, Integer> vocabulary = new HashMap<>();
    private final String[] pieces;
    private final Map<Pair, Integer> merges = new HashMap<>();
    private final boolean byteFallback;
    private final boolean fuseUnknown;
    private final Integer unknownId;

    private String prepend = "";
    private final List<Replacement> normaliserReplacements = new ArrayList<>();
    private String prependToFirst = "";
    private final List<Replacement> decoderReplacements = new ArrayList<>();
    private int stripAtStart;
    private String stripped = "";

    TokenizerJson(JsonNode root) {
        JsonNode model = root.path("model");
        if (!model.path("type").asString("").equals("BPE")) {
            throw unsupported("model type " + model.path("type"));
        }
        model.path("vocab").properties().forEach(e -> vocabulary.put(e.getKey(), e.getValue().asInt()));
        int size = 0;
        for (int id : vocabulary.values()) {
            if (id < 0 || id > 10_000_000) {
                throw new JvlmException(JvlmException.Code.MODEL_FORMAT, "tokenizer.json holds the id " + id);
            }
            size = Math.max(size, id + 1);
        }
        pieces = new String[size];
        vocabulary.forEach((piece, id) -> pieces[id] = piece);
        int rank = 0;
        for (JsonNode merge : model.path("merges")) {
            merges.put(pair(merge), rank++);
        }
        byteFallback = model.path("byte_fallback").asBoolean(false);
        fuseUnknown = model.path("fuse_unk").asBoolean(false);
        unknownId = vocabulary.get(model.path("unk_token").asString(""));
        if (model.path("ignore_merges").asBoolean(false)) {
            throw unsupported("ignore_merges");
        }
        readNormaliser(root.path("normalizer"));
        readPreTokenizer(root.path("pre_tokenizer"));
        readDecoder(root.path("decoder"));
    }

    private static Pair pair(JsonNode merge) {
        if (merge.isArray()) {
            return new Pair(merge.get(0).asString(), merge.get(1).asString());
        }
        String text = merge.asString();
        int blank = text.indexOf(' ', 1);
        if (blank < 0) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, "tokenizer.json holds the merge '" + text + "' without a blank");
        }
        return new Pair(text.substring(0, blank), text.substring(blank + 1));
    }

    private void readNormaliser(JsonNode node) {
        switch (type(node)) {
            case "" -> {}
            case "Sequence" -> node.path("normalizers").forEach(this::readNormaliser);
            case "Prepend" -> {
                if (!normaliserReplacements.isEmpty()) {
                    throw unsupported("Prepend after Replace");
                }
                prepend = node.path("prepend").asString();
            }
            case "Replace" -> normaliserReplacements.add(replacement(node));
            default -> throw unsupported("normalizer " + type(node));
        }
    }

    private void readPreTokenizer(JsonNode node) {
        switch (type(node)) {
            case "" -> {}
            case "Metaspace" -> {
                if (node.path("split").asBoolean(true) || !node.path("prepend_scheme").asString("").equals("first")) {
                    throw unsupported("Metaspace that splits or prepends elsewhere than at the start");
                }
                String blank = node.path("replacement").asString();
                prependToFirst = blank;
                normaliserReplacements.add(new Replacement(" ", blank));
            }
            default -> throw unsupported("pre_tokenizer " + type(node));
        }
    }

    private void readDecoder(JsonNode node) {
        switch (type(node)) {
            case "", "ByteFallback", "Fuse" -> {}
            case "Sequence" -> node.path("decoders").forEach(this::readDecoder);
            case "Replace" -> decoderReplacements.add(replacement(node));
            case "Strip" -> {
                if (node.path("stop").asInt(0) != 0) {
                    throw unsupported("Strip at the end");
                }
                stripped = node.path("content").asString();
                stripAtStart = node.path("start").asInt();
            }
            default -> throw unsupported("decoder " + type(node));
        }
    }

    private static String type(JsonNode node) {
        return node.path("type").asString("");
    }

    private static Replacement replacement(JsonNode node) {
        JsonNode pattern = node.path("pattern").path("String");
        if (!pattern.isString()) {
            throw unsupported("Replace with a regular expression");
        }
        return new Replacement(pattern.asString(), node.path("content").asString());
    }

    private static JvlmException unsupported(String what) {
        return new JvlmException(
                JvlmException.Code.MODEL_UNSUPPORTED, "tokenizer.json uses " + what + ", which is not implemented");
    }

    @Override
    public String pieceName(int id) {
        return id < 0 || id >= pieces.length || pieces[id] == null ? "" : pieces[id];
    }

    @Override
    public int size() {
        return pieces.length;
    }

    @Override
    public void encode(String segment, boolean first, Ids out) {
        String text = prepend + Utf8.wellFormed(segment);
        for (Replacement r : normaliserReplacements) {
            text = text.replace(r.pattern, r.content);
        }
        if (first && !text.startsWith(prependToFirst)) {
            text = prependToFirst + text;
        }
        List<String> symbols = new ArrayList<>(text.length());
        for (int i = 0; i < text.length(); ) {
            int length = Character.charCount(text.codePointAt(i));
            symbols.add(text.substring(i, i + length));
            i += length;
        }
        boolean lastUnknown = false;
        for (String symbol : PairMerge.merge(symbols, new boolean[symbols.size()], this::rank)) {
            Integer id = vocabulary.get(symbol);
            boolean unknown = id == null && !addBytes(symbol, out);
            if (id != null) {
                out.add(id);
            } else if (unknown && unknownId != null && !(fuseUnknown && lastUnknown)) {
                out.add(unknownId);
            }
            lastUnknown = unknown;
        }
    }

    private boolean addBytes(String symbol, Ids out) {
        if (!byteFallback) {
            return false;
        }
        byte[] bytes = symbol.getBytes(StandardCharsets.UTF_8);
        int[] ids = new int[bytes.length];
        for (int i = 0; i < bytes.length; i++) {
            Integer id = vocabulary.get(String.format("<0x%02X>", bytes[i] & 0xFF));
            if (id == null) {
                return false;
            }
            ids[i] = id;
        }
        for (int id : ids) {
            out.add(id);
        }
        return true;
    }

    private double rank(String left, String right) {
        Integer rank = merges.get(new Pair(left, right));
        return rank == null ? Double.NaN : rank;
    }

    @Override
    public boolean isUndecided(byte[] run) {
        return true; // one invalid byte, however late, turns the whole run into replacement characters
    }

    @Override
    public String decode(int[] ids, List<AddedToken> extra) {
        ByteRuns runs = new ByteRuns(Utf8::decodeWholeRun);
        for (int id : ids) {
            String piece = id >= 0 && id < pieces.length ? pieces[id] : null;
            if (piece == null) {
                piece = extra.stream().filter(t -> t.id() == id).map(AddedToken::content).findFirst().orElse("");
            }
            int value = byteFallback ? ByteRuns.valueOf(piece) : -1;
            if (value >= 0) {
                runs.addByte(value);
                continue;
            }
            for (Replacement r : decoderReplacements) {
                piece = piece.replace(r.pattern, r.content);
            }
            runs.addText(piece);
        }
        String text = runs.finish();
        for (int i = 0; i < stripAtStart && text.startsWith(stripped); i++) {
            text = text.substring(stripped.length());
        }
        return text;
    }
}
