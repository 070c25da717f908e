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
 * @param user what stands around a question; null if the model does not chat, but completes what it is given
 * @param assistant what stands around an answer; null likewise
 * @param picture how a picture is written
 * @param stopTokens the tokens that end an answer, by content
 * @param chatToken the one of them that a tokenizer knows only if the model was trained to chat; null if all of the family's were
 */
public record ChatTemplate(
        System system, Role user, Role assistant, Picture picture, List<String> stopTokens, String chatToken) {

    /** @param text the system prompt of a request that brings none */
    public record System(String before, String after, String text) {}

    /** @param beforeText what stands between {@code before} and a text that comes first */
    public record Role(String before, String beforeText, String after) {

        public Role(String before, String after) {
            this(before, "", after);
        }
    }

    /**
     * A picture is {@code start}, then one {@code row} token a vision row, then {@code end}: added tokens all three. Where {@code start} and
     * {@code end} are the same token, it also stands between the rows of two tiles, and once where two pictures touch.
     *
     * @param after text that follows
     */
    public record Picture(String start, String row, String end, String after) {

        /** Whether one token sets tiles and pictures apart. */
        boolean separates() {
            return start.equals(end);
        }
    }

    public ChatTemplate {
        stopTokens = List.copyOf(stopTokens);
    }

    /** The template of a family all of whose models chat. */
    public ChatTemplate(System system, Role user, Role assistant, Picture picture, List<String> stopTokens) {
        this(system, user, assistant, picture, stopTokens, null);
    }

    /** The added tokens that a tokenizer must know for this template to work. */
    List<String> requiredTokens() {
        List<String> tokens = new ArrayList<>(List.of(picture.start, picture.row, picture.end));
        stopTokens.stream().filter(token -> !token.equals(chatToken)).forEach(tokens::add);
        return tokens;
    }

    /** The template that puts nothing around what a model is to go on from. */
    ChatTemplate completing() {
        return new ChatTemplate(null, null, null, picture, stopTokens, chatToken);
    }

    /**
     * The conversation up to where the model goes on, each picture with <em>one</em> row token. What people wrote is user text, so that
     * nothing in it becomes an added token.
     *
     * @param systemText the system prompt, or null for the family's own
     * @throws JvlmException REQUEST if the family takes no system prompt, the model does not chat and there is a history, or a turn is empty
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
        if (user == null) {
            if (!history.isEmpty()) {
                throw new JvlmException(
                        JvlmException.Code.REQUEST,
                        "This model was not trained to chat: it goes on from one text and takes no history; put all into the question");
            }
            write(question, spans);
            return spans;
        }
        for (Turn turn : history) {
            ask(turn.question(), assistant.beforeText, spans);
            spans.add(Span.user(turn.answer()));
            spans.add(Span.template(assistant.after));
        }
        ask(question, "", spans);
        return spans;
    }

    private void ask(List<Part> parts, String beforeAnswer, List<Span> spans) {
        boolean textFirst = !parts.isEmpty() && parts.get(0) instanceof Part.Text;
        spans.add(Span.template(user.before + (textFirst ? user.beforeText : "")));
        write(parts, spans);
        spans.add(Span.template(user.after + assistant.before + beforeAnswer));
    }

    private void write(List<Part> parts, List<Span> spans) {
        if (parts.isEmpty()) {
            throw new JvlmException(JvlmException.Code.REQUEST, "A question has no parts; give it a text or a picture");
        }
        for (Part part : parts) {
            spans.add(part instanceof Part.Text text
                    ? Span.user(text.text())
                    : Span.template(picture.start + picture.row + picture.end + picture.after));
        }
    }
}
