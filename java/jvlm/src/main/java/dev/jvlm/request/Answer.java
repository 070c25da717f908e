package dev.jvlm.request;

import java.util.List;

/**
 * What a model answered.
 *
 * @param text the text, without the token or stop string that ended it
 * @param ids the generated tokens, the one that ended the answer included
 * @param logprobs one entry a token where the request asked for them, else empty
 */
public record Answer(
        String text, List<Integer> ids, FinishReason finishReason, Usage usage, Timings timings, List<TokenLogprobs> logprobs) {}
