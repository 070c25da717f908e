package dev.jvlm.engine;

import dev.jvlm.error.JvlmException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Supplier;
import org.bytedeco.javacpp.FloatPointer;

/**
 * A model in native memory. One thread at a time; every failure is a {@link JvlmException}. After a DEVICE error the engine repeats it
 * until it is closed.
 */
final class Engine implements AutoCloseable {
    private NativeJvlm.Engine handle;
    private final int vocabulary;
    private JvlmException failure;

    private Engine(NativeJvlm.Engine handle, int vocabulary) {
        this.handle = handle;
        this.vocabulary = vocabulary;
    }

    /**
     * Opens a model.
     *
     * @param progress two counters that native code keeps current, bytes loaded and bytes in all, or null
     */
    static Engine open(String device, String spec, String manifest, Limits limits, int vocabulary, LongBuffer progress) {
        return new Engine(call(() -> NativeJvlm.open(device, spec, manifest, limits.toText(), progress)), vocabulary);
    }

    /** Bytes by part that {@code open} would take. */
    static Map<String, Long> plan(String device, String spec, Limits limits) {
        Map<String, Long> parts = new LinkedHashMap<>();
        text(out -> NativeJvlm.info(device, spec, limits.toText(), out, out.capacity()))
                .lines()
                .map(line -> line.split("\t"))
                .forEach(f -> parts.put(f[0], Long.parseLong(f[1])));
        return parts;
    }

    /** The devices of this machine: name to description. */
    static Map<String, String> devices() {
        Map<String, String> found = new LinkedHashMap<>();
        text(out -> NativeJvlm.devices(out, out.capacity()))
                .lines()
                .map(line -> line.split("\t", 2))
                .forEach(f -> found.put(f[0], f[1]));
        return found;
    }

    private interface Writer {
        long into(ByteBuffer out);
    }

    private static String text(Writer writer) {
        return call(() -> {
            ByteBuffer out = ByteBuffer.allocateDirect(1 << 12);
            long bytes = writer.into(out);
            if (bytes > out.capacity()) {
                out = ByteBuffer.allocateDirect((int) bytes);
                writer.into(out);
            }
            byte[] text = new byte[(int) bytes - 1];
            out.get(0, text);
            return new String(text, StandardCharsets.UTF_8);
        });
    }

    /** Engines that are open in this process. */
    static int live() {
        return call(NativeJvlm::live_engines);
    }

    /**
     * Pictures to rows of the vision buffer.
     *
     * @param rgb the pictures' bytes, one picture after the other
     * @param shape four numbers a picture: pixel height, pixel width, patch rows, patch columns
     */
    void encode(ByteBuffer rgb, int count, IntBuffer shape, int firstRow) {
        guarded(() -> {
            NativeJvlm.encode(handle, rgb, count, shape, firstRow);
            return null;
        });
    }

    void submit(StepPlan p) {
        guarded(() -> {
            NativeJvlm.submit(
                    handle,
                    p.tokens(),
                    whole(p.token),
                    whole(p.visionRow),
                    p.sequences(),
                    whole(p.seqStart),
                    whole(p.past),
                    whole(p.ropeLength),
                    whole(p.pageStart),
                    whole(p.page),
                    p.logitsRows(),
                    whole(p.logitsRow),
                    p.sample.position() == 0 ? null : whole(p.sample),
                    p.biasSlot.position(),
                    whole(p.biasSlot),
                    p.bias.duplicate().clear());
            return null;
        });
    }

    /** JavaCPP passes a buffer from its position on. */
    private static IntBuffer whole(IntBuffer b) {
        return b.duplicate().clear();
    }

    /** Waits for the oldest step; {@code ids} gets what was chosen in each row, -1 where it is not all numbers, -2 where nothing may be chosen. */
    void collect(IntBuffer ids) {
        guarded(() -> {
            NativeJvlm.collect(handle, ids.clear());
            return null;
        });
    }

    /** The logits (rows, vocabulary) of the step collected last; native memory, valid until the next collect. */
    FloatBuffer logits(int rows) {
        return guarded(() -> {
            try (FloatPointer p = NativeJvlm.logits(handle)) {
                return p.capacity((long) rows * vocabulary).asBuffer();
            }
        });
    }

    /** Starts recording the taps whose names start so, or stops with "". */
    void record(String prefix) {
        guarded(() -> NativeJvlm.trace(handle, prefix, null, 0));
    }

    /** What a tap recorded; empty if nothing. */
    float[] recorded(String name) {
        return guarded(() -> {
            FloatBuffer one = floats(1);
            int count = Math.toIntExact(NativeJvlm.trace(handle, name, one, 0));
            FloatBuffer all = floats(Math.max(1, count));
            NativeJvlm.trace(handle, name, all, count);
            float[] values = new float[count];
            all.get(0, values);
            return values;
        });
    }

    static FloatBuffer floats(int count) {
        return ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asFloatBuffer();
    }

    @Override
    public void close() {
        if (handle != null) {
            NativeJvlm.Engine closing = handle;
            handle = null;
            call(() -> {
                NativeJvlm.close(closing);
                return null;
            });
        }
    }

    private <T> T guarded(Supplier<T> body) {
        if (handle == null) {
            throw new IllegalStateException("The engine is closed");
        }
        if (failure != null) {
            throw failure;
        }
        try {
            return call(body);
        } catch (JvlmException e) {
            if (e.code() == JvlmException.Code.DEVICE) {
                failure = e;
            }
            throw e;
        }
    }

    /** Runs native code; what it throws arrives as "CODE: sentence". */
    static <T> T call(Supplier<T> body) {
        NativeLibrary.require();
        try {
            return body.get();
        } catch (JvlmException e) {
            throw e;
        } catch (RuntimeException e) {
            String message = String.valueOf(e.getMessage());
            for (JvlmException.Code code : JvlmException.Code.values()) {
                if (message.startsWith(code + ": ")) {
                    throw new JvlmException(code, message.substring(code.name().length() + 2));
                }
            }
            throw e;
        }
    }
}
