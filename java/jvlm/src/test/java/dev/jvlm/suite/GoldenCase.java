package dev.jvlm.suite;

import dev.jvlm.image.Image;
import dev.jvlm.request.Part;
import dev.jvlm.request.Turn;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.List;
import java.util.stream.IntStream;
import tools.jackson.databind.JsonNode;

/**
 * The conversation of a recorded case: {@code <image>} in its texts marks where a picture part stands, and the newline after it belongs to
 * that part.
 */
public record GoldenCase(List<Turn> history, List<Part> question) {
    private static final String PICTURE = "<image>";

    /** @param pictures of the whole conversation, in order */
    public static GoldenCase of(JsonNode c, List<Image> pictures) {
        Iterator<Image> next = pictures.iterator();
        List<Turn> history = new ArrayList<>();
        c.path("history").forEach(t -> history.add(new Turn(parts(t.get(0).asString(), next), t.get(1).asString())));
        String text = c.path("question").asString();
        List<Part> question = new ArrayList<>();
        if (history.isEmpty() && !text.contains(PICTURE)) {
            next.forEachRemaining(picture -> question.add(Part.image(picture)));
        }
        question.addAll(parts(text, next));
        if (next.hasNext()) {
            throw new IllegalArgumentException("a picture has no place in the conversation");
        }
        return new GoldenCase(history, question);
    }

    private static List<Part> parts(String text, Iterator<Image> pictures) {
        List<Part> parts = new ArrayList<>();
        String rest = text;
        for (int at; (at = rest.indexOf(PICTURE)) >= 0; ) {
            if (at > 0) {
                parts.add(Part.text(rest.substring(0, at)));
            }
            parts.add(Part.image(pictures.next()));
            rest = rest.substring(at + PICTURE.length());
            rest = rest.startsWith("\n") ? rest.substring(1) : rest;
        }
        if (!rest.isEmpty() || parts.isEmpty()) {
            parts.add(Part.text(rest));
        }
        return parts;
    }

    public static int[] ints(JsonNode array) {
        return array.valueStream().mapToInt(JsonNode::asInt).toArray();
    }

    /** [[id, repeat], ...] written out. */
    public static int[] unrolled(JsonNode runs) {
        return runs.valueStream()
                .flatMapToInt(run -> IntStream.generate(run.get(0)::asInt).limit(run.get(1).asInt()))
                .toArray();
    }

    /** Of int32, little endian. */
    public static String sha256(int[] ids) {
        ByteBuffer bytes = ByteBuffer.allocate(4 * ids.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asIntBuffer().put(ids);
        return sha256(bytes);
    }

    public static String sha256(ByteBuffer bytes) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            digest.update(bytes);
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
