package dev.jvlm.sampling;

import static org.assertj.core.api.Assertions.assertThat;

import dev.jvlm.text.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class OcrRuleTest {

    @Test
    void suppressesWhatH2ovlsOwnCodeSuppresses(@TempDir Path folder) throws IOException {
        Path tests = Path.of(System.getProperty("jvlm.root"), "tests");
        // Only the SentencePiece model; the json beside it holds added tokens.
        Files.copy(tests.resolve("tokenizers/mistral-7b-v0.1/tokenizer.model"), folder.resolve("tokenizer.model"));
        List<String> wrong = new ArrayList<>();
        int cases = SamplingVectors.ocrRule(tests.resolve("goldens/sampling/ocr_rule.json"), Tokenizer.load(folder), wrong::add);
        assertThat(wrong).isEmpty();
        assertThat(cases).isEqualTo(60);
    }
}
