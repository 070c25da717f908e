package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import dev.jvlm.request.Part;
import dev.jvlm.request.Turn;
import dev.jvlm.text.Tokenizer;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;

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
        List<Part> parts = Stream.concat(history.stream().flatMap(turn -> turn.question().stream()), question.stream()).toList();
        int pictures = parts.stream().mapToInt(part -> part.images().size()).sum();
        if (pictures != pictureRows.length || Arrays.stream(pictureRows).anyMatch(rows -> rows < 1)) {
            throw new JvlmException(
                    JvlmException.Code.REQUEST,
                    "The conversation holds " + pictures + " pictures, but vision rows were given for " + pictureRows.length
                            + "; each picture needs at least one row");
        }
        int row = tokenizer.addedId(template.picture().row());
        int separator = template.picture().separates() ? tokenizer.addedId(template.picture().start()) : -1;
        int[] encoded = once(separator, tokenizer.encode(template.render(system, history, question)));
        long[] blocks = blocks(parts, pictureRows);
        long placeholders = Arrays.stream(encoded).filter(id -> id == row).count();
        if (placeholders != blocks.length) {
            throw new JvlmException(
                    JvlmException.Code.REQUEST,
                    "The prompt has " + placeholders + " places for " + blocks.length + " blocks of pictures");
        }
        long rows = Arrays.stream(pictureRows).asLongStream().sum();
        long between = separator < 0 ? 0 : Arrays.stream(blocks).map(r -> (r - 1) / rowsPerTile).sum();
        long length = encoded.length - blocks.length + rows + between;
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
        int block = 0;
        int nextRow = 0;
        for (int id : encoded) {
            if (id != row) {
                ids[at++] = id;
                continue;
            }
            long count = blocks[block++];
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

    /** The rows that each placeholder stands for: those of a part's picture, or of all its pictures. */
    private static long[] blocks(List<Part> parts, int[] pictureRows) {
        long[] blocks = new long[(int) parts.stream().filter(part -> !part.images().isEmpty()).count()];
        int block = 0;
        int picture = 0;
        for (Part part : parts) {
            int count = part.images().size();
            if (count > 0) {
                blocks[block++] = Arrays.stream(pictureRows, picture, picture + count).asLongStream().sum();
                picture += count;
            }
        }
        return blocks;
    }
}
