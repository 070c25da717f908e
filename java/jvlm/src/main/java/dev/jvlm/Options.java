package dev.jvlm;

import dev.jvlm.error.JvlmException;
import java.nio.file.Path;
import java.util.function.BiConsumer;

/**
 * How a model is opened. Immutable; every {@code with} method returns a changed copy.
 *
 * @param device {@code auto} (what this machine has, decided once, at open, and reported by {@link Jvlm#device()}), {@code cuda:0}, or {@code cpu}; a
 *     device that is named is never replaced by another
 * @param precision see {@link Precision}
 * @param context the longest sequence, prompt and answer together, in tokens; 0 for the smaller of the model's maximum and 8192
 * @param sequences requests that run at the same time; others wait
 * @param queue requests that may wait; one more is refused with CAPACITY
 * @param memoryLimit bytes that the engine may take, 0 for no limit; a model that needs more is refused before it loads
 * @param progress called during loading, on the thread that opens, with bytes loaded and bytes in all
 * @param adapter the folder of a LoRA, rsLoRA or DoRA adapter as PEFT writes it, merged into the weights as they are loaded; null for none
 * @param deterministic whether a request's numbers are the same to the last bit whatever other requests run beside it, for what that costs in speed; on
 *     CUDA devices only, refused with DEVICE elsewhere
 */
public record Options(
        String device, Precision precision, int context, int sequences, int queue, long memoryLimit, BiConsumer<Long, Long> progress,
        Path adapter, boolean deterministic) {

    /** How weights are held and products computed; {@code float32} is what the references' recorded values are compared with. */
    public enum Precision {
        FLOAT32("float32"),
        BF16("bf16"),
        /** Weight-only: decoder matrices in 8 bits with a scale per row, the rest as {@link #BF16}. */
        INT8("int8");

        private final String label;

        Precision(String label) {
            this.label = label;
        }

        public String label() {
            return label;
        }

        /** The precision of this name: float32, bf16 or int8. */
        public static Precision of(String label) {
            for (Precision p : values()) {
                if (p.label.equals(label)) {
                    return p;
                }
            }
            throw new JvlmException(
                    JvlmException.Code.REQUEST, "The precision '" + label + "' is unknown; choose float32, bf16 or int8");
        }
    }

    public static final Options DEFAULT = new Options("auto", Precision.BF16, 0, 4, 256, 0, (done, all) -> {}, null, false);

    public Options {
        check(device != null && !device.isBlank(), "device is empty; choose auto, cuda:0 or cpu");
        check(precision != null && progress != null, "precision and progress must not be null");
        check(context >= 0 && context <= 1 << 20, "context is " + context + "; it must be 0 (the default) to 1048576");
        check(sequences >= 1 && sequences <= 256, "sequences is " + sequences + "; it must be 1 to 256");
        check(queue >= 0 && queue <= 1 << 20, "queue is " + queue + "; it must be 0 to 1048576");
        check(memoryLimit >= 0, "memoryLimit is " + memoryLimit + "; it must be 0 (none) or a number of bytes");
    }

    private static void check(boolean good, String sentence) {
        if (!good) {
            throw new JvlmException(JvlmException.Code.REQUEST, "Options: " + sentence);
        }
    }

    public Options withDevice(String device) {
        return new Options(device, precision, context, sequences, queue, memoryLimit, progress, adapter, deterministic);
    }

    public Options withPrecision(Precision precision) {
        return new Options(device, precision, context, sequences, queue, memoryLimit, progress, adapter, deterministic);
    }

    public Options withContext(int context) {
        return new Options(device, precision, context, sequences, queue, memoryLimit, progress, adapter, deterministic);
    }

    public Options withSequences(int sequences) {
        return new Options(device, precision, context, sequences, queue, memoryLimit, progress, adapter, deterministic);
    }

    public Options withQueue(int queue) {
        return new Options(device, precision, context, sequences, queue, memoryLimit, progress, adapter, deterministic);
    }

    public Options withMemoryLimit(long memoryLimit) {
        return new Options(device, precision, context, sequences, queue, memoryLimit, progress, adapter, deterministic);
    }

    public Options withProgress(BiConsumer<Long, Long> progress) {
        return new Options(device, precision, context, sequences, queue, memoryLimit, progress, adapter, deterministic);
    }

    public Options withAdapter(Path adapter) {
        return new Options(device, precision, context, sequences, queue, memoryLimit, progress, adapter, deterministic);
    }

    public Options withDeterministic(boolean deterministic) {
        return new Options(device, precision, context, sequences, queue, memoryLimit, progress, adapter, deterministic);
    }
}
