package dev.jvlm.request;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.jvlm.error.JvlmException;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.NullSource;
import org.junit.jupiter.params.provider.ValueSource;

class TileLimitsTest {

    @ParameterizedTest
    @CsvSource({
        "DocVQA, 18", "ChartQA, 12", "InfoVQA, 24", "TextVQA, 24", "OCRBench, 24", "MME, 12", "RealWorldQA, 6", "AI2D, 6", "MMMU, 6",
        "MMBench, 6", "CCBench, 6", "MM-Vet, 6", "SEED, 6", "HallusionBench, 6", "MathVista, 6", "OCR-VQA, 12",
        "docvqa, 18", "MMVet, 6", "ocr_vqa, 12", "Text VQA, 24",
    })
    void theLimitsOfThePublishedScores(String dataset, int tiles) {
        assertThat(TileLimits.of(dataset)).isEqualTo(tiles);
        assertThat(Request.builder().text("?").maxTiles(TileLimits.of(dataset)).build().maxTiles()).isEqualTo(tiles);
    }

    @ParameterizedTest
    @NullSource
    @ValueSource(strings = {"", "VQA", "DocVQA val"})
    void otherNamesAreRefusedWithTheListOfThose(String dataset) {
        assertThatThrownBy(() -> TileLimits.of(dataset))
                .isInstanceOf(JvlmException.class)
                .hasMessageContaining("there are those of AI2D, CCBench, ChartQA, DocVQA,")
                .extracting("code")
                .isEqualTo(JvlmException.Code.REQUEST);
    }
}
