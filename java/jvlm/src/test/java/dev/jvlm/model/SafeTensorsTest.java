package dev.jvlm.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import dev.jvlm.error.JvlmException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SafeTensorsTest {

    private static final String GOOD =
            "{'__metadata__':{'format':'pt'},'a':{'dtype':'BF16','shape':[2,3],'data_offsets':[0,12]},"
                    + "'b':{'dtype':'F32','shape':[1],'data_offsets':[12,16]}}";

    @TempDir
    Path folder;

    private SafeTensors read() {
        return SafeTensors.read(ModelFolder.open(folder));
    }

    /** A file of this header, quotes written as ', and so many bytes of data. */
    static byte[] file(String header, int dataBytes) {
        byte[] json = header.replace('\'', '"').getBytes(StandardCharsets.UTF_8);
        return ByteBuffer.allocate(8 + json.length + dataBytes).order(ByteOrder.LITTLE_ENDIAN).putLong(json.length).put(json).array();
    }

    private void write(String name, byte[] bytes) throws IOException {
        Files.write(folder.resolve(name), bytes);
    }

    private void assertRefused(String... saying) {
        Throwable thrown = catchThrowable(this::read);
        assertThat(thrown).isInstanceOf(JvlmException.class).hasMessageContainingAll(saying);
        assertThat(((JvlmException) thrown).code()).isEqualTo(JvlmException.Code.MODEL_FORMAT);
        assertThat(thrown.getMessage()).doesNotContain(folder.toString());
    }

    @Test
    void findsEveryTensorWithItsPlaceInTheFile() throws IOException {
        byte[] file = file(GOOD + "   ", 16);
        write("model.safetensors", file);
        SafeTensors tensors = read();
        assertThat(tensors.tensors()).hasSize(2);
        SafeTensors.Tensor b = tensors.get("b");
        assertThat(b.dtype()).isEqualTo("F32");
        assertThat(b.shape()).isEqualTo(List.of(1L));
        assertThat(b.offset()).isEqualTo(file.length - 4);
        assertThat(b.bytes()).isEqualTo(4);
        assertThat(b.file()).isEqualTo(folder.toRealPath().resolve("model.safetensors"));
    }

    @Test
    void findsTheTensorsOfAllShards() throws IOException {
        write("one.safetensors", file("{'a':{'dtype':'F16','shape':[1],'data_offsets':[0,2]}}", 2));
        write("two.safetensors", file("{'b':{'dtype':'F16','shape':[],'data_offsets':[0,2]}}", 2));
        index("'a':'one.safetensors','b':'two.safetensors'");
        assertThat(read().tensors()).extracting(SafeTensors.Tensor::name).containsExactly("a", "b");
    }

    private void index(String map) throws IOException {
        write("model.safetensors.index.json",
                ("{\"metadata\":{},\"weight_map\":{" + map.replace('\'', '"') + "}}").getBytes(StandardCharsets.UTF_8));
    }

    @Test
    void f51_filesCutShortAreRefused() throws IOException {
        byte[] whole = file(GOOD, 16);
        for (int length = 0; length < whole.length; length++) {
            write("model.safetensors", Arrays.copyOf(whole, length));
            assertRefused("model.safetensors");
        }
    }

    @ParameterizedTest
    @CsvSource({"9223372036854775807", "-1", "-9223372036854775808", "100000001", "1000000"})
    void f51_impossibleHeaderLengthsAreRefusedBeforeAllocation(long length) throws IOException {
        byte[] bytes = file(GOOD, 16);
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putLong(length);
        write("model.safetensors", bytes);
        assertRefused("header");
    }

    @Test
    void f51_aHeaderOver100MegabytesIsRefusedEvenIfItIsThere() throws IOException {
        try (RandomAccessFile sparse = new RandomAccessFile(folder.resolve("model.safetensors").toFile(), "rw")) {
            sparse.write(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(100_000_001).array());
            sparse.setLength(300_000_000);
        }
        assertRefused("100000001", "100000000");
    }

    @Test
    void gitLfsPointersAreNamed() throws IOException {
        write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".getBytes(StandardCharsets.UTF_8));
        assertRefused("git lfs pull");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '~', value = {
        "overlapping | {'a':{'dtype':'U8','shape':[4],'data_offsets':[0,4]},'b':{'dtype':'U8','shape':[4],'data_offsets':[3,7]}} | 'b' overlaps",
        "same place | {'a':{'dtype':'U8','shape':[4],'data_offsets':[0,4]},'b':{'dtype':'U8','shape':[4],'data_offsets':[0,4]}} | overlaps",
        "gapped | {'a':{'dtype':'U8','shape':[4],'data_offsets':[0,4]},'b':{'dtype':'U8','shape':[3],'data_offsets':[5,8]}} | 'b' begins after a gap",
        "gap at the start | {'a':{'dtype':'U8','shape':[7],'data_offsets':[1,8]}} | 'a' begins after a gap",
        "gap at the end | {'a':{'dtype':'U8','shape':[7],'data_offsets':[0,7]}} | 1 bytes after its last tensor",
        "nothing at all | {} | 8 bytes after its last tensor",
        "reversed | {'a':{'dtype':'U8','shape':[8],'data_offsets':[8,0]}} | 'a' ends at byte 0",
        "negative | {'a':{'dtype':'U8','shape':[8],'data_offsets':[-8,0]}} | 'a' has a shape or offsets",
        "beyond 2^63 | {'a':{'dtype':'U8','shape':[8],'data_offsets':[0,18446744073709551615]}} | 'a' has a shape or offsets",
        "beyond the file | {'a':{'dtype':'U8','shape':[9],'data_offsets':[0,9]}} | 'a' ends at byte 9",
        "three offsets | {'a':{'dtype':'U8','shape':[8],'data_offsets':[0,8,8]}} | 'a' lacks",
        "no offsets | {'a':{'dtype':'U8','shape':[8]}} | 'a' lacks",
        "overflowing shape | {'a':{'dtype':'U8','shape':[4294967296,4294967296],'data_offsets':[0,8]}} | 'a' has the impossible shape",
        "overflowing bytes | {'a':{'dtype':'F64','shape':[2305843009213693952],'data_offsets':[0,8]}} | 'a' has the impossible shape",
        "shape against bytes | {'a':{'dtype':'BF16','shape':[3],'data_offsets':[0,8]}} | 'a' has 8 bytes, but BF16 of shape [3] takes 6",
        "fraction | {'a':{'dtype':'U8','shape':[8.0],'data_offsets':[0,8]}} | 'a' has a shape or offsets",
        "nine dimensions | {'a':{'dtype':'U8','shape':[8,1,1,1,1,1,1,1,1],'data_offsets':[0,8]}} | 'a' has a shape or offsets",
        "nested list | {'a':{'dtype':'U8','shape':[[8]],'data_offsets':[0,8]}} | 'a' has a shape or offsets",
        "unknown dtype | {'a':{'dtype':'Q4','shape':[8],'data_offsets':[0,8]}} | 'a' has the unknown dtype 'Q4'",
        "dtype no text | {'a':{'dtype':5,'shape':[8],'data_offsets':[0,8]}} | 'a' has the unknown dtype",
        "no object | {'a':5} | 'a' has no description",
        "unknown property | {'a':{'dtype':'U8','shape':[8],'data_offsets':[0,8],'x':0}} | 'a' has the unknown property",
        "twice | {'a':{'dtype':'U8','shape':[4],'data_offsets':[0,4]},'a':{'dtype':'U8','shape':[4],'data_offsets':[4,8]}} | 'a' occurs twice",
        "shape twice | {'a':{'dtype':'U8','shape':[8],'shape':[8],'data_offsets':[0,8]}} | 'a' has shape twice",
        "no header | [1,2] | no JSON object",
        "two headers | {}{} | no JSON object",
        "broken | {'a' | no JSON object",
    })
    void f52_damagedHeadersAreRefusedWithTheTensorNamed(String what, String header, String saying) throws IOException {
        write("model.safetensors", file(header, 8));
        assertRefused(saying);
    }

    @Test
    void f52_aTensorInTwoShardsIsRefused() throws IOException {
        write("one.safetensors", file(GOOD, 16));
        write("two.safetensors", file("{'b':{'dtype':'F16','shape':[1],'data_offsets':[0,2]}}", 2));
        index("'a':'one.safetensors','b':'two.safetensors'");
        assertRefused("'b' occurs twice");
    }

    @Tag("full")
    @Test
    void f52_randomlyChangedHeadersAreReadOrRefused() throws IOException {
        Random random = new Random(52);
        int refused = 0;
        for (int i = 0; i < 3000; i++) {
            byte[] bytes = file(GOOD, 16);
            for (int changes = 1 + random.nextInt(3); changes > 0; changes--) {
                bytes[random.nextInt(bytes.length - 16)] = (byte) (random.nextBoolean() ? random.nextInt() : ' ' + random.nextInt(90));
            }
            write("model.safetensors", bytes);
            Throwable thrown = catchThrowable(this::read);
            if (thrown != null) {
                refused++;
                assertThat(thrown).as(new String(bytes, StandardCharsets.ISO_8859_1)).isInstanceOf(JvlmException.class);
            }
        }
        assertThat(refused).isBetween(1000, 2999);
    }

    @Test
    void f53_anIndexThatContradictsItsShardsIsRefused() throws IOException {
        write("one.safetensors", file(GOOD, 16));
        index("'a':'one.safetensors','c':'one.safetensors'");
        assertRefused("'c'", "'one.safetensors'");
        index("'a':5");
        assertRefused("'a'");
        index("");
        assertRefused("weight_map");
        index("'a':'gone.safetensors'");
        assertRefused("'gone.safetensors'");
    }

    @Test
    void f58_pickledWeightsAreRefusedWithAdvice() throws IOException {
        write("pytorch_model.bin", new byte[10]);
        assertThatThrownBy(this::read)
                .hasMessageContainingAll("pytorch_model.bin", "Convert it to safetensors")
                .extracting("code")
                .isEqualTo(JvlmException.Code.MODEL_UNSUPPORTED);
    }

    @Test
    void aFolderWithoutWeightsIsRefused() {
        assertRefused("no weights");
    }

    @ParameterizedTest
    @CsvSource({"../outside.safetensors", "/etc/passwd", "..", ".", "''", "sub/one.safetensors", "sub\\\\one.safetensors", "a\\u0000b"})
    void f60_anIndexThatLeadsOutOfTheFolderIsRefused(String name) throws IOException {
        Files.write(folder.resolveSibling("outside.safetensors"), file(GOOD, 16));
        index("'a':'" + name + "'");
        assertRefused("no plain name");
    }

    @Test
    void f60_linksOutOfTheFolderAreRefused() throws IOException {
        Path inner = Files.createDirectory(folder.resolve("model"));
        Path outside = Files.write(folder.resolve("outside"), file(GOOD, 16));
        Files.createSymbolicLink(inner.resolve("model.safetensors"), outside);
        assertThatThrownBy(() -> SafeTensors.read(ModelFolder.open(inner)))
                .isInstanceOf(JvlmException.class)
                .hasMessageContaining("leads out of the model folder");
    }

    @Test
    void linksOfADownloadCacheAreFollowed() throws IOException {
        Path blob = Files.write(Files.createDirectory(folder.resolve("blobs")).resolve("0123"), file(GOOD, 16));
        Path snapshot = Files.createDirectories(folder.resolve("snapshots/abc"));
        Files.createSymbolicLink(snapshot.resolve("model.safetensors"), Path.of("../../blobs/0123"));
        assertThat(SafeTensors.read(ModelFolder.open(snapshot)).get("a").file()).isEqualTo(blob.toRealPath());
    }

    @Test
    void aFolderInPlaceOfAFileIsRefused() throws IOException {
        Files.createDirectory(folder.resolve("model.safetensors"));
        assertRefused("no regular file");
    }
}
