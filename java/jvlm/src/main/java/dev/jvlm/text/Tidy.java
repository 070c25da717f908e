package dev.jvlm.text;

/**
 * The last touch that the references give an answer, piece by piece: white space is stripped from both ends; with {@code joinBlanks} each
 * run of U+0020 becomes one (H2OVL's {@code ocr()}). White space is what Python's {@code str.strip} takes for it.
 */
public final class Tidy {
    private final boolean joinBlanks;
    private final StringBuilder held = new StringBuilder();
    private boolean started;

    public Tidy(boolean joinBlanks) {
        this.joinBlanks = joinBlanks;
    }

    /** Takes the next piece of the answer; returns what is certain to stand in it. White space waits for what follows. */
    public String add(String piece) {
        StringBuilder out = new StringBuilder();
        for (int i = 0; i < piece.length(); i++) {
            char c = piece.charAt(i);
            if (isSpace(c)) {
                if (started && !(joinBlanks && c == ' ' && !held.isEmpty() && held.charAt(held.length() - 1) == ' ')) {
                    held.append(c);
                }
            } else {
                out.append(held).append(c);
                held.setLength(0);
                started = true;
            }
        }
        return out.toString();
    }

    private static boolean isSpace(char c) {
        return Character.isWhitespace(c) || Character.isSpaceChar(c) || c == 0x85;
    }
}
