package dev.jvlm.image;

import dev.jvlm.error.JvlmException;

/** Files to pictures. */
final class Decoder {
    private Decoder() {}

    static Image decode(byte[] file, Decoding decoding) {
        if (file.length == 0) {
            throw new JvlmException(JvlmException.Code.IMAGE, "The image is empty: it has no bytes");
        }
        throw new JvlmException(JvlmException.Code.IMAGE, "This version cannot decode images yet");
    }
}
