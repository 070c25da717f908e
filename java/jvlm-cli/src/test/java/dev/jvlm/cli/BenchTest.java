package dev.jvlm.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;
import static org.assertj.core.api.Assertions.withinPercentage;

import dev.jvlm.Options.Precision;
import dev.jvlm.image.Image;
import dev.jvlm.model.Blueprint;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

class BenchTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    private static Blueprint blueprint(String config) {
        return Blueprint.read(Path.of(System.getProperty("jvlm.root"), "tests/configs", config));
    }

    @Test
    void operationsOfTheTowerAreThoseCountedByHand() {
        Work work = new Work(blueprint(Bench.SHAPES.get("h2ovl-0.8b")).spec());
        // 24 layers of 1025 tokens, width 1024, mlp 4096: 2050 * (4 * 1024^2 + 2 * 1024 * 4096) + 4 * 1025^2 * 1024.
        double layers = 24 * (25_794_969_600.0 + 4_303_360_000.0);
        double patches = 2 * 1024 * 1024 * 588.0;
        double connector = 2 * 256 * (4096 * 1536 + 1536 * 1536.0);
        assertThat(work.vision(1)).isEqualTo(layers + patches + connector);
        assertThat(work.vision(7)).isEqualTo(7 * (layers + patches + connector));
        assertThat(work.connector(7)).isEqualTo(7 * connector);
        assertThat(work.page()).isEqualTo(work.vision(7));
        assertThat(work.promptRows()).isEqualTo(7 * 256);
    }

    @Test
    void aPageOfAPerceiverIsAPictureAndItsQuarters() {
        Work work = new Work(blueprint(Bench.SHAPES.get("idefics2-8b")).spec());
        // T = 70 * 70, then 35 * 35 four times. Tower: 27 layers, width 1152, mlp 4304. Connector: projection 14336, then 3 layers of 64 latents.
        double all = 0;
        for (double t : new double[] {4900, 1225, 1225, 1225, 1225}) {
            double k = t + 64;
            all += 27 * (2 * t * (4 * 1152.0 * 1152 + 2 * 1152.0 * 4304) + 4 * t * t * 1152) + 2 * t * 1152 * 588;
            all += 2 * t * 14336 * (2 * 1152 + 4096)
                    + 3 * (2 * (2 * 64 * 1536 * 4096.0 + 2 * k * 384 * 4096 + 3 * 64 * 4096 * 16384.0) + 4 * 64 * k * 1536);
        }
        assertThat(work.page()).isCloseTo(all, withinPercentage(1e-9));
        assertThat(work.promptRows()).isEqualTo(5 * 64);
    }

    @Test
    void bytesOfAStepAreThoseOfTheTensors() {
        for (String shape : new String[] {"h2ovl-0.8b", "h2ovl-2b"}) {
            Blueprint blueprint = blueprint(Bench.SHAPES.get(shape));
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
    void whatACardIsMeasuredWithIsWhatJavaSends() throws IOException {
        Path root = Path.of(System.getProperty("jvlm.root"));
        Map<String, String> committed = new TreeMap<>();
        Path shapes = root.resolve("tests/gpu/shapes");
        try (Stream<Path> files = Files.walk(shapes)) {
            for (Path file : files.filter(Files::isRegularFile).filter(f -> !f.endsWith("README.md")).toList()) {
                committed.put(shapes.relativize(file).toString(), Files.readString(file));
            }
        }
        assertThat(committed).as("tests/gpu/shapes; its README.md says how it is written").isEqualTo(ExportShapes.files(root));
    }

    private static Map<String, Object> stage(String line, Work work, Precision precision, JsonNode ceilings) {
        return Bench.stage(JSON.readTree(line), work, precision, ceilings);
    }

    @Test
    void aStageIsHeldAgainstTheMachinesFastestProductOrItsReading() {
        JsonNode ceilings = JSON.readTree("{\"gemm_f32_gflops\": 300, \"gemm_bf16_gflops\": 150, \"read_gbs\": 30}");
        Work work = new Work(blueprint(Bench.SHAPES.get("h2ovl-0.8b")).spec());
        Map<String, Object> vision = stage("{\"stage\": \"vision\", \"tiles\": 7, \"seconds\": [30.0, 20.0, 40.0]}", work, Precision.BF16, ceilings);
        assertThat(vision).containsEntry("tiles", 7).containsEntry("seconds", 30.0).containsEntry("bestSeconds", 20.0).containsEntry("runs", 3);
        assertThat((Double) vision.get("ratio")).isCloseTo(work.vision(7) / 20 / 300e9, within(1e-12));
        Map<String, Object> decode = stage("{\"stage\": \"decode\", \"batch\": 4, \"seconds\": [8.0, 4.0]}", work, Precision.INT8, ceilings);
        assertThat((Double) decode.get("tokensPerSecond")).isEqualTo(4 * 64 / 6.0);
        assertThat((Double) decode.get("ratio")).isCloseTo(64 * work.decode(4, 2080.5, Precision.INT8) / 4 / 30e9, within(1e-12));
        Map<String, Object> beside = stage(
                "{\"stage\": \"decode\", \"batch\": 4, \"seconds\": [8.0, 4.0, 5.0], \"read_gbs\": [10.0, 40.0, 35.0]}", work, Precision.INT8, ceilings);
        assertThat(beside).containsEntry("ceilingGigaPerSecond", 35.0).containsEntry("seconds", 5.0);
        assertThat((Double) beside.get("ratio")).isCloseTo(64 * work.decode(4, 2080.5, Precision.INT8) / 4 / 40e9, within(1e-12));
        Map<String, Object> answer = stage("{\"stage\": \"answer\", \"tokens\": 128, \"seconds\": [50.0, 40.0]}", work, Precision.BF16, ceilings);
        double least = (work.vision(7) + work.prefill(1856)) / 300e9 + 127 * work.decode(1, 1920, Precision.BF16) / 30e9;
        assertThat(answer).containsEntry("seconds", 45.0);
        assertThat((Double) answer.get("ratio")).isCloseTo(least / 40, within(1e-12));
    }

    @Test
    void aCardIsHeldAgainstItsCopy() {
        JsonNode ceilings = JSON.readTree("{\"card\": \"a card\", \"gemm_bf16_gflops\": 800000, \"copy_gbs\": 3000}");
        Work work = new Work(blueprint(Bench.SHAPES.get("h2ovl-2b")).spec());
        Map<String, Object> decode = stage("{\"stage\": \"decode\", \"batch\": 1, \"seconds\": [0.2]}", work, Precision.BF16, ceilings);
        assertThat((Double) decode.get("ratio")).isCloseTo(64 * work.decode(1, 2080.5, Precision.BF16) / 0.2 / 3000e9, within(1e-12));
        Map<String, Object> prefill = stage("{\"stage\": \"prefill\", \"tokens\": 1856, \"seconds\": [0.1]}", work, Precision.BF16, ceilings);
        assertThat((Double) prefill.get("ratio")).isCloseTo(work.prefill(1856) / 0.1 / 800000e9, within(1e-12));
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
