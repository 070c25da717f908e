package dev.jvlm.error;

/** What jvlm throws for everything that is not a programming mistake: a stable code, and a sentence with the cause and the remedy. */
public final class JvlmException extends RuntimeException {

    private static final long serialVersionUID = 1;

    /** The kind of failure. Names are stable: programs may branch on them. */
    public enum Code {
        /** A file of a model folder is missing, damaged or contradicts another. */
        MODEL_FORMAT,
        /** The model is sound, but uses something that this version does not implement. */
        MODEL_UNSUPPORTED,
        /** The bytes are no picture of a supported format, are damaged, or exceed a limit. */
        IMAGE,
        /** A request that cannot be served as it is: a parameter out of range, too long a prompt, a contradiction. */
        REQUEST,
        /** Not enough memory, pages or queue places; the same request may succeed later or with other limits. */
        CAPACITY,
        /** The device failed; the engine repeats this until it is closed. */
        DEVICE
    }

    private final Code code;

    public JvlmException(Code code, String message) {
        super(message);
        this.code = code;
    }

    public JvlmException(Code code, String message, Throwable cause) {
        super(message, cause);
        this.code = code;
    }

    public Code code() {
        return code;
    }
}
