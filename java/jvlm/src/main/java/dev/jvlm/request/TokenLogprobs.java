package dev.jvlm.request;

import java.util.List;

/**
 * How likely a generated token was, by the logits as the model gave them, before any processor.
 *
 * @param top the likeliest tokens, most likely first
 */
public record TokenLogprobs(int id, String text, double logprob, List<Alternative> top) {
    public record Alternative(int id, String text, double logprob) {}
}
