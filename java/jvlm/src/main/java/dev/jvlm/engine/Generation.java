package dev.jvlm.engine;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import dev.jvlm.image.TileShape;
import dev.jvlm.image.Tiler;
import dev.jvlm.image.Tiles;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.request.Answer;
import dev.jvlm.request.FinishReason;
import dev.jvlm.request.Request;
import dev.jvlm.request.Timings;
import dev.jvlm.request.TokenLogprobs;
import dev.jvlm.request.Usage;
import dev.jvlm.sampling.DeviceSampling;
import dev.jvlm.sampling.LoopGuard;
import dev.jvlm.sampling.Logprobs;
import dev.jvlm.sampling.OcrRule;
import dev.jvlm.sampling.Sampler;
import dev.jvlm.text.TextStream;
import dev.jvlm.text.Tidy;
import dev.jvlm.text.Tokenizer;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;

/**
 * One request on its way: from a prompt to an {@link Answer}. The engine thread drives it; any thread may wait for it or cancel it.
 */
public final class Generation {
    /** What the engine thread schedules. */
    final Sequence sequence;

    final List<Picture> pictures;

    private final Request request;
    private final Tokenizer tokenizer;
    private final List<Integer> stopIds;
    private final Consumer<String> pieces;
    /** How the device chooses its tokens, or null: the sampler does. */
    final DeviceSampling onDevice;
    private final Sampler sampler;
    private final TextStream stream;
    private final Tidy tidy;
    private final LoopGuard loopGuard;
    private final StringBuilder text = new StringBuilder();
    private final List<Integer> ids = new ArrayList<>();
    private final List<TokenLogprobs> logprobs = new ArrayList<>();
    private final CompletableFuture<Answer> done = new CompletableFuture<>();
    private volatile boolean cancelled;
    /** Why its pictures could not be cut, set by the thread that prepares pictures. */
    volatile Throwable unpreparable;

    // Nanoseconds: points in time, and sums of what was spent.
    private final long submitted = System.nanoTime();
    private long admitted;
    private long prefillFrom;
    private long firstToken;
    private long lastToken;
    private volatile long preprocessing;
    private long vision;

    /** A picture and the shapes of its tiles. {@code tiles} is what was cut, set by the thread that prepares pictures. */
    static final class Picture {
        private final Image image;
        private final Tiler tiler;
        private final List<TileShape> shapes;
        volatile Tiles tiles;

        Picture(Image image, Tiler tiler, List<TileShape> shapes) {
            this.image = image;
            this.tiler = tiler;
            this.shapes = shapes;
        }

        int count() {
            return shapes.size();
        }

        void cut() {
            tiles = tiler.cut(image, shapes, NativeResizer.INSTANCE);
        }
    }

    /** Tiles that can be encoded now: those of a picture from {@code first} on. */
    record Next(Tiles tiles, int first) {}

    Generation(Request request, Sequence sequence, List<Picture> pictures, Checkpoint checkpoint, DeviceSampling onDevice, OcrRule ocrRule,
            Consumer<String> pieces, long preparedIn) {
        this.request = request;
        this.sequence = sequence;
        this.pictures = pictures;
        this.tokenizer = checkpoint.tokenizer();
        this.stopIds = checkpoint.stopIds();
        this.pieces = pieces;
        this.preprocessing = preparedIn;
        int[] stops = stopIds.stream().mapToInt(Integer::intValue).toArray();
        this.onDevice = onDevice;
        this.sampler = onDevice != null
                ? null
                : new Sampler(request.sampling(), stops, request.minTokens(), ocrRule, checkpoint.bannedIds(),
                        checkpoint.blueprint().spec().decoder().vocabulary());
        this.stream = new TextStream(tokenizer, request.stop());
        this.tidy = new Tidy(request.mode() == Request.Mode.OCR);
        this.loopGuard = request.loopGuard() ? new LoopGuard() : null;
    }

    /** Completes with the answer, or with the {@link JvlmException} that ended it; on the engine's thread. */
    public CompletableFuture<Answer> done() {
        return done;
    }

    /** Ends the answer within one step; it then holds what had been generated, with the reason CANCELLED. */
    public void cancel() {
        cancelled = true;
    }

    boolean mustStop() {
        return cancelled
                || request.deadline() != null && System.nanoTime() - submitted > request.deadline().toNanos();
    }

    /** The tiles that come next, or null while their picture is not cut yet. */
    Next nextTiles() {
        int first = sequence.tilesEncoded;
        for (Picture p : pictures) {
            if (first < p.count()) {
                return p.tiles == null ? null : new Next(p.tiles, first);
            }
            p.tiles = null; // Encoded: its memory can go.
            first -= p.count();
        }
        return null;
    }

    void admittedNow() {
        admitted = System.nanoTime();
        prefillFrom = admitted;
    }

    void addPreprocessing(long nanos) {
        preprocessing += nanos;
    }

    void addVision(long nanos) {
        vision += nanos;
        prefillFrom = System.nanoTime();
    }

    /**
     * Takes the next token.
     *
     * @param chosen the id that the device has chosen, -1 if a logit is not a number, -2 if nothing may be chosen
     * @param logits its row, valid during the call; null where {@link #needsLogits()} is false
     */
    void accept(int chosen, FloatBuffer logits) {
        if (chosen < 0) {
            throw chosen == -1 ? Sampler.noNumbers() : Sampler.nothingLeft();
        }
        int id = sampler == null ? chosen : sampler.next(logits);
        lastToken = System.nanoTime();
        if (ids.isEmpty()) {
            firstToken = lastToken;
        }
        ids.add(id);
        sequence.receive(id);
        if (request.logprobs() > 0) {
            logprobs.add(Logprobs.of(logits, id, request.logprobs(), tokenizer::decode));
        }
        if (stopIds.contains(id)) {
            finish(FinishReason.END);
            return;
        }
        give(stream.add(id));
        if (stream.stopped()) {
            finish(FinishReason.STOP_STRING);
        } else if (loopGuard != null && loopGuard.add(id)) {
            finish(FinishReason.LOOP);
        } else if (ids.size() == sequence.maxTokens) {
            finish(FinishReason.LENGTH);
        }
    }

    /** Whether {@link #accept} must see the logits. */
    boolean needsLogits() {
        return !sequence.runsAhead;
    }

    private void give(String piece) {
        String tidied = tidy.add(piece);
        if (!tidied.isEmpty()) {
            text.append(tidied);
            pieces.accept(tidied);
        }
    }

    void finish(FinishReason reason) {
        if (sequence.finished) {
            return;
        }
        sequence.finished = true;
        give(stream.finish());
        long end = System.nanoTime();
        // A prompt that was never admitted has only waited.
        long queued = (admitted == 0 ? end : admitted) - submitted;
        Timings timings = new Timings(ms(queued), ms(preprocessing), ms(vision), firstToken == 0 ? 0 : ms(firstToken - prefillFrom),
                ms(lastToken - firstToken), ms(end - submitted));
        Usage usage = new Usage(sequence.prompt.length, sequence.visionRows, sequence.tiles, ids.size());
        done.complete(new Answer(text.toString(), List.copyOf(ids), reason, usage, timings, List.copyOf(logprobs)));
    }

    void fail(Throwable cause) {
        if (sequence.finished) {
            return;
        }
        sequence.finished = true;
        done.completeExceptionally(cause);
    }

    private static double ms(long nanos) {
        return nanos / 1e6;
    }
}
