package dev.jvlm.text;

import dev.jvlm.error.JvlmException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * A SentencePiece BPE model, read from a {@code tokenizer.model} file (the protocol buffer {@code ModelProto} of
 * {@code sentencepiece_model.proto}).
 */
final class SentencePiece implements SubwordModel {

    private static final char BLANK = '\u2581';
    private static final int BPE = 2;

    /** The kinds of piece, by their number in the file. */
    private enum Type {
        NORMAL,
        UNKNOWN,
        CONTROL,
        USER_DEFINED,
        UNUSED,
        BYTE
    }

    private record Piece(String text, float score, Type type) {}

    private final List<Piece> pieces = new ArrayList<>();
    /** Pieces that text can become: normal and user-defined ones. */
    private final Map<String, Integer> ids = new HashMap<>();
    private final int[] byteIds = new int[256];
    private int unknownId = -1;
    /** The longest user-defined piece, in chars; 0 if there is none. */
    private int longestUserDefined;

    private int modelType = 1;
    private boolean byteFallback;
    private boolean addDummyPrefix = true;
    private boolean removeExtraBlanks = true;
    private boolean escapeBlanks = true;

    SentencePiece(byte[] file) {
        try {
            readModel(ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN));
        } catch (BufferUnderflowException | IllegalArgumentException e) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT,
                    "tokenizer.model is damaged or no SentencePiece model; copy it again from the checkpoint",
                    e);
        }
        if (modelType != BPE) {
            throw unsupported("its model type is " + modelType + ", and only BPE (2) is implemented");
        }
        if (!escapeBlanks) {
            throw unsupported("it does not escape blanks");
        }
        Arrays.fill(byteIds, -1);
        for (int id = 0; id < pieces.size(); id++) {
            index(id, pieces.get(id));
        }
        if (unknownId < 0) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, "tokenizer.model has no piece for unknown text");
        }
        if (byteFallback && Arrays.stream(byteIds).anyMatch(id -> id < 0)) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, "tokenizer.model lacks some of the 256 byte pieces");
        }
    }

    private void index(int id, Piece piece) {
        switch (piece.type) {
            case NORMAL -> ids.put(piece.text, id);
            case USER_DEFINED -> {
                ids.put(piece.text, id);
                longestUserDefined = Math.max(longestUserDefined, piece.text.length());
            }
            case UNKNOWN -> unknownId = id;
            case BYTE -> byteIds[ByteRuns.valueOf(piece.text)] = id;
            case CONTROL -> {}
            case UNUSED -> throw unsupported("it has unused pieces");
        }
    }

    private static JvlmException unsupported(String why) {
        return new JvlmException(JvlmException.Code.MODEL_UNSUPPORTED, "tokenizer.model cannot be used: " + why);
    }

    @Override
    public int size() {
        return pieces.size();
    }

    @Override
    public void encode(String segment, boolean first, Ids out) {
        String text = normalise(segment);
        List<String> symbols = new ArrayList<>(text.length());
        boolean[] frozen = new boolean[text.length()];
        for (int i = 0; i < text.length(); ) {
            int length = userDefinedAt(text, i);
            frozen[symbols.size()] = length > 0;
            if (length == 0) {
                length = Character.charCount(text.codePointAt(i));
            }
            symbols.add(text.substring(i, i + length));
            i += length;
        }
        for (String symbol : PairMerge.merge(symbols, frozen, this::rank)) {
            Integer id = ids.get(symbol);
            if (id != null) {
                out.add(id);
            } else if (byteFallback) {
                for (byte b : symbol.getBytes(StandardCharsets.UTF_8)) {
                    out.add(byteIds[b & 0xFF]);
                }
            } else {
                out.add(unknownId);
            }
        }
    }

    private double rank(String left, String right) {
        Integer id = ids.get(left.concat(right));
        return id == null ? Double.NaN : -pieces.get(id).score;
    }

    private int userDefinedAt(String text, int at) {
        for (int length = Math.min(longestUserDefined, text.length() - at); length > 0; length--) {
            Integer id = ids.get(text.substring(at, at + length));
            if (id != null && pieces.get(id).type == Type.USER_DEFINED) {
                return length;
            }
        }
        return 0;
    }

    private String normalise(String segment) {
        String text = Utf8.wellFormed(segment);
        if (removeExtraBlanks) {
            int start = 0;
            int end = text.length();
            while (start < end && text.charAt(start) == ' ') {
                start++;
            }
            while (end > start && text.charAt(end - 1) == ' ') {
                end--;
            }
            text = text.substring(start, end).replaceAll(" {2,}", " ");
        }
        if (text.isEmpty()) {
            return text;
        }
        return (addDummyPrefix ? String.valueOf(BLANK) : "") + text.replace(' ', BLANK);
    }

    @Override
    public String pieceName(int id) {
        return id < 0 || id >= pieces.size() ? "" : pieces.get(id).text;
    }

    @Override
    public boolean isControl(int id) {
        return id >= 0 && id < pieces.size() && pieces.get(id).type == Type.CONTROL;
    }

    @Override
    public boolean isUndecided(byte[] run) {
        return Utf8.endsInsideCharacter(run);
    }

    @Override
    public String decode(int[] idsToDecode, List<AddedToken> extra) {
        ByteRuns runs = new ByteRuns(Utf8::decodeEachByte);
        boolean atStart = true;
        for (int id : idsToDecode) {
            if (id < 0 || id >= pieces.size()) {
                extra.stream().filter(t -> t.id() == id).forEach(t -> runs.addText(t.content()));
                atStart = false;
                continue;
            }
            Piece piece = pieces.get(id);
            switch (piece.type) {
                case BYTE -> runs.addByte(ByteRuns.valueOf(piece.text));
                case UNKNOWN -> runs.addText(" \u2047 ");
                case CONTROL -> {
                    continue;
                }
                default -> {
                    boolean dropBlank = atStart && (addDummyPrefix || removeExtraBlanks) && piece.text.charAt(0) == BLANK;
                    runs.addText((dropBlank ? piece.text.substring(1) : piece.text).replace(BLANK, ' '));
                }
            }
            atStart = false;
        }
        return runs.finish();
    }

    // ---- the file: tags and lengths as in any protocol buffer ----

    private void readModel(ByteBuffer in) {
        while (in.hasRemaining()) {
            int tag = (int) varint(in);
            switch (tag) {
                case 1 << 3 | 2 -> pieces.add(readPiece(message(in)));
                case 2 << 3 | 2 -> readTrainer(message(in));
                case 3 << 3 | 2 -> readNormaliser(message(in));
                default -> skip(in, tag);
            }
        }
    }

    private static Piece readPiece(ByteBuffer in) {
        String text = "";
        float score = 0;
        Type type = Type.NORMAL;
        while (in.hasRemaining()) {
            int tag = (int) varint(in);
            switch (tag) {
                case 1 << 3 | 2 -> text = StandardCharsets.UTF_8.decode(message(in)).toString();
                case 2 << 3 | 5 -> score = in.getFloat();
                case 3 << 3 -> {
                    int number = (int) varint(in);
                    if (number < 1 || number > Type.values().length) {
                        throw new IllegalArgumentException("piece type " + number);
                    }
                    type = Type.values()[number - 1];
                }
                default -> skip(in, tag);
            }
        }
        if (text.isEmpty() || type == Type.BYTE && ByteRuns.valueOf(text) < 0) {
            throw new IllegalArgumentException("piece '" + text + "'");
        }
        return new Piece(text, score, type);
    }

    private void readTrainer(ByteBuffer in) {
        while (in.hasRemaining()) {
            int tag = (int) varint(in);
            switch (tag) {
                case 3 << 3 -> modelType = (int) varint(in);
                case 35 << 3 -> byteFallback = varint(in) != 0;
                default -> skip(in, tag);
            }
        }
    }

    private void readNormaliser(ByteBuffer in) {
        while (in.hasRemaining()) {
            int tag = (int) varint(in);
            switch (tag) {
                case 2 << 3 | 2 -> {
                    if (message(in).hasRemaining()) {
                        throw unsupported("it maps characters (precompiled_charsmap)");
                    }
                }
                case 3 << 3 -> addDummyPrefix = varint(in) != 0;
                case 4 << 3 -> removeExtraBlanks = varint(in) != 0;
                case 5 << 3 -> escapeBlanks = varint(in) != 0;
                default -> skip(in, tag);
            }
        }
    }

    private static long varint(ByteBuffer in) {
        long value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            byte b = in.get();
            value |= (long) (b & 0x7F) << shift;
            if (b >= 0) {
                return value;
            }
        }
        throw new IllegalArgumentException("varint too long");
    }

    private static ByteBuffer message(ByteBuffer in) {
        long length = varint(in);
        if (length < 0 || length > in.remaining()) {
            throw new BufferUnderflowException();
        }
        ByteBuffer part = in.slice(in.position(), (int) length).order(ByteOrder.LITTLE_ENDIAN);
        in.position(in.position() + (int) length);
        return part;
    }

    private static void skip(ByteBuffer in, int tag) {
        switch (tag & 7) {
            case 0 -> varint(in);
            case 1 -> in.getLong();
            case 2 -> message(in);
            case 5 -> in.getInt();
            default -> throw new IllegalArgumentException("wire type " + (tag & 7));
        }
    }
}
