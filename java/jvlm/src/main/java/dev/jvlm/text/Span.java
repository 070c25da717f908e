package dev.jvlm.text;

/**
 * A piece of a rendered prompt. Added tokens are matched inside template spans only, so that a user who types {@code <|end|>} gets
 * those characters and never the token.
 */
public record Span(String text, boolean template) {

    public static Span template(String text) {
        return new Span(text, true);
    }

    public static Span user(String text) {
        return new Span(text, false);
    }
}
