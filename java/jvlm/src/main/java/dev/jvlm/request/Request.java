package dev.jvlm.request;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** One question to a model, with its pictures and how to answer. Immutable. */
public final class Request {
    private static final int MOST_PICTURES = 256;
    private static final int MOST_STOPS = 64;
    private static final int LONGEST_STOP = 1024;
    private static final int MOST_TOKENS = 1 << 20;
    private static final int MOST_LOGPROBS = 20;

    /** The longest answer of a request that names no length, as far as the context has room for it. */
    public static final int DEFAULT_MAX_TOKENS = 512;

    /** What kind of answer is wanted. */
    public enum Mode {
        /** An answer to a question, in the family's chat format. A model that was not trained to chat goes on from the parts as they are. */
        CHAT,
        /** What comes after the parts: they stand for themselves, without roles, system prompt or history. */
        COMPLETION,
        /** All text of a picture, by the rule that H2OVL's own {@code ocr()} has: runs of blanks are cut short. */
        OCR
    }

    private final String system;
    private final List<Turn> history;
    private final List<Part> parts;
    private final Sampling sampling;
    private final Integer maxTokens;
    private final int minTokens;
    private final List<String> stop;
    private final Integer maxTiles;
    private final Boolean msac;
    private final Boolean splitImages;
    private final Boolean partialPatches;
    private final int logprobs;
    private final boolean loopGuard;
    private final Mode mode;
    private final Duration deadline;

    private Request(Builder b) {
        given("sampling", b.sampling);
        given("mode", b.mode);
        given("history", b.history);
        b.history.forEach(turn -> given("a turn of the history", turn));
        given("the list of stop strings", b.stop);
        if (b.parts.isEmpty()) {
            throw refused("it has no parts; give it a text or a picture");
        }
        long pictures = pictures(b.parts);
        for (Turn turn : b.history) {
            pictures += pictures(turn.question());
        }
        if (pictures > MOST_PICTURES) {
            throw refused("it has " + pictures + " pictures; at most " + MOST_PICTURES + " are allowed");
        }
        if (b.maxTokens != null) {
            range("maxTokens", b.maxTokens, 1, MOST_TOKENS);
        }
        range("minTokens", b.minTokens, 0, b.maxTokens == null ? DEFAULT_MAX_TOKENS : b.maxTokens);
        range("logprobs", b.logprobs, 0, MOST_LOGPROBS);
        range("the number of stop strings", b.stop.size(), 0, MOST_STOPS);
        for (String s : b.stop) {
            if (s == null || s.isEmpty()) {
                throw refused("a stop string is empty");
            }
            range("the length of a stop string", s.length(), 1, LONGEST_STOP);
            if (!StandardCharsets.UTF_16BE.newEncoder().canEncode(s)) {
                throw refused("a stop string is no valid Unicode: it holds half of a surrogate pair");
            }
        }
        if (b.maxTiles != null) {
            range("maxTiles", b.maxTiles, 1, 128);
        }
        if (b.mode == Mode.COMPLETION && (b.system != null || !b.history.isEmpty())) {
            throw refused("the mode COMPLETION takes no system prompt and no history; put all that is to be continued into the parts");
        }
        if (b.deadline != null && (b.deadline.isNegative() || b.deadline.isZero())) {
            throw refused("deadline is " + b.deadline + "; it must be positive");
        }
        system = b.system;
        history = List.copyOf(b.history);
        parts = List.copyOf(b.parts);
        sampling = b.sampling;
        maxTokens = b.maxTokens;
        minTokens = b.minTokens;
        stop = List.copyOf(b.stop);
        maxTiles = b.maxTiles;
        msac = b.msac;
        splitImages = b.splitImages;
        partialPatches = b.partialPatches;
        logprobs = b.logprobs;
        loopGuard = b.loopGuard;
        mode = b.mode;
        deadline = b.deadline;
    }

    private static long pictures(List<Part> parts) {
        return parts.stream().mapToLong(part -> part.images().size()).sum();
    }

    private static void given(String field, Object value) {
        if (value == null) {
            throw refused(field + " is null; leave it out for the default");
        }
    }

    private static void range(String field, long value, long least, long most) {
        if (value < least || value > most) {
            throw refused(field + " is " + value + "; it must be " + least + " to " + most);
        }
    }

    private static JvlmException refused(String why) {
        return new JvlmException(JvlmException.Code.REQUEST, "Request: " + why);
    }

