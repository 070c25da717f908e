package dev.jvlm.text;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;

/** UTF-8 as the tokenizers' reference implementations treat it where it is invalid. */
final class Utf8 {

    private Utf8() {}

    /** {@code text} with each lone surrogate replaced by U+FFFD, so that it has an encoding at all. */
    static String wellFormed(String text) {
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
                i++;
            } else if (Character.isSurrogate(c)) {
                return text.codePoints()
                        .map(p -> p >= Character.MIN_SURROGATE && p <= Character.MAX_SURROGATE ? 0xFFFD : p)
                        .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append)
                        .toString();
            }
        }
        return text;
    }

    /** Whether the last bytes are the beginning of a character that more bytes may complete. */
    static boolean endsInsideCharacter(byte[] bytes) {
        CharsetDecoder decoder = strict();
        ByteBuffer in = ByteBuffer.wrap(bytes);
        CharBuffer out = CharBuffer.allocate(bytes.length);
        while (decoder.decode(in, out, false).isError()) {
            in.get();
            decoder.reset();
        }
        return in.hasRemaining();
    }

    /** SentencePiece's way: every byte that is not part of a valid sequence becomes one U+FFFD. (Java's decoder gives one a sequence.) */
    static String decodeEachByte(byte[] bytes) {
        CharsetDecoder decoder = strict();
        ByteBuffer in = ByteBuffer.wrap(bytes);
        CharBuffer out = CharBuffer.allocate(bytes.length);
        while (decoder.decode(in, out, true).isError()) {
            in.get();
            out.put('\uFFFD');
            decoder.reset();
        }
        return out.flip().toString();
    }

    /** The way of Hugging Face tokenizers: if anything in the run is invalid, every byte of it becomes one U+FFFD. */
    static String decodeWholeRun(byte[] bytes) {
        CharBuffer out = CharBuffer.allocate(bytes.length);
        boolean valid = !strict().decode(ByteBuffer.wrap(bytes), out, true).isError();
        return valid ? out.flip().toString() : "\uFFFD".repeat(bytes.length);
    }

    private static CharsetDecoder strict() {
        return StandardCharsets.UTF_8
                .newDecoder()
                .onMalformedInput(CodingErrorAction.REPORT)
                .onUnmappableCharacter(CodingErrorAction.REPORT);
    }
}
