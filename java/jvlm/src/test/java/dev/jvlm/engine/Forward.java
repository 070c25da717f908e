package dev.jvlm.engine;

import dev.jvlm.image.Tiles;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.model.ModelSpec;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;

/** Drives an engine by hand, one sequence at a time: pictures, prompt in chunks, then given ids one by one. */
public final class Forward implements AutoCloseable {
    private static final int PAGE_TOKENS = 64;
    private static final int STEP_TOKENS = 1000;
    private static final int ENCODE_TILES = 4;

    private final Engine engine;
    private final Limits limits;
    private final ModelSpec spec;
    private final StepPlan plan;
    private final IntBuffer ids;
    private final int[] pages;
    private int cached;

    Forward(Engine engine, Limits limits, ModelSpec spec) {
        this.engine = engine;
        this.limits = limits;
        this.spec = spec;
        this.plan = new StepPlan(limits.stepTokens(), limits.sequences(), limits.pages());
        this.ids = StepPlan.ints(limits.sequences());
        // Out of order on purpose: a mistake in the block table must not go unseen.
        this.pages = new int[limits.pages()];
        for (int i = 0; i < pages.length; i++) {
            pages[i] = pages.length - 1 - i;
        }
    }

    /**
     * An engine for one sequence at a time.
     *
     * @param context the longest sequence, prompt and answer together
     * @param visionRows the most vision rows of a prompt
     */
    public static Forward open(Checkpoint checkpoint, String device, String precision, int context, int visionRows) {
        ModelSpec spec = checkpoint.blueprint().spec();
        Limits limits = limits(spec, precision, context, visionRows);
        return new Forward(
                Engine.open(device, spec.toText(), checkpoint.manifest().toText(), limits, spec.decoder().vocabulary(), null),
                limits, spec);
    }

    private static Limits limits(ModelSpec spec, String precision, int context, int visionRows) {
        int pages = (context + PAGE_TOKENS - 1) / PAGE_TOKENS;
        return new Limits(
                precision, pages, PAGE_TOKENS, 1, STEP_TOKENS, Math.max(visionRows, ENCODE_TILES * spec.rowsPerTile()), ENCODE_TILES,
                context, false);
    }

    /** The limits that {@link #open} would open an engine with, as native code reads them. */
    public static String limitsText(ModelSpec spec, String precision, int context, int visionRows) {
        return limits(spec, precision, context, visionRows).toText();
    }

    /** Engines that are open in this process. */
    public static int live() {
        return Engine.live();
    }

    /** Starts recording the taps whose names start so ("*": all), or stops with "". */
    public void record(String prefix) {
        engine.record(prefix);
    }

    /** What a tap recorded since, in the order of computation. */
    public float[] recorded(String name) {
        return engine.recorded(name);
    }

    @Override
    public void close() {
        engine.close();
    }

    /** Pictures to vision rows. */
    public void encode(Tiles tiles, int rowsPerTile) {
        for (int first = 0; first < tiles.count(); first += limits.encodeTiles()) {
            int n = Math.min(limits.encodeTiles(), tiles.count() - first);
            engine.encode(tiles.rgb(first, n), n, tiles.shape(first, n), first * rowsPerTile);
        }
    }

    /** Forgets what is cached and runs a prompt; the logits of its last token. */
    public float[] prompt(int[] prompt, int[] visionRow) {
        cached = 0;
        float[] logits = null;
        while (cached < prompt.length) {
            int n = Math.min(limits.stepTokens(), prompt.length - cached);
            plan.clear();
            plan.begin(cached, pages, pagesFor(cached + n));
            for (int i = cached; i < cached + n; i++) {
                plan.add(prompt[i], visionRow[i]);
            }
            cached += n;
            logits = step(prompt.length, cached == prompt.length);
        }
        return logits;
    }

    /** Feeds one id; the logits that follow it. */
    public float[] next(int id) {
        plan.clear();
        plan.begin(cached, pages, pagesFor(cached + 1));
        plan.add(id, -1);
        cached++;
        return step(cached, true);
    }

    private float[] step(int ropeLength, boolean wantLogits) {
        if (wantLogits) {
            plan.wantLogits();
        }
        plan.end(ropeLength);
        engine.submit(plan);
        engine.collect(ids);
        if (!wantLogits) {
            return null;
        }
        FloatBuffer row = engine.logits(1);
        float[] logits = new float[spec.decoder().vocabulary()];
        row.get(0, logits);
        return logits;
    }

    private int pagesFor(int tokens) {
        return (tokens + limits.pageTokens() - 1) / limits.pageTokens();
    }
}
