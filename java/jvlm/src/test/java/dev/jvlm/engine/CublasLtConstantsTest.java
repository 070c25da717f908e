package dev.jvlm.engine;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.bytedeco.cuda.global.cublas;
import org.bytedeco.cuda.global.cudart;
import org.junit.jupiter.api.Test;

/**
 * The constants of cuBLASLt that native code declares by hand are those of the Bytedeco presets, which are generated from NVIDIA's headers.
 * They are compile-time constants and stand in this class after compilation: the presets' classes are never initialised, for that would load
 * the driver's libraries.
 */
class CublasLtConstantsTest {

    private static final Pattern DECLARED = Pattern.compile("constexpr int (\\w+) = (\\d+);");

    private static final Map<String, Integer> PRESETS = Map.ofEntries(
            Map.entry("CUBLAS_STATUS_SUCCESS", cublas.CUBLAS_STATUS_SUCCESS),
            Map.entry("CUBLAS_STATUS_NOT_SUPPORTED", cublas.CUBLAS_STATUS_NOT_SUPPORTED),
            Map.entry("CUBLAS_COMPUTE_32F", cublas.CUBLAS_COMPUTE_32F),
            Map.entry("CUDA_R_32F", cudart.CUDA_R_32F),
            Map.entry("CUDA_R_16BF", cudart.CUDA_R_16BF),
            Map.entry("CUBLAS_OP_N", cublas.CUBLAS_OP_N),
            Map.entry("CUBLAS_OP_T", cublas.CUBLAS_OP_T),
            Map.entry("CUBLASLT_MATRIX_LAYOUT_COLS", cublas.CUBLASLT_MATRIX_LAYOUT_COLS),
            Map.entry("CUBLASLT_MATMUL_DESC_TRANSA", cublas.CUBLASLT_MATMUL_DESC_TRANSA),
            Map.entry("CUBLASLT_MATMUL_DESC_TRANSB", cublas.CUBLASLT_MATMUL_DESC_TRANSB),
            Map.entry("CUBLASLT_MATMUL_DESC_EPILOGUE", cublas.CUBLASLT_MATMUL_DESC_EPILOGUE),
            Map.entry("CUBLASLT_MATMUL_DESC_BIAS_POINTER", cublas.CUBLASLT_MATMUL_DESC_BIAS_POINTER),
            Map.entry("CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE", cublas.CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE),
            Map.entry("CUBLASLT_EPILOGUE_DEFAULT", cublas.CUBLASLT_EPILOGUE_DEFAULT),
            Map.entry("CUBLASLT_EPILOGUE_BIAS", cublas.CUBLASLT_EPILOGUE_BIAS),
            Map.entry("CUBLASLT_EPILOGUE_GELU", cublas.CUBLASLT_EPILOGUE_GELU),
            Map.entry("CUBLASLT_EPILOGUE_GELU_BIAS", cublas.CUBLASLT_EPILOGUE_GELU_BIAS),
            Map.entry("CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES", cublas.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES),
            Map.entry("CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK", cublas.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK),
            Map.entry("CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES", cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES),
            Map.entry("CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES", cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES),
            Map.entry("CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES", cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES),
            Map.entry("CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES", cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES),
            Map.entry("CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE", cublas.CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));

    @Test
    void declaredAsInThePresets() throws IOException {
        Path header = Path.of(System.getProperty("jvlm.root"), "native/ops/cuda/cublaslt_abi.h");
        Map<String, Integer> declared = new HashMap<>();
        Matcher matcher = DECLARED.matcher(Files.readString(header));
        while (matcher.find()) declared.put(matcher.group(1), Integer.valueOf(matcher.group(2)));
        assertThat(declared).isEqualTo(PRESETS);
    }
}
