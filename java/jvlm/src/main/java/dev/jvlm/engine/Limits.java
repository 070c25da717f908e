package dev.jvlm.engine;

import dev.jvlm.error.JvlmException;
import dev.jvlm.model.ModelSpec;
import dev.jvlm.model.Tiling;

/**
 * What an engine may hold at once ({@code native/engine/limits.h}).
 *
 * @param precision float32, bf16 or int8
 * @param pages pages of the cache
 * @param pageTokens tokens a page
 * @param sequences sequences in one step
 * @param stepTokens tokens in one step
 * @param visionRows rows of the vision buffer
 * @param encodeTiles tiles in one call of encode
 * @param context longest sequence, in tokens
 * @param deterministic whether a sequence's numbers do not depend on what else is in its steps
 */
record Limits(
        String precision, int pages, int pageTokens, int sequences, int stepTokens, int visionRows, int encodeTiles, int context,
        boolean deterministic) {
    private static final int DEFAULT_CONTEXT = 8192;
    private static final int PAGE_TOKENS = 64;

    /** Prompt tokens a step: enough rows for products at full speed, few enough that running answers do not stall for long. */
    private static final int STEP_TOKENS = 1024;

    /** Rows of the vision tower that make products run at full speed: one tile of 448 pixels, several smaller ones. */
    private static final int ENCODE_TOKENS = 1025;

    /** The same on a card, whose multiprocessors one tile does not fill: a page of six tiles and its thumbnail. */
    private static final int ENCODE_TOKENS_CARD = 7 * 1025;

    /**
     * The limits for a model.
     *
     * @param device decides how many pictures are encoded at once
     * @param context tokens, or 0 for the smaller of the model's maximum and 8192
     * @throws JvlmException REQUEST if the model cannot have such a context
     */
    static Limits of(ModelSpec spec, Tiling tiling, String device, String precision, boolean deterministic, int context,
            int sequences) {
        int most = spec.decoder().context();
        if (context > most) {
            throw new JvlmException(
                    JvlmException.Code.REQUEST, "The context is " + context + " tokens; this model was made for at most " + most);
        }
        int tokens = context > 0 ? context : Math.min(most, DEFAULT_CONTEXT);
        int pages = Math.multiplyExact(sequences, (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS);
        // Two of the largest pictures, so that one is encoded while the other is read; any prompt that fits the context fits here too.
        int rows = Math.max(tokens, 2 * tiling.mostTiles() * spec.rowsPerTile());
        int encoded = device.equals("cpu") ? ENCODE_TOKENS : ENCODE_TOKENS_CARD;
        return new Limits(precision, pages, PAGE_TOKENS, sequences, Math.max(sequences, Math.min(tokens, STEP_TOKENS)), rows,
                Math.max(1, Math.min(16, encoded / spec.vision().tokens())), tokens, deterministic);
    }

    String toText() {
        return "precision " + precision + "\npages " + pages + "\npage_tokens " + pageTokens + "\nsequences " + sequences
                + "\nstep_tokens " + stepTokens + "\nvision_rows " + visionRows + "\nencode_tiles " + encodeTiles + "\ncontext " + context
                + "\ndeterministic " + (deterministic ? 1 : 0) + "\n";
    }
}
