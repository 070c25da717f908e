package dev.jvlm.request;

/** Why an answer ended. */
public enum FinishReason {
    /** The model ended it. */
    END,
    /** A stop string of the request appeared; it is cut off. */
    STOP_STRING,
    /** {@link Request#maxTokens()} was reached. */
    LENGTH,
    /** The loop guard saw the answer repeat itself. */
    LOOP,
    /** The caller cancelled, or the deadline passed; what had been generated is kept. */
    CANCELLED
}
