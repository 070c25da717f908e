package dev.jvlm.engine;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import dev.jvlm.image.TileShape;
import dev.jvlm.image.Tiler;
import dev.jvlm.image.Tiles;
import dev.jvlm.model.Blueprint;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.Manifest;
import dev.jvlm.model.Prompt;
import dev.jvlm.request.FinishReason;
import dev.jvlm.request.Request;
import dev.jvlm.request.Turn;
import dev.jvlm.sampling.DeviceSampling;
import dev.jvlm.sampling.OcrRule;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import java.util.stream.IntStream;

/**
 * A model that answers many requests at a time. One thread owns the engine: it admits requests, encodes pictures a few tiles at a time, runs steps
 * over all running sequences and hands tokens to their {@link Generation}s. A second one cuts pictures into tiles. Neither ever runs code
 * of a user.
 */
public final class EngineLoop implements AutoCloseable {
    private static final long PROGRESS_MILLIS = 50;

    private final Checkpoint checkpoint;
    private final Limits limits;
    private final int queue;
    private final Engine engine;
    private final Scheduler scheduler;
    private final StepPlan plan;
    private final IntBuffer ids;
    private final OcrRule ocrRule;
    private final boolean deviceSamples;
    private final Map<Sequence, Generation> generations = new HashMap<>();
    private final Deque<Flight> flights = new ArrayDeque<>();
    private final ExecutorService preparation;
    private final Thread thread;

    // What other threads leave for the engine's, under the lock. A virtual thread that waits for a ReentrantLock gives its carrier back.
    private final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();
    private final Deque<Generation> inbox = new ArrayDeque<>();
    private boolean signalled;
    private boolean closing;
    private JvlmException failure;
    /** Requests that have been taken and not admitted yet. */
    private int waiting;

    /** A step that was submitted: its sequences, and the one of each row of logits, null where nobody wants it any more. */
    private record Flight(List<Sequence> planned, List<Sequence> rowsOf) {}

    private EngineLoop(Checkpoint checkpoint, Limits limits, int queue, Engine engine, boolean deviceSamples) {
        this.checkpoint = checkpoint;
        this.limits = limits;
        this.queue = queue;
        this.engine = engine;
        this.deviceSamples = deviceSamples;
        this.scheduler = new Scheduler(limits);
        this.plan = new StepPlan(limits.stepTokens(), limits.sequences(), limits.pages());
        this.ids = StepPlan.ints(limits.sequences());
        this.ocrRule = new OcrRule(checkpoint.tokenizer());
        this.preparation = Executors.newSingleThreadExecutor(task -> daemon(task, "jvlm-pictures"));
        this.thread = daemon(this::run, "jvlm-engine");
    }

    private static Thread daemon(Runnable task, String name) {
        Thread thread = new Thread(task, name);
        thread.setDaemon(true);
        return thread;
    }

    /**
     * Loads a model.
     *
     * @param device cpu, cuda:0 and so on
     * @param precision float32, bf16 or int8
     * @param deterministic whether a request's numbers do not depend on what runs beside it
     * @param context longest sequence in tokens, 0 for the default
     * @param sequences requests that run at the same time
     * @param queue requests that may wait
     * @param memoryLimit bytes that the engine may take, 0 for what the machine has
     * @param progress gets bytes loaded and bytes in all, on the calling thread
     * @throws JvlmException CAPACITY if it does not fit into the memory, with both numbers, before anything is taken
     */
    public static EngineLoop open(Checkpoint checkpoint, String device, String precision, boolean deterministic, int context, int sequences,
            int queue, long memoryLimit, BiConsumer<Long, Long> progress) {
        Blueprint blueprint = checkpoint.blueprint();
        Limits limits = Limits.of(blueprint.spec(), blueprint.tiling(), device, precision, deterministic, context, sequences);
        String spec = blueprint.spec().toText();
        Map<String, Long> memory = Engine.plan(device, spec, limits);
        checkMemory(memory, device, memoryLimit);
        Engine engine = load(checkpoint.manifest(), device, spec, limits, blueprint.spec().decoder().vocabulary(), progress);
        EngineLoop loop = new EngineLoop(checkpoint, limits, queue, engine, memory.get("sampling") > 0);
        loop.thread.start();
        return loop;
    }

