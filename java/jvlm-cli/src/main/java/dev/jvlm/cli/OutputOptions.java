package dev.jvlm.cli;

import dev.jvlm.error.JvlmException;
import dev.jvlm.request.Answer;
import dev.jvlm.request.Request;
import java.util.Map;
import picocli.CommandLine.Option;

/** What is told of an answer, and how. */
final class OutputOptions {
    @Option(
            names = "--json",
            description = "One JSON object a line: text, ids, finishReason, usage, timings (milliseconds), device, model; an object with"
                    + " error instead where there is no answer.")
    private boolean json;

    @Option(
            names = "--logprobs",
            paramLabel = "N",
            description = "With --json: for each token its log-probability and those of the N likeliest, 1 to 20.")
    private int logprobs;

    boolean json() {
        return json;
    }

    Request.Builder request(Request.Builder request, Integer maxTokens) {
        if (logprobs != 0 && !json) {
            throw new JvlmException(JvlmException.Code.REQUEST, "--logprobs are shown with --json only; add it");
        }
        if (maxTokens != null) {
            request.maxTokens(maxTokens);
        }
        return request.logprobs(logprobs);
    }

    /** The longest answer: what was asked for, or the default as far as the context goes. */
    static int longest(Integer maxTokens, int byDefault, int context) {
        if (maxTokens != null && maxTokens > context) {
            throw new JvlmException(
                    JvlmException.Code.REQUEST, "--max-tokens is " + maxTokens + "; the context holds " + context + " tokens in all");
        }
        return maxTokens == null ? Math.min(byDefault, context) : maxTokens;
    }

    void put(Map<String, Object> object, Answer answer, String device, Map<String, Object> model) {
        object.put("text", answer.text());
        object.put("ids", answer.ids());
        object.put("finishReason", answer.finishReason());
        object.put("usage", answer.usage());
        object.put("timings", answer.timings());
        if (logprobs > 0) {
            object.put("logprobs", answer.logprobs());
        }
        object.put("device", device);
        object.put("model", model);
    }

    static Map<String, Object> error(Map<String, Object> object, JvlmException e) {
        object.put("error", Map.of("code", e.code(), "message", e.getMessage()));
        return object;
    }

    /** Says on stderr if an answer did not end by itself. */
    void remark(Console console, String what, Answer answer) {
        switch (answer.finishReason()) {
            case LENGTH -> console.say(what + ": the answer was cut after " + answer.usage().completionTokens()
                    + " tokens (see --max-tokens, --context)");
            case LOOP -> console.say(what + ": the answer only repeated itself and was ended");
            case CANCELLED -> console.say(what + ": the answer was interrupted");
            case END, STOP_STRING -> {}
        }
    }
}
