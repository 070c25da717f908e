package dev.jvlm;

import dev.jvlm.engine.EngineLoop;
import dev.jvlm.engine.Generation;
import dev.jvlm.error.JvlmException;
import dev.jvlm.model.Blueprint;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.request.Answer;
import dev.jvlm.request.Request;
import java.lang.ref.Cleaner;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * A vision-language model in this process. Thread-safe: requests of all threads share the model's steps. Blocking calls may be made on
 * virtual threads; no code of yours ever runs on the engine's thread, so callbacks may call back into the model.
 *
 * <p>Every failure is a {@link JvlmException} with a stable code. Close what you open: the model's memory is not the garbage collector's.
 */
public final class Jvlm implements AutoCloseable {
    private static final System.Logger LOG = System.getLogger("dev.jvlm");
    private static final Cleaner CLEANER = Cleaner.create();
    private static final ExecutorService CALLBACKS = Executors.newCachedThreadPool(task -> {
        Thread thread = new Thread(task, "jvlm-callback");
        thread.setDaemon(true);
        return thread;
    });
    /** In a stream's queue: the answer is complete. */
    private static final String END = new String();

    private final Checkpoint checkpoint;
    private final String device;
    private final Map<String, Long> memoryPlan;
    private final EngineLoop loop;
    private final AtomicBoolean closed;

    private Jvlm(Checkpoint checkpoint, Options options) {
        this.checkpoint = checkpoint;
        Map<String, String> devices = EngineLoop.devices(); // once: it opens every device
        String name = deviceName(options, () -> devices);
        this.device = name + " (" + devices.get(name) + "), " + options.precision().label()
                + (options.deterministic() ? ", deterministic: products by jvlm" : "");
        this.memoryPlan = EngineLoop.memoryPlan(checkpoint.blueprint(), name, options.precision().label(), options.deterministic(),
                options.context(), options.sequences());
        this.loop = EngineLoop.open(checkpoint, name, options.precision().label(), options.deterministic(), options.context(),
                options.sequences(), options.queue(), options.memoryLimit(), options.progress());
        this.closed = new AtomicBoolean();
        AtomicBoolean wasClosed = closed;
        Throwable openedHere = new Throwable("The model was opened here");
        // It only reports: freeing from another thread could pull the weights from under a running step.
        CLEANER.register(this, () -> {
            if (!wasClosed.get()) {
                LOG.log(System.Logger.Level.WARNING, "A Jvlm was never closed; its memory stays taken until the process ends", openedHere);
            }
        });
    }

    /** Opens a model folder with {@link Options#DEFAULT}. */
    public static Jvlm open(Path folder) {
        return open(folder, Options.DEFAULT);
    }

    /**
     * Opens a model folder as it was published: {@code config.json}, the tokenizer's files, safetensors.
     *
     * @throws JvlmException MODEL_FORMAT or MODEL_UNSUPPORTED naming the file and field, of the model or of the adapter; CAPACITY if the
     *     model does not fit into the memory; DEVICE if the device cannot be had; REQUEST if an option contradicts the model
     */
    public static Jvlm open(Path folder, Options options) {
        return new Jvlm(Checkpoint.open(folder, options.adapter()), options);
    }

    /** Bytes by part (weights, cache, ...) that opening such a model would take; nothing is taken and no weights need be there. */
    public static Map<String, Long> memoryPlan(Blueprint blueprint, Options options) {
        return EngineLoop.memoryPlan(blueprint, deviceName(options, EngineLoop::devices), options.precision().label(), options.deterministic(),
                options.context(), options.sequences());
    }

    /** The devices of this machine, name to description, best first. */
    public static Map<String, String> devices() {
        return new LinkedHashMap<>(EngineLoop.devices());
    }

    /** A named device is never replaced: what cannot be had is refused, with its reason, by whoever opens it. */
    private static String deviceName(Options options, Supplier<Map<String, String>> devices) {
        return options.device().equals("auto") ? devices.get().keySet().iterator().next() : options.device();
    }

    /** For tests, which free what a forgotten model leaves. */
    EngineLoop loop() {
        return loop;
    }

    /** What computes: the device, its instruction set and threads, the precision. */
    public String device() {
        return device;
    }

    /** Bytes by part that this model takes at most. */
    public Map<String, Long> memoryPlan() {
        return memoryPlan;
    }

    /** The longest conversation in tokens, prompt and answer together. */
    public int context() {
        return loop.context();
    }

