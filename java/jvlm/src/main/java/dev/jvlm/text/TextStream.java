package dev.jvlm.text;

import java.util.Arrays;
import java.util.List;

/**
 * Ids to text as they come. Everything given out, in order, is {@link Tokenizer#decode} of all ids, cut before the first stop string.
 * Text is held back only while it may still change: bytes whose character is not complete, and what may be the start of a stop string.
 * Not thread-safe.
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

    private final StringBuilder text = new StringBuilder();
    private int given;
    private boolean stopped;

    public TextStream(Tokenizer tokenizer, List<String> stop) {
        this.tokenizer = tokenizer;
        this.stop = List.copyOf(stop);
        this.longestStop = stop.stream().mapToInt(String::length).max().orElse(0);
    }

    /** Takes an id; returns the text that is certain now, often empty. After a stop string nothing more comes. */
    public String add(int id) {
        if (stopped) {
            return "";
        }
        if (count == window.length) {
            window = Arrays.copyOf(window, 2 * count);
        }
        window[count++] = id;
        // Bytes become characters only when their run has ended.
        if (!tokenizer.isBytePiece(id)) {
            decode();
        }
        return give(false);
    }

    /** The rest, when no more ids come. */
    public String finish() {
        if (!stopped && done < count) {
            decode();
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
        int searchFrom = Math.max(0, text.length() - longestStop + 1);
        int before = done == 0 ? 0 : tokenizer.decode(Arrays.copyOf(window, done)).length();
        text.append(tokenizer.decode(Arrays.copyOf(window, count)).substring(before));
        // The last id with text of its own stays as the joint to what follows.
        int keep = count - 1;
        while (keep > 0 && tokenizer.decode(new int[] {window[keep]}).isEmpty()) {
            keep--;
        }
        count = count - keep;
        System.arraycopy(window, keep, window, 0, count);
        done = count;
        int first = -1;
        for (String s : stop) {
            int at = text.indexOf(s, searchFrom);
            if (at >= 0 && (first < 0 || at < first)) {
                first = at;
            }
        }
        if (first >= 0) {
            text.setLength(first);
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
