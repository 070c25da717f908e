package dev.jvlm.text;

import java.util.List;

/** Text without added tokens to ids and back. */
interface SubwordModel {

    /**
     * Appends the ids of one segment.
     *
     * @param segment text between two added tokens; never empty
     * @param first whether the segment starts the whole text
     */
    void encode(String segment, boolean first, Ids out);

    /** The text of ids that hold no special token. Ids of other added tokens come as {@code extra}. */
    String decode(int[] ids, List<AddedToken> extra);

    /** The number of ids, added tokens that the model file itself holds included. */
    int size();

    /** Whether an id stands for no text at all, as those of control pieces do. */
    default boolean isControl(int id) {
        return false;
    }

    /** Whether the text of a run of byte pieces may still change with the bytes that follow. */
    boolean isUndecided(byte[] run);

    /** How the file writes the piece of an id; empty if there is no such piece. */
    String pieceName(int id);
}
