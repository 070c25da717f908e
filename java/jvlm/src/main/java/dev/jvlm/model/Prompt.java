package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import dev.jvlm.request.Part;
import dev.jvlm.request.Turn;
import dev.jvlm.text.Tokenizer;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * A prompt as the decoder takes it.
 *
 * @param ids one a position; the row token where a picture lies
 * @param visionRow for each position, the vision row that takes the place of its token's embedding, counted from 0 over all pictures of
 *     the request in their order; -1 for a token
 * @param rows the number of vision rows
 */
public record Prompt(int[] ids, int[] visionRow, int rows) {

    /**
     * Renders a conversation and encodes it in one pass. A picture goes through the tokenizer as one row token and is stretched
     * afterwards: added tokens split the text, so the ids are those of the written-out placeholders, at no cost.
     *
     * @param system the system prompt, or null for the family's own
     * @param pictureRows vision rows of each picture, in the order in which the conversation holds them
     * @param rowsPerTile how many of them a tile has
     * @param context the most positions there is room for
     * @throws JvlmException REQUEST if pictures and rows do not match or the prompt is longer than the context
     */
    static Prompt encode(Tokenizer tokenizer, ChatTemplate template, String system, List<Turn> history, List<Part> question,
            int[] pictureRows, int rowsPerTile, int context) {
        long pictures = pictures(question) + history.stream().mapToLong(turn -> pictures(turn.question())).sum();
        if (pictures != pictureRows.length || Arrays.stream(pictureRows).anyMatch(rows -> rows < 1)) {
            throw new JvlmException(
                    JvlmException.Code.REQUEST,
                    "The conversation holds " + pictures + " pictures, but vision rows were given for " + pictureRows.length
                            + "; each picture needs at least one row");
        }
        int row = tokenizer.addedId(template.picture().row());
        int separator = template.picture().separates() ? tokenizer.addedId(template.picture().start()) : -1;
        int[] encoded = once(separator, tokenizer.encode(template.render(system, history, question)));
        long placeholders = Arrays.stream(encoded).filter(id -> id == row).count();
        if (placeholders != pictures) {
            throw new JvlmException(
                    JvlmException.Code.REQUEST,
                    "The prompt has " + placeholders + " places for " + pictures + " pictures");
        }
        long rows = Arrays.stream(pictureRows).asLongStream().sum();
        long between = separator < 0 ? 0 : Arrays.stream(pictureRows).asLongStream().map(r -> (r - 1) / rowsPerTile).sum();
        long length = encoded.length - pictures + rows + between;
        if (length > context) {
            throw new JvlmException(
                    JvlmException.Code.REQUEST,
                    "The prompt has " + length + " tokens, " + rows + " of them for pictures, but the context holds " + context
                            + "; shorten the text, send fewer pictures or make fewer tiles of them");
        }
        int[] ids = new int[(int) length];
        int[] visionRow = new int[(int) length];
        Arrays.fill(visionRow, -1);
        int at = 0;
        int picture = 0;
        int nextRow = 0;
        for (int id : encoded) {
            if (id != row) {
                ids[at++] = id;
                continue;
            }
            int count = pictureRows[picture++];
            for (int i = 0; i < count; i++) {
                if (separator >= 0 && i > 0 && i % rowsPerTile == 0) {
                    ids[at++] = separator;
                }
                ids[at] = row;
                visionRow[at++] = nextRow++;
            }
        }
        return new Prompt(ids, visionRow, nextRow);
    }

    /** The ids with only the first of neighbouring separators. */
    private static int[] once(int separator, int[] ids) {
        return IntStream.range(0, ids.length)
                .filter(i -> i == 0 || ids[i] != separator || ids[i - 1] != separator)
                .map(i -> ids[i])
                .toArray();
    }

    private static long pictures(List<Part> parts) {
        return parts.stream().filter(Part.Picture.class::isInstance).count();
    }
}