    /** The model's family, shape, notes and fingerprint. */
    public Checkpoint checkpoint() {
        return checkpoint;
    }

    /** What to ask this model for all the text of a picture. */
    public String ocrQuestion() {
        return checkpoint.ocrQuestion();
    }

    /**
     * Answers a request. If the calling thread is interrupted, the request is cancelled within one step, the flag stays set, and the answer
     * holds what had been generated.
     */
    public Answer generate(Request request) {
        return await(start(request, piece -> {}));
    }

    /**
     * Answers a request and hands its text on as it becomes certain, on the calling thread; the pieces together are the answer's text. If the
     * consumer throws, the request is cancelled and the exception goes on to the caller. A slow consumer slows down nobody: what
     * waits for it is at most one answer's text.
     */
    public Answer stream(Request request, Consumer<String> consumer) {
        BlockingQueue<String> pieces = new LinkedBlockingQueue<>();
        Generation generation = start(request, pieces::add);
        generation.done().whenComplete((answer, failure) -> pieces.add(END));
        try {
            for (String piece; (piece = pieces.take()) != END; ) {
                consumer.accept(piece);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } catch (Throwable e) {
            cancel(generation);
            await(generation);
            throw e;
        }
        return await(generation);
    }

    /**
     * Answers many requests, which share the model's steps; answers come in the order of the requests. All requests are checked before the
     * first one runs. More than the queue holds are fed as places become free. If one fails, the rest still runs, and then the first failure is thrown; use
     * {@link #submit} to tell failures apart.
     */
    public List<Answer> generateAll(List<Request> requests) {
        List<Generation> all = new ArrayList<>();
        for (Request request : requests) {
            all.add(loop.prepare(request, piece -> {}));
        }
        List<Answer> answers = new ArrayList<>();
        RuntimeException first = null;
        int submitted = 0;
        for (Generation generation : all) {
            while (submitted < all.size()) {
                try {
                    loop.submit(all.get(submitted));
                    submitted++;
                } catch (JvlmException e) {
                    if (e.code() != JvlmException.Code.CAPACITY || all.get(submitted) == generation) {
                        all.subList(0, submitted).forEach(this::cancel);
                        throw e;
                    }
                    break; // The queue is full: go on when the next answer is there.
                }
            }
            try {
                answers.add(await(generation));
            } catch (RuntimeException e) {
                first = first == null ? e : first;
            }
        }
        if (first != null) {
            throw first;
        }
        return answers;
    }

    /**
     * Answers a request in the background. Cancelling the future, or completing it otherwise, ends the request within one step. Its
     * callbacks run on threads of their own.
     *
     * @throws JvlmException REQUEST for a request that cannot be served, CAPACITY if too many wait already: both at once, not in the future
     */
    public CompletableFuture<Answer> submit(Request request) {
        Generation generation = start(request, piece -> {});
        CompletableFuture<Answer> future = new CompletableFuture<>();
        generation.done().whenCompleteAsync(
                (answer, failure) -> {
                    if (failure == null) {
                        future.complete(answer);
                    } else {
                        future.completeExceptionally(failure);
                    }
                },
                CALLBACKS);
        future.whenComplete((answer, failure) -> {
            if (!generation.done().isDone()) {
                cancel(generation);
            }
        });
        return future;
    }

    private Generation start(Request request, Consumer<String> pieces) {
        if (closed.get()) {
            throw new IllegalStateException("This model is closed");
        }
        Generation generation = loop.prepare(request, pieces);
        loop.submit(generation);
        return generation;
    }

    private void cancel(Generation generation) {
        generation.cancel();
        loop.wake();
    }

    private Answer await(Generation generation) {
        boolean interrupted = false;
        try {
            while (true) {
                try {
                    return generation.done().get();
                } catch (InterruptedException e) {
                    interrupted = true;
                    cancel(generation);
                } catch (ExecutionException e) {
                    throw forCaller(e.getCause());
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /** The same failure with the caller's stack: one exception may end many requests. */
    private static RuntimeException forCaller(Throwable cause) {
        if (cause instanceof JvlmException e) {
            return new JvlmException(e.code(), e.getMessage(), e);
        }
        return new CompletionException(cause);
    }

    /**
     * Frees the model. Running requests are cancelled; their answers hold what had been generated. Later calls do nothing, other methods throw
     * {@link IllegalStateException}.
     */
    @Override
    public void close() {
        closed.set(true);
        loop.close();
    }
}