    /** Bytes by part that {@link #open} would take; nothing is taken. */
    public static Map<String, Long> memoryPlan(Blueprint blueprint, String device, String precision, boolean deterministic, int context,
            int sequences) {
        return Engine.plan(device, blueprint.spec().toText(),
                Limits.of(blueprint.spec(), blueprint.tiling(), device, precision, deterministic, context, sequences));
    }

    /** The limits that {@link #open} would give to native code, as text ({@code native/engine/limits.h}): for the native benchmark. */
    public static String limits(Blueprint blueprint, String device, String precision, int context, int sequences) {
        return Limits.of(blueprint.spec(), blueprint.tiling(), device, precision, false, context, sequences).toText();
    }

    /** The devices of this machine: name to description. */
    public static Map<String, String> devices() {
        return Engine.devices();
    }

    /** Engines that are open in this process. */
    public static int live() {
        return Engine.live();
    }

    /** The caller's limit holds on every device; a device with memory of its own is asked for it by native code. */
    private static void checkMemory(Map<String, Long> plan, String device, long limit) {
        long needed = plan.values().stream().mapToLong(Long::longValue).sum();
        // Of the container, where there is one.
        long machine = ((com.sun.management.OperatingSystemMXBean) java.lang.management.ManagementFactory.getOperatingSystemMXBean())
                .getTotalMemorySize();
        long most = limit > 0 ? limit : device.equals("cpu") ? machine : Long.MAX_VALUE;
        if (needed > most) {
            throw new JvlmException(
                    JvlmException.Code.CAPACITY,
                    "The model needs " + (needed >> 20) + " MiB of memory, " + (limit > 0 ? "the limit is " : "this machine has ")
                            + (most >> 20) + " MiB; choose the precision int8, a smaller context or fewer sequences");
        }
    }

    private static Engine load(Manifest manifest, String device, String spec, Limits limits, int vocabulary,
            BiConsumer<Long, Long> progress) {
        LongBuffer counters = ByteBuffer.allocateDirect(16).order(ByteOrder.nativeOrder()).asLongBuffer();
        Engine[] opened = new Engine[1];
        Throwable[] failed = new Throwable[1];
        Thread loader = daemon(
                () -> {
                    try {
                        opened[0] = Engine.open(device, spec, manifest.toText(), limits, vocabulary, counters);
                    } catch (Throwable e) {
                        failed[0] = e;
                    }
                },
                "jvlm-load");
        loader.start();
        boolean interrupted = false;
        RuntimeException fromCaller = null;
        boolean loading;
        do {
            loading = loader.isAlive();
            try {
                loader.join(PROGRESS_MILLIS);
            } catch (InterruptedException e) {
                interrupted = true; // Loading cannot be cut short; the caller sees the flag afterwards.
            }
            if (fromCaller == null && counters.get(1) > 0) {
                try {
                    progress.accept(counters.get(0), counters.get(1));
                } catch (RuntimeException e) {
                    fromCaller = e;
                }
            }
        } while (loading); // Once more after the end: the last report is the whole.
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
        if (failed[0] instanceof RuntimeException e) {
            throw e;
        }
        if (failed[0] instanceof Error e) {
            throw e;
        }
        if (fromCaller != null) {
            opened[0].close();
            throw fromCaller;
        }
        return opened[0];
    }

    /** For tests: pages that no request holds; exact when nothing runs. */
    int freePages() {
        return scheduler.freePages();
    }

    // ---- any thread ---------------------------------------------------------------------------------------------------------------

    /** The longest sequence in tokens, prompt and answer together. */
    public int context() {
        return limits.context();
    }

