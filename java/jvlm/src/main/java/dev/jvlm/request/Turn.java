package dev.jvlm.request;

import dev.jvlm.error.JvlmException;
import java.util.List;

/** A finished exchange of the conversation: what the user said and what was answered. */
public record Turn(List<Part> question, String answer) {
    public Turn {
        if (question == null || question.isEmpty() || answer == null) {
            throw new JvlmException(JvlmException.Code.REQUEST, "A turn of the history has no question or no answer");
        }
        question = List.copyOf(question);
    }
}
