package dev.jvlm.suite;

import dev.jvlm.image.AspectTiler;
import dev.jvlm.image.GridTiler;
import dev.jvlm.image.Image;
import dev.jvlm.image.Tiler;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.Prompt;
import dev.jvlm.model.Tiling;
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
import java.util.stream.Stream;
import tools.jackson.databind.JsonNode;

/**
 * The conversation of a recorded case. {@code <image>} in a {@code question} and its history marks where a picture part stands, and the
 * newline after it belongs to that part; {@code parts} and their history are lists, in which {@code I:} marks a picture.
 */
public record GoldenCase(List<Turn> history, List<Part> question) {
    private static final String PICTURE = "<image>";

    private static final String FILE = "I:";

    /** @param pictures of the whole conversation, in order */
    public static GoldenCase of(JsonNode c, List<Image> pictures) {
        Iterator<Image> next = pictures.iterator();
        List<Turn> history = new ArrayList<>();
        if (c.has("parts")) {
            for (int i = 0; i < c.path("history").size(); i += 2) {
                history.add(new Turn(listed(c.path("history").get(i).get(1), next), c.path("history").get(i + 1).get(1).get(0).asString()));
            }
            return new GoldenCase(history, listed(c.path("parts"), next));
        }
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

    private static List<Part> listed(JsonNode parts, Iterator<Image> pictures) {
        return parts.valueStream()
                .map(p -> p.asString().startsWith(FILE) ? Part.image(pictures.next()) : Part.text(p.asString()))
                .toList();
    }

    /** The files of the conversation's pictures, in order. */
    public static List<String> pictures(JsonNode c) {
        if (!c.has("parts")) {
            return c.path("images").valueStream().map(JsonNode::asString).toList();
        }
        return Stream.concat(c.path("history").valueStream().map(turn -> turn.get(1)), Stream.of(c.path("parts")))
                .flatMap(JsonNode::valueStream)
                .map(JsonNode::asString)
                .filter(part -> part.startsWith(FILE))
                .map(part -> part.substring(FILE.length()))
                .toList();
    }

    /** The tiler with the case's own settings. */
    public static Tiler tiler(JsonNode c, Checkpoint checkpoint) {
        int patch = checkpoint.blueprint().spec().vision().patch();
        if (checkpoint.blueprint().tiling() instanceof Tiling.Grid grid) {
            return new GridTiler(grid.tileSize(), patch, grid.minTiles(), c.path("max_tiles").asInt(), grid.thumbnail(), c.path("msac").asBoolean());
        }
        Tiling.Aspect aspect = (Tiling.Aspect) checkpoint.blueprint().tiling();
        return new AspectTiler(
                aspect.longest(), aspect.shortest(), patch, c.path("split").asBoolean(), c.path("patch_rule").asString().equals("any"));
    }

    /** @param rows vision rows of each picture */
    public Prompt prompt(JsonNode c, Checkpoint checkpoint, int[] rows) {
        int context = checkpoint.blueprint().spec().decoder().context();
        return c.path("base").asBoolean(false)
                ? checkpoint.completion(question, rows, context)
                : checkpoint.prompt(c.path("system").asString(null), history, question, rows, context);
    }

    /** The prompt's ids as they were recorded. */
    public static int[] ids(JsonNode c) {
        return c.has("ids_rle") ? unrolled(c.path("ids_rle")) : ints(c.path("ids"));
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