    /**
     * Checks a request and makes its prompt; nothing is queued yet.
     *
     * @param pieces gets the text as it becomes certain, on the engine's thread: it must return at once and not throw
     * @throws JvlmException REQUEST
     */
    public Generation prepare(Request request, Consumer<String> pieces) {
        long start = System.nanoTime();
        Blueprint blueprint = checkpoint.blueprint();
        int vocabulary = blueprint.spec().decoder().vocabulary();
        request.sampling().checkAgainst(vocabulary);
        if (request.maxTokens() != null && request.maxTokens() > limits.context()) {
            throw refused("maxTokens is " + request.maxTokens() + "; the context holds " + limits.context() + " tokens in all");
        }
        List<Generation.Picture> pictures = pictures(request);
        int rowsPerTile = blueprint.spec().rowsPerTile();
        int[] rows = pictures.stream().mapToInt(p -> Math.multiplyExact(p.count(), rowsPerTile)).toArray();
        Prompt prompt = request.mode() == Request.Mode.COMPLETION
                ? checkpoint.completion(request.parts(), rows, limits.context())
                : checkpoint.prompt(request.system(), request.history(), request.parts(), rows, limits.context());
        int room = limits.context() - prompt.ids().length + 1; // The last token of an answer is never put into the cache.
        DeviceSampling onDevice = onDevice(request);
        Sequence sequence = new Sequence(prompt.ids(), prompt.visionRow(), pictures.stream().mapToInt(Generation.Picture::count).sum(), prompt.rows(),
                Math.min(request.maxTokens() == null ? Request.DEFAULT_MAX_TOKENS : request.maxTokens(), room), onDevice != null);
        return new Generation(request, sequence, pictures, checkpoint, onDevice,
                request.mode() == Request.Mode.OCR ? ocrRule : null, pieces, System.nanoTime() - start);
    }

    /** How the device chooses the request's tokens; null where only Java's sampler can. */
    private DeviceSampling onDevice(Request request) {
        if (request.logprobs() > 0 || request.mode() == Request.Mode.OCR) {
            return null;
        }
        if (request.sampling().isPlainGreedy() && request.minTokens() == 0) {
            return DeviceSampling.LIKELIEST;
        }
        return deviceSamples && DeviceSampling.serves(request.sampling())
                ? new DeviceSampling(request.sampling(), checkpoint.stopIds(), request.minTokens(), checkpoint.bannedIds())
                : null;
    }

    private List<Generation.Picture> pictures(Request request) {
        List<Image> images = new ArrayList<>();
        for (Turn turn : request.history()) {
            turn.question().forEach(part -> images.addAll(part.images()));
        }
        request.parts().forEach(part -> images.addAll(part.images()));
        Blueprint blueprint = checkpoint.blueprint();
        Tiler tiler = blueprint.tiling().tiler(request, images.size(), blueprint.spec().vision().patch());
        List<List<TileShape>> shapes = tiler.plan(images.stream().map(Image::size).toList());
        return IntStream.range(0, images.size()).mapToObj(i -> new Generation.Picture(images.get(i), tiler, shapes.get(i))).toList();
    }

    private static JvlmException refused(String why) {
        return new JvlmException(JvlmException.Code.REQUEST, "Request: " + why);
    }

    /**
     * Queues what was prepared.
     *
     * @throws JvlmException CAPACITY if too many requests wait already, DEVICE if the engine has failed
     * @throws IllegalStateException if it is closed
     */
    public void submit(Generation generation) {
        lock.lock();
        try {
            if (closing) {
                throw new IllegalStateException("This model is closed");
            }
            if (failure != null) {
                throw failure;
            }
            if (waiting >= queue + limits.sequences()) {
                throw new JvlmException(
                        JvlmException.Code.CAPACITY,
                        queue + " requests are waiting already; try again later, or open the model with a longer queue");
            }
            waiting++;
            inbox.add(generation);
            signal();
        } finally {
            lock.unlock();
        }
    }

    /** Makes the engine's thread look at cancelled requests now. */
    public void wake() {
        lock.lock();
        try {
            signal();
        } finally {
            lock.unlock();
        }
    }

    private void signal() {
        signalled = true;
        changed.signal();
    }

