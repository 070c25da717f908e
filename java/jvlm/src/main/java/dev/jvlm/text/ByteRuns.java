package dev.jvlm.text;

import java.io.ByteArrayOutputStream;
import java.util.function.Function;

/** Joins pieces of text with runs of byte pieces, whose characters are known only when the run ends. */
final class ByteRuns {

    private final StringBuilder text = new StringBuilder();
    private final ByteArrayOutputStream run = new ByteArrayOutputStream();
    private final Function<byte[], String> decoder;

    ByteRuns(Function<byte[], String> decoder) {
        this.decoder = decoder;
    }

    void addByte(int value) {
        run.write(value);
    }

    void addText(String piece) {
        flush();
        text.append(piece);
    }

    String finish() {
        flush();
        return text.toString();
    }

    private void flush() {
        if (run.size() > 0) {
            text.append(decoder.apply(run.toByteArray()));
            run.reset();
        }
    }

    /** The value of a byte piece such as {@code <0x0A>}, or -1 if the piece is none. */
    static int valueOf(String piece) {
        if (piece.length() != 6 || !piece.startsWith("<0x") || !piece.endsWith(">")) {
            return -1;
        }
        int high = Character.digit(piece.charAt(3), 16);
        int low = Character.digit(piece.charAt(4), 16);
        return high < 0 || low < 0 ? -1 : high << 4 | low;
    }
}
