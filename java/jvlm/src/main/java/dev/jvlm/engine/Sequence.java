package dev.jvlm.engine;

import java.util.Arrays;

/**
 * One request as the scheduler sees it: integers only. A sequence is a prompt whose tokens go into the cache chunk by chunk, then one
 * token a step. "Issued" counts what has been submitted, "received" what has been collected; they differ by at most one token.
 */
final class Sequence {
    final int[] prompt;
    /** For each token of the prompt: the row among the request's own vision rows, or -1. */
    final int[] promptRow;

    final int tiles;
    final int visionRows;
    final int maxTokens;
    /** The device chooses its tokens, so a step may be queued before the last one's id has been read. */
    final boolean runsAhead;

    int[] pages;
    int firstRow = -1;
    /** Which of the running sequences it is, for what the device keeps of each. */
    int slot;
    int tilesEncoded;
    /** Tokens in the cache, those of submitted steps included. */
    int cached;
    /** Answer tokens whose logits have been asked for. */
    int issued;

    private int[] generated = new int[16];
    private int received;
    /** Steps in flight that hold this sequence. */
    int inFlight;
    /** Its row of logits in the step submitted last, or -1 if it was not in that step. */
    int lastRow = -1;
    /** It takes part in no further step. */
    boolean finished;

    Sequence(int[] prompt, int[] promptRow, int tiles, int visionRows, int maxTokens, boolean runsAhead) {
        this.prompt = prompt;
        this.promptRow = promptRow;
        this.tiles = tiles;
        this.visionRows = visionRows;
        this.maxTokens = maxTokens;
        this.runsAhead = runsAhead;
    }

    int pagesNeeded(int pageTokens) {
        // The last token of an answer is never put into the cache.
        return (prompt.length + maxTokens - 1 + pageTokens - 1) / pageTokens;
    }

    boolean prefilled() {
        return cached >= prompt.length;
    }

    /** Whether its next token can be submitted now. */
    boolean canDecode() {
        return prefilled() && !finished && issued < maxTokens && (issued == received || runsAhead && issued == received + 1 && lastRow >= 0);
    }

    void receive(int id) {
        if (received == generated.length) {
            generated = Arrays.copyOf(generated, 2 * received);
        }
        generated[received++] = id;
    }

    int received() {
        return received;
    }

    int generated(int i) {
        return generated[i];
    }

    int[] generated() {
        return Arrays.copyOf(generated, received);
    }
}
