package dev.jvlm.engine;

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
 */
record Limits(
        String precision, int pages, int pageTokens, int sequences, int stepTokens, int visionRows, int encodeTiles, int context) {
    String toText() {
        return "precision " + precision + "\npages " + pages + "\npage_tokens " + pageTokens + "\nsequences " + sequences
                + "\nstep_tokens " + stepTokens + "\nvision_rows " + visionRows + "\nencode_tiles " + encodeTiles + "\ncontext " + context
                + "\n";
    }
}
