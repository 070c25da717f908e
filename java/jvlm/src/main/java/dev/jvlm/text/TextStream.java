package dev.jvlm.text;

import java.io.ByteArrayOutputStream;
import java.util.Arrays;
import java.util.List;

/**
 * Ids to text as they come. Everything given out, in order, is {@link Tokenizer#decode} of all ids, cut before the stop string that is
 * complete first; of two that end together, before the longer. Text is held back only while it may still change: bytes whose character
 * is not complete, blanks that what follows may take away (with a tokenizer that cleans up: a stop string that ends there is then seen
 * a token or two later), and what may be the start of a stop string. Not thread-safe.
 */
public final class TextStream {
    private final Tokenizer tokenizer;
    private final List<String> stop;
    private final int longestStop;

    /** Ids from the last one on whose text was final; that one is decoded again for the blanks at the joint. */
    private int[] window = new int[16];

    private int count;
    /** How many of them have been turned into text. */
    private int done;
    /** The bytes of the byte pieces that have not been turned into text yet. */
    private final ByteArrayOutputStream run = new ByteArrayOutputStream();

    /** Null where decoded text stands as it is. */
    private final CleanUp cleanUp;

    private final StringBuilder text = new StringBuilder();
    private int given;
    private boolean stopped;

    public TextStream(Tokenizer tokenizer, List<String> stop) {
        this.tokenizer = tokenizer;
        this.stop = List.copyOf(stop);
        this.longestStop = stop.stream().mapToInt(String::length).max().orElse(0);
        this.cleanUp = tokenizer.cleansUp() ? new CleanUp() : null;
    }

    /** Takes an id; returns the text that is certain now, often empty. After a stop string nothing more comes. */
    public String add(int id) {
        if (stopped || tokenizer.isSilent(id)) {
            return "";
        }
        if (count == window.length) {
            window = Arrays.copyOf(window, 2 * count);
        }
        window[count++] = id;
        int value = tokenizer.byteOf(id);
        if (value >= 0) {
            run.write(value);
            if (tokenizer.isUndecided(run.toByteArray())) {
                return "";
            }
        }
        decode();
        return give(false);
    }

    /** The rest, when no more ids come. */
    public String finish() {
        if (!stopped && done < count) {
            decode();
        }
        if (!stopped && cleanUp != null) {
            append(cleanUp.finish());
        }
        return give(true);
    }

    /** Whether a stop string has appeared. */
    public boolean stopped() {
        return stopped;
    }

    /** All text given out so far. */
    public String text() {
        return text.substring(0, given);
    }

    private void decode() {
        int before = done == 0 ? 0 : tokenizer.decodeRaw(Arrays.copyOf(window, done)).length();
        String piece = tokenizer.decodeRaw(Arrays.copyOf(window, count)).substring(before);
        // The last id with text of its own stays as the joint to what follows.
        int keep = count - 1;
        while (keep > 0 && tokenizer.decode(window[keep]).isEmpty()) {
            keep--;
        }
        count = count - keep;
        System.arraycopy(window, keep, window, 0, count);
        done = count;
        run.reset();
        append(cleanUp == null ? piece : cleanUp.add(piece));
    }

    private void append(String piece) {
        int searchFrom = Math.max(0, text.length() - longestStop + 1);
        text.append(piece);
        cutAtStop(searchFrom);
    }

    /** By the end of a stop string, not its start, so that the cut does not depend on how much text came at once. */
    private void cutAtStop(int searchFrom) {
        int start = -1;
        int end = Integer.MAX_VALUE;
        for (String s : stop) {
            int at = text.indexOf(s, searchFrom);
            if (at >= 0 && (at + s.length() < end || at + s.length() == end && at < start)) {
                start = at;
                end = at + s.length();
            }
        }
        if (start >= 0) {
            text.setLength(start);
            stopped = true;
        }
    }

    private String give(boolean all) {
        int end = all || stopped ? text.length() : text.length() - undecided();
        String piece = text.substring(given, Math.max(given, end));
        given = Math.max(given, end);
        return piece;
    }

    /** The length of the longest end of the text that a stop string may begin with. */
    private int undecided() {
        for (int length = Math.min(longestStop - 1, text.length() - given); length > 0; length--) {
            for (String s : stop) {
                if (length < s.length() && s.startsWith(text.substring(text.length() - length))) {
                    return length;
                }
            }
        }
        return 0;
    }
}
