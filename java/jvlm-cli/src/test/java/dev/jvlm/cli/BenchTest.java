package dev.jvlm.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import dev.jvlm.Options.Precision;
import dev.jvlm.image.Image;
import dev.jvlm.model.Blueprint;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

class BenchTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    private static Blueprint blueprint(String shape) {
        return Blueprint.read(Path.of(System.getProperty("jvlm.root"), "tests/configs", "h2ovl-mississippi-" + shape + ".json"));
    }

    @Test
    void operationsOfTheTowerAreThoseCountedByHand() {
        Work work = new Work(blueprint("800m").spec());
        // 24 layers of 1025 tokens, width 1024, mlp 4096: 2050 * (4 * 1024^2 + 2 * 1024 * 4096) + 4 * 1025^2 * 1024.
        double layers = 24 * (25_794_969_600.0 + 4_303_360_000.0);
        double patches = 2 * 1024 * 1024 * 588.0;
        double connector = 2 * 256 * (4096 * 1536 + 1536 * 1536.0);
        assertThat(work.vision(1)).isEqualTo(layers + patches + connector);
        assertThat(work.vision(7)).isEqualTo(7 * (layers + patches + connector));
        assertThat(work.connector(7)).isEqualTo(7 * connector);
    }

    @Test
    void bytesOfAStepAreThoseOfTheTensors() {
        for (String shape : new String[] {"800m", "2b"}) {
            Blueprint blueprint = blueprint(shape);
            Work work = new Work(blueprint.spec());
            double numbers = 0;
            double rows = 0;
            for (var w : blueprint.weights()) {
                if (w.target().startsWith("decoder.") && w.columns() > 1 && !w.target().contains("embed")) {
                    numbers += w.rows() * w.columns();
                    rows += w.rows();
                }
            }
            assertThat(work.decode(1, 0, Precision.BF16)).isEqualTo(2 * numbers);
            assertThat(work.decode(1, 0, Precision.FLOAT32)).isEqualTo(4 * numbers);
            assertThat(work.decode(1, 0, Precision.INT8)).isEqualTo(numbers + 4 * rows);
            var d = blueprint.spec().decoder();
            double cached = 2.0 * d.layers() * d.kvHeads() * d.headSize() * 2 * 1000;
            assertThat(work.decode(4, 1000, Precision.INT8)).isEqualTo(numbers + 4 * rows + 4 * cached);
            // A prompt of one token: its products, one position of attention, the logits.
            assertThat(work.prefill(1)).isEqualTo(2 * numbers + 4.0 * d.layers() * d.heads() * d.headSize());
        }
    }

    @Test
    void everyShapeHasItsConfiguration() {
        for (Map.Entry<String, String> shape : Bench.SHAPES.entrySet()) {
            assertThat(Bench.class.getResource(shape.getValue())).as(shape.getKey()).isNotNull();
        }
    }

    @Test
    void aStageIsHeldAgainstTheMachinesFastestProductOrItsReading() {
        JsonNode ceilings = JSON.readTree("{\"gemm_f32_gflops\": 300, \"gemm_bf16_gflops\": 150, \"read_gbs\": 30}");
        Work work = new Work(blueprint("800m").spec());
        Map<String, Object> vision = Bench.stage(
                JSON.readTree("{\"stage\": \"vision\", \"tiles\": 7, \"seconds\": [30.0, 20.0, 40.0]}"), work, Precision.BF16, ceilings);
        assertThat(vision).containsEntry("tiles", 7).containsEntry("seconds", 30.0).containsEntry("bestSeconds", 20.0).containsEntry("runs", 3);
        assertThat((Double) vision.get("ratio")).isCloseTo(work.vision(7) / 20 / 300e9, within(1e-12));
        Map<String, Object> decode = Bench.stage(
                JSON.readTree("{\"stage\": \"decode\", \"batch\": 4, \"seconds\": [8.0, 4.0]}"), work, Precision.INT8, ceilings);
        assertThat((Double) decode.get("tokensPerSecond")).isEqualTo(4 * 64 / 6.0);
        assertThat((Double) decode.get("ratio")).isCloseTo(64 * work.decode(4, 2080.5, Precision.INT8) / 4 / 30e9, within(1e-12));
    }

    @Test
    void thePageIsTwelveMegapixelsOfJpeg() {
        byte[] file = Page.jpeg();
        Image page = Image.decode(file);
        assertThat(page.width()).isEqualTo(3000);
        assertThat(page.height()).isEqualTo(4000);
        assertThat(file.length).isBetween(500_000, 20_000_000);
    }
}
