package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import dev.jvlm.request.Part;
import dev.jvlm.request.Turn;
import dev.jvlm.text.Span;
import java.util.ArrayList;
import java.util.List;

/**
 * How a family writes a conversation down.
 *
 * @param system what stands around the system prompt, and its default; null if the family has none
 * @param user what stands around a question
 * @param assistant what stands around an answer
 * @param picture how a picture is written
 * @param stopTokens the tokens that end an answer, by content
 */
public record ChatTemplate(System system, Role user, Role assistant, Picture picture, List<String> stopTokens) {

    /** @param text the system prompt of a request that brings none */
    public record System(String before, String after, String text) {}

    public record Role(String before, String after) {}

    /**
     * A picture is {@code start}, then one {@code row} token a vision row, then {@code end}: added tokens all three.
     *
     * @param after text that follows
     */
    public record Picture(String start, String row, String end, String after) {}

    public ChatTemplate {
        stopTokens = List.copyOf(stopTokens);
    }

    /** The added tokens that a tokenizer must know for this template to work. */
    List<String> requiredTokens() {
        List<String> tokens = new ArrayList<>(List.of(picture.start, picture.row, picture.end));
        tokens.addAll(stopTokens);
        return tokens;
    }

    /**
     * The conversation up to where the model goes on, each picture with <em>one</em> row token. What people wrote is user text, so that
     * nothing in it becomes an added token.
     *
     * @param systemText the system prompt, or null for the family's own
     * @throws JvlmException REQUEST if the family takes no system prompt, or a turn is empty
     */
    List<Span> render(String systemText, List<Turn> history, List<Part> question) {
        List<Span> spans = new ArrayList<>();
        if (system != null) {
            spans.add(Span.template(system.before));
            spans.add(Span.user(systemText == null ? system.text : systemText));
            spans.add(Span.template(system.after));
        } else if (systemText != null) {
            throw new JvlmException(
                    JvlmException.Code.REQUEST, "This model was trained without a system prompt; put the text into the question");
        }
        for (Turn turn : history) {
            ask(turn.question(), spans);
            spans.add(Span.user(turn.answer()));
            spans.add(Span.template(assistant.after));
        }
        ask(question, spans);
        return spans;
    }

    private void ask(List<Part> parts, List<Span> spans) {
        if (parts.isEmpty()) {
            throw new JvlmException(JvlmException.Code.REQUEST, "A question has no parts; give it a text or a picture");
        }
        spans.add(Span.template(user.before));
        for (Part part : parts) {
            spans.add(part instanceof Part.Text text
                    ? Span.user(text.text())
                    : Span.template(picture.start + picture.row + picture.end + picture.after));
        }
        spans.add(Span.template(user.after + assistant.before));
    }
}
