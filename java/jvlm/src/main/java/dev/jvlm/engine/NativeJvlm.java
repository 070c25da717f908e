package dev.jvlm.engine;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.annotation.Cast;
import org.bytedeco.javacpp.annotation.Namespace;
import org.bytedeco.javacpp.annotation.Opaque;
import org.bytedeco.javacpp.annotation.Platform;

/**
 * {@code native/include/jvlm.h}, entry by entry; see there for what each one means. Buffers are direct: others would be copied. JavaCPP
 * writes the JNI source from this class, CMake compiles it into libjvlm. oneDNN and its OpenMP runtime come out of Bytedeco's jar.
 */
@Platform(
        include = "jvlm.h",
        library = "jvlm",
        define = "STRING_BYTES_CHARSET \"UTF-8\"",
        preload = {"gomp@.1", "dnnl@.3"},
        preloadresource = "/org/bytedeco/dnnl/")
@Namespace("jvlm")
final class NativeJvlm {
    static {
        Loader.load();
    }

    private NativeJvlm() {}

    /** An opaque handle. It has no deallocator: nothing but {@link #close} ever frees an engine. */
    @Opaque
    static final class Engine extends Pointer {
        static {
            Loader.load();
        }

        Engine(Pointer p) {
            super(p);
        }
    }

    static native Engine open(String device, String spec, String manifest, String limits, @Cast("int64_t*") LongBuffer progress);

    @Cast("int64_t")
    static native long info(String device, String spec, String limits, @Cast("char*") ByteBuffer out, @Cast("int64_t") long capacity);

    @Cast("int64_t")
    static native long devices(@Cast("char*") ByteBuffer out, @Cast("int64_t") long capacity);

    static native void resize(
            @Cast("const uint8_t*") ByteBuffer rgb,
            int height,
            int width,
            int filter,
            @Cast("const int32_t*") IntBuffer sizes,
            int count,
            @Cast("uint8_t*") ByteBuffer out);

    static native void encode(
            Engine engine, @Cast("const uint8_t*") ByteBuffer rgb, int count, @Cast("const int32_t*") IntBuffer shape, int firstRow);

    static native void submit(
            Engine engine,
            int tokens,
            @Cast("const int32_t*") IntBuffer token,
            @Cast("const int32_t*") IntBuffer visionRow,
            int sequences,
            @Cast("const int32_t*") IntBuffer seqStart,
            @Cast("const int32_t*") IntBuffer past,
            @Cast("const int32_t*") IntBuffer ropeLength,
            @Cast("const int32_t*") IntBuffer pageStart,
            @Cast("const int32_t*") IntBuffer page,
            int logitsRows,
            @Cast("const int32_t*") IntBuffer logitsRow,
            @Cast("const jvlm::SampleRow*") IntBuffer sample,
            int biases,
            @Cast("const int32_t*") IntBuffer biasSlot,
            @Cast("const float*") FloatBuffer bias);

    static native void collect(Engine engine, @Cast("int32_t*") IntBuffer ids);

    @Cast("const float*")
    static native FloatPointer logits(Engine engine);

    @Cast("int64_t")
    static native long trace(Engine engine, String name, FloatBuffer out, @Cast("int64_t") long capacity);

    static native void close(Engine engine);

    static native int live_engines();
}
