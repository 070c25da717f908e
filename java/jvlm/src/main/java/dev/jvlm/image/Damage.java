package dev.jvlm.image;

import dev.jvlm.error.JvlmException;

/** The two refusals that all formats share. Sentences are ours: what a decoder says may hold addresses and paths. */
final class Damage {
    private Damage() {}

    static JvlmException of(String what) {
        return new JvlmException(JvlmException.Code.IMAGE, "The image is damaged: " + what + ". Save it again with another program");
    }

    static JvlmException truncated() {
        return of("it ends too early");
    }

    static JvlmException unsupported(String what) {
        return new JvlmException(
                JvlmException.Code.IMAGE, "The image uses a variant that is not supported: " + what + ". Convert it to PNG");
    }
}
