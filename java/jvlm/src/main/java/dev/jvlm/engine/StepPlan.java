package dev.jvlm.engine;

import dev.jvlm.sampling.DeviceSampling;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;

/**
 * One step's ragged batch as native code reads it ({@code submit} in {@code jvlm.h}): direct buffers, made once, filled anew for each
 * step.
 */
final class StepPlan {
    final IntBuffer token;
    final IntBuffer visionRow;
    final IntBuffer seqStart;
    final IntBuffer past;
    final IntBuffer ropeLength;
    final IntBuffer pageStart;
    final IntBuffer page;
    final IntBuffer logitsRow;
    /** For each row of logits the words of a {@code SampleRow}; empty where all take the likeliest. */
    final IntBuffer sample;
    final IntBuffer biasSlot;
    FloatBuffer bias = Engine.floats(0);

    StepPlan(int tokens, int sequences, int pages) {
        token = ints(tokens);
        visionRow = ints(tokens);
        seqStart = ints(sequences + 1);
        past = ints(sequences);
        ropeLength = ints(sequences);
        pageStart = ints(sequences + 1);
        page = ints(pages);
        logitsRow = ints(sequences);
        sample = ints(DeviceSampling.WORDS * sequences);
        biasSlot = ints(sequences);
        clear();
    }

    void clear() {
        for (IntBuffer b : new IntBuffer[] {token, visionRow, seqStart, past, ropeLength, pageStart, page, logitsRow, sample, biasSlot}) {
            b.clear();
        }
        bias.clear();
        seqStart.put(0);
        pageStart.put(0);
    }

    /** Begins a sequence: {@code past} of its tokens are in the cache; {@code pages} hold those and the ones that follow here. */
    void begin(int pastTokens, int[] pages, int pageCount) {
        past.put(pastTokens);
        page.put(pages, 0, pageCount);
        pageStart.put(page.position());
    }

    /** A token of the current sequence: an id, or -1-r for row r of the step before; {@code row} of the vision buffer, or -1. */
    void add(int id, int row) {
        token.put(id);
        visionRow.put(row);
    }

    /**
     * Ends the sequence.
     *
     * @param length what scaled rope goes by: the whole prompt's for every chunk of it, in decoding that with the new token
     */
    void end(int length) {
        seqStart.put(token.position());
        ropeLength.put(length);
    }

    /** Asks for the logits of the token that was added last; returns their row. */
    int wantLogits() {
        logitsRow.put(token.position() - 1);
        return logitsRow.position() - 1;
    }

    /** Gives a slot its biases, from this step on. */
    void bias(int slot, float[] values) {
        if (bias.remaining() < values.length) {
            bias = Engine.floats(bias.position() + values.length).put(bias.flip());
        }
        biasSlot.put(slot);
        bias.put(values);
    }

    int tokens() {
        return token.position();
    }

    int sequences() {
        return past.position();
    }

    int logitsRows() {
        return logitsRow.position();
    }

    boolean isEmpty() {
        return tokens() == 0;
    }

    static IntBuffer ints(int count) {
        return ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asIntBuffer();
    }
}