    /** Cancels what runs, waits for it and frees the model. Called a second time, it only waits. */
    @Override
    public void close() {
        lock.lock();
        try {
            closing = true;
            signal();
        } finally {
            lock.unlock();
        }
        boolean interrupted = false;
        while (thread.isAlive()) {
            try {
                thread.join();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    // ---- the engine's thread ------------------------------------------------------------------------------------------------------

    private void run() {
        try {
            while (take()) {
                turn();
            }
            generations.values().forEach(g -> g.finish(FinishReason.CANCELLED));
            while (!flights.isEmpty()) {
                collect();
            }
        } catch (Throwable e) {
            fail(e);
        } finally {
            preparation.shutdownNow();
            engine.close();
        }
    }

    /** Takes new requests; waits while there is nothing to do. False: it is time to end. */
    private boolean take() {
        lock.lock();
        try {
            while (!closing && !signalled && generations.isEmpty() && flights.isEmpty()) {
                changed.awaitUninterruptibly();
            }
            signalled = false;
            for (Generation g; (g = inbox.poll()) != null; ) {
                generations.put(g.sequence, g);
                scheduler.add(g.sequence);
            }
            return !closing;
        } finally {
            lock.unlock();
        }
    }

    private void turn() {
        for (Generation g : generations.values()) {
            if (g.unpreparable != null) {
                g.fail(g.unpreparable);
            } else if (g.mustStop()) {
                g.finish(FinishReason.CANCELLED);
            }
        }
        release();
        for (Sequence s : scheduler.admit()) {
            Generation g = generations.get(s);
            g.admittedNow();
            countAdmitted(1);
            if (s.tiles > 0) {
                preparation.execute(() -> cut(g));
            }
        }
        boolean encoded = encode();
        // Whoever looks at logits needs the last step's before the next one can be planned.
        boolean submitted = (flights.isEmpty() || scheduler.allRunAhead()) && step();
        if (flights.size() == 2 || !submitted && !flights.isEmpty()) {
            collect();
        } else if (!submitted && !encoded) {
            awaitPictures();
        }
        release();
    }

    private void release() {
        for (Sequence s : scheduler.release()) {
            Generation g = generations.remove(s);
            if (s.pages == null) {
                countAdmitted(1);
            }
            g.pictures.forEach(p -> p.tiles = null);
        }
    }

    private void countAdmitted(int n) {
        lock.lock();
        waiting -= n;
        lock.unlock();
    }

    /** Nothing can be computed before a picture has been cut, or nothing is left to do. */
    private void awaitPictures() {
        lock.lock();
        try {
            if (!signalled && !closing && scheduler.running() > 0) {
                changed.awaitUninterruptibly();
            }
        } finally {
            lock.unlock();
        }
    }

    /** On the thread that prepares pictures. */
    private void cut(Generation g) {
        for (Generation.Picture p : g.pictures) {
            if (g.sequence.finished) {
                return;
            }
            long start = System.nanoTime();
            try {
                p.cut();
            } catch (Throwable e) {
                g.unpreparable = e;
            }
            g.addPreprocessing(System.nanoTime() - start);
            wake();
        }
    }

    /** Encodes a few tiles of the first sequence whose next picture has been cut. */
    private boolean encode() {
        Sequence s = scheduler.nextToEncode(candidate -> generations.get(candidate).nextTiles() != null);
        if (s == null) {
            return false;
        }
        Generation g = generations.get(s);
        Generation.Next next = g.nextTiles();
        Tiles tiles = next.tiles();
        int count = Math.min(limits.encodeTiles(), tiles.count() - next.first());
        long start = System.nanoTime();
        try {
            engine.encode(tiles.rgb(next.first(), count), count, tiles.shape(next.first(), count),
                    s.firstRow + s.tilesEncoded * checkpoint.blueprint().spec().rowsPerTile());
        } catch (JvlmException e) {
            failVictims(List.of(s), e);
        }
        s.tilesEncoded += count;
        g.addVision(System.nanoTime() - start);
        return true;
    }

    private boolean step() {
        List<Sequence> rowsOf = scheduler.plan(plan);
        if (plan.isEmpty()) {
            return false;
        }
        if (rowsOf.stream().anyMatch(s -> onDevice(s) != DeviceSampling.LIKELIEST)) {
            rowsOf.forEach(this::sample);
        }
        engine.submit(plan);
        flights.add(new Flight(scheduler.planned(), rowsOf));
        return true;
    }

    /** Where Java's sampler chooses, the device chooses too, and nobody looks. */
    private DeviceSampling onDevice(Sequence s) {
        DeviceSampling sampling = generations.get(s).onDevice;
        return sampling == null ? DeviceSampling.LIKELIEST : sampling;
    }

    /** Adds to the plan how a sequence's next token is chosen. */
    private void sample(Sequence s) {
        DeviceSampling sampling = onDevice(s);
        int index = s.issued - 1;
        sampling.write(plan.sample, s.slot, index);
        if (sampling.newBias(index)) {
            plan.bias(s.slot, sampling.bias(index, checkpoint.blueprint().spec().decoder().vocabulary()));
        }
    }

    private void collect() {
        Flight flight = flights.remove();
        flight.planned.forEach(s -> s.inFlight--);
        try {
            engine.collect(ids);
        } catch (JvlmException e) {
            failVictims(flight.planned, e);
            return;
        }
        int vocabulary = checkpoint.blueprint().spec().decoder().vocabulary();
        FloatBuffer logits = null;
        for (int row = 0; row < flight.rowsOf.size(); row++) {
            Sequence s = flight.rowsOf.get(row);
            if (s == null || s.finished) {
                continue;
            }
            Generation g = generations.get(s);
            try {
                int id = ids.get(row);
                boolean banned = s.runsAhead && checkpoint.bannedIds().contains(id);
                if ((g.needsLogits() || banned) && logits == null) {
                    logits = engine.logits(flight.rowsOf.size());
                }
                if (banned) {
                    takeBack(s);
                    id = bestAllowed(logits.slice(row * vocabulary, vocabulary));
                }
                g.accept(id, g.needsLogits() ? logits.slice(row * vocabulary, vocabulary) : null);
            } catch (RuntimeException e) {
                if (e instanceof JvlmException known && known.code() == JvlmException.Code.DEVICE) {
                    throw e;
                }
                g.fail(e); // This request's own fault: the others go on.
            }
        }
    }

    /** Where memory was lacking, those whose work it was end with that and the others go on; after any other failure nobody does. */
    private void failVictims(List<Sequence> victims, JvlmException e) {
        if (e.code() != JvlmException.Code.CAPACITY) {
            throw e;
        }
        victims.forEach(s -> generations.get(s).fail(e));
    }

    /**
     * The step in flight, if any, went on from a token that must not be: nobody wants its row, and the next step writes that place of the
     * cache again. Bad words are next to never the likeliest, so it costs less to run ahead and repeat a step than not to run ahead.
     */
    private void takeBack(Sequence s) {
        for (Flight later : flights) {
            if (later.rowsOf.contains(s)) {
                later.rowsOf.replaceAll(other -> other == s ? null : other);
                s.issued--;
                s.cached--;
                s.lastRow = -1;
            }
        }
    }

    private int bestAllowed(FloatBuffer logits) {
        int best = -1;
        for (int id = 0; id < logits.capacity(); id++) {
            if ((best < 0 || logits.get(id) > logits.get(best)) && !checkpoint.bannedIds().contains(id)) {
                best = id;
            }
        }
        return best;
    }

    private void fail(Throwable cause) {
        JvlmException told = cause instanceof JvlmException e
                ? e
                : new JvlmException(JvlmException.Code.DEVICE, "The engine has stopped after an unexpected failure; open the model again", cause);
        List<Generation> lost = new ArrayList<>(generations.values());
        lock.lock();
        try {
            failure = told;
            lost.addAll(inbox);
            inbox.clear();
        } finally {
            lock.unlock();
        }
        lost.stream().filter(g -> !g.done().isDone()).forEach(g -> g.fail(told));
    }
}