    /** A question with default settings. */
    public static Request of(Part... parts) {
        Builder b = builder();
        for (Part part : parts) {
            b.part(part);
        }
        return b.build();
    }

    public static Builder builder() {
        return new Builder();
    }

    /** The system prompt, or null for the family's own. */
    public String system() {
        return system;
    }

    public List<Turn> history() {
        return history;
    }

    public List<Part> parts() {
        return parts;
    }

    public Sampling sampling() {
        return sampling;
    }

    /** The longest answer in tokens, or null for {@link #DEFAULT_MAX_TOKENS}. */
    public Integer maxTokens() {
        return maxTokens;
    }

    public int minTokens() {
        return minTokens;
    }

    public List<String> stop() {
        return stop;
    }

    /** Most cells of a picture's grid, or null for the model's own limit. */
    public Integer maxTiles() {
        return maxTiles;
    }

    /** Whether a single picture is looked at in two grids (MSAC), or null for the model's own setting. */
    public Boolean msac() {
        return msac;
    }

    /** Whether a picture is also looked at in four quarters (Idefics2), or null for the model's own setting. */
    public Boolean splitImages() {
        return splitImages;
    }

    /**
     * Whether patches count that lie only in part in their picture, where there is a larger one beside it (Idefics2); null for yes, as in the
     * code that made the published results. Later releases of the reference leave them out.
     */
    public Boolean partialPatches() {
        return partialPatches;
    }

    public int logprobs() {
        return logprobs;
    }

    public boolean loopGuard() {
        return loopGuard;
    }

    public Mode mode() {
        return mode;
    }

    /** How long the answer may take from submission, or null. */
    public Duration deadline() {
        return deadline;
    }

    public static final class Builder {
        private String system;
        private List<Turn> history = List.of();
        private final List<Part> parts = new ArrayList<>();
        private Sampling sampling = Sampling.greedy();
        private Integer maxTokens;
        private int minTokens;
        private List<String> stop = List.of();
        private Integer maxTiles;
        private Boolean msac;
        private Boolean splitImages;
        private Boolean partialPatches;
        private int logprobs;
        private boolean loopGuard = true;
        private Mode mode = Mode.CHAT;
        private Duration deadline;

        private Builder() {}

        /** Parts follow each other in the order of these calls. */
        public Builder part(Part part) {
            if (part == null) {
                throw refused("a part is null");
            }
            parts.add(part);
            return this;
        }

        public Builder image(Image image) {
            return part(Part.image(image));
        }

        public Builder text(String text) {
            return part(Part.text(text));
        }

        public Builder system(String system) {
            this.system = system;
            return this;
        }

        public Builder history(List<Turn> history) {
            this.history = history;
            return this;
        }

        public Builder sampling(Sampling sampling) {
            this.sampling = sampling;
            return this;
        }

        /** Longest answer in tokens, at most the context; an answer also ends where the context does. */
        public Builder maxTokens(int maxTokens) {
            this.maxTokens = maxTokens;
            return this;
        }

        /** The answer does not end before. */
        public Builder minTokens(int minTokens) {
            this.minTokens = minTokens;
            return this;
        }

        /** Strings that end the answer; they are cut off. At most 64 of at most 1024 characters. */
        public Builder stop(List<String> stop) {
            this.stop = stop;
            return this;
        }

        public Builder stop(String... stop) {
            return stop(Arrays.asList(stop));
        }

        public Builder maxTiles(int maxTiles) {
            this.maxTiles = maxTiles;
            return this;
        }

        public Builder msac(boolean msac) {
            this.msac = msac;
            return this;
        }

        public Builder splitImages(boolean splitImages) {
            this.splitImages = splitImages;
            return this;
        }

        public Builder partialPatches(boolean partialPatches) {
            this.partialPatches = partialPatches;
            return this;
        }

        /** For each token its own log-probability and those of this many likeliest ones, 0 to 20; before any processor. */
        public Builder logprobs(int logprobs) {
            this.logprobs = logprobs;
            return this;
        }

        /** Whether an answer that only repeats itself is ended; on unless switched off. */
        public Builder loopGuard(boolean loopGuard) {
            this.loopGuard = loopGuard;
            return this;
        }

        public Builder mode(Mode mode) {
            this.mode = mode;
            return this;
        }

        public Builder deadline(Duration deadline) {
            this.deadline = deadline;
            return this;
        }

        /** @throws JvlmException REQUEST, naming what is out of range */
        public Request build() {
            return new Request(this);
        }
    }
}
