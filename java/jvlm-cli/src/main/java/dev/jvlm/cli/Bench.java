package dev.jvlm.cli;

import dev.jvlm.Jvlm;
import dev.jvlm.Options.Precision;
import dev.jvlm.engine.EngineLoop;
import dev.jvlm.engine.NativeResizer;
import dev.jvlm.error.JvlmException;
import dev.jvlm.image.AspectTiler;
import dev.jvlm.image.GridTiler;
import dev.jvlm.image.Image;
import dev.jvlm.image.Tiler;
import dev.jvlm.image.Tiles;
import dev.jvlm.model.Blueprint;
import dev.jvlm.model.Manifest;
import dev.jvlm.model.ModelSpec;
import dev.jvlm.model.Tiling;
import dev.jvlm.request.Answer;
import dev.jvlm.request.Request;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/**
 * How fast a model runs here, beside what this machine can do at best. With {@code --shape}, the stages at the true shape of a published model
 * with seeded weights, in a native process of their own ({@code tests/bench/model_stages.cc}); ceilings from another
 * ({@code tests/bench/ceilings.cc}, for a card {@code tests/bench/kernels.cu}), in the same run. With {@code --model}, from picture to answer.
 */
@Command(
        name = "bench",
        description = {
            "Measures speed and memory.",
            "With --shape: the stages of a published model's shape, with made-up weights, beside what the device can do at best. Takes"
                    + " minutes and the memory of the model. --precision may name several there, such as bf16,int8, which is the default.",
            "With --model DIR, or neither: from a 12-megapixel page to the first token and to tokens a second."
        })
final class Bench implements Callable<Integer> {
    static final Map<String, String> SHAPES = new TreeMap<>(Map.of(
            "h2ovl-0.8b", "h2ovl-mississippi-800m.json",
            "h2ovl-2b", "h2ovl-mississippi-2b.json",
            "internvl-26b", "internvl-chat-v1-5.json",
            "mini-internvl-2b", "mini-internvl-chat-2b-v1-5.json",
            "mini-internvl-4b", "mini-internvl-chat-4b-v1-5.json",
            "idefics2-8b", "idefics2-8b.json"));
    private static final List<String> STAGES = List.of("vision", "connector", "prefill", "decode", "answer", "preprocess");

    /** What model_stages.cc measures: a context, tokens decoded behind it, tokens of text in a prompt, sequences at most. */
    static final int CONTEXT = 2048;
    private static final int DECODED = 64;
    private static final int TEXT = 64;
    private static final int SEQUENCES = 4;
    private static final int SEQUENCES_CARD = 16;

    private static final int RUNS = 5;

    @ParentCommand
    private Main main;

    @Option(names = "--shape", paramLabel = "NAME", description = "A published model: h2ovl-0.8b, h2ovl-2b, idefics2-8b, internvl-26b, mini-internvl-2b or mini-internvl-4b.")
    private String shape;

    @Mixin
    private ModelOptions model;

    @Option(
            names = "--stages",
            paramLabel = "S,...",
            split = ",",
            description = "With --shape: which stages, of vision, connector, prefill, decode, answer, preprocess. Default: all. Without prefill, decode and"
                    + " answer the layers of the decoder are left out, so that a tower can be measured where the whole model has no room.")
    private List<String> stages;

    @Option(names = "--json", description = "One JSON object.")
    private boolean json;

    @Override
    public Integer call() throws IOException, InterruptedException {
        if (shape == null) {
            check(stages == null, "--stages needs --shape");
            answers();
            return Main.OK;
        }
        check(SHAPES.containsKey(shape), "There is no shape '" + shape + "'; there are " + String.join(", ", SHAPES.keySet()));
        check(!model.chosen(), "--shape brings its own weights and context; leave out --model, --adapter and --context");
        stages = stages == null ? STAGES : stages;
        for (String stage : stages) {
            check(STAGES.contains(stage), "There is no stage '" + stage + "'; there are " + String.join(", ", STAGES));
        }
        String names = model.precision() == null ? "bf16,int8" : model.precision();
        List<Precision> chosen = Stream.of(names.split(",")).map(Precision::of).toList();
        Map<String, Object> report = new LinkedHashMap<>();
        report.put("shape", shape);
        report.put("date", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
        report.put("commit", commit());
        String device = model.device() == null || model.device().equals("auto") ? EngineLoop.devices().keySet().iterator().next() : model.device();
        main.console().say("measuring what " + device + " can do at best");
        JsonNode ceilings = run(ceilings(device)).get(0);
        report.put("ceilings", ceilings);
        List<Map<String, Object>> runs = new ArrayList<>();
        report.put("runs", runs);
        Blueprint blueprint = blueprint();
        for (Precision precision : chosen) {
            if (stages.stream().anyMatch(s -> !s.equals("preprocess"))) {
                main.console().say("measuring " + shape + " with " + precision.label());
                runs.add(stages(blueprint, device, precision, ceilings));
            }
        }
        if (stages.contains("preprocess")) {
            report.put("preprocess", preprocess(blueprint, device.equals("cpu") ? ceilings : run(ceilings("cpu")).get(0)));
        }
        if (json) {
            main.console().json(report);
        } else {
            print(report, ceilings);
        }
        return Main.OK;
    }

    private static void check(boolean good, String sentence) {
        if (!good) {
            throw new JvlmException(JvlmException.Code.REQUEST, sentence);
        }
    }

    // ---- stages at a published shape ----------------------------------------------------------------------------------------------

    private Blueprint blueprint() throws IOException {
        Path folder = Files.createTempDirectory("jvlm-bench");
        try (InputStream config = Bench.class.getResourceAsStream(SHAPES.get(shape))) {
            Path file = folder.resolve("config.json");
            Files.copy(config, file);
            return Blueprint.read(file);
        } finally {
            delete(folder);
        }
    }

    private static void delete(Path folder) throws IOException {
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        }
    }

    private static Path program(String name) {
        String home = System.getProperty("jvlm.home");
        Path program = home == null ? null : Path.of(home, "java", "jvlm", "target", "native", "bench", name);
        if (program == null || !Files.isExecutable(program)) {
            throw new JvlmException(
                    JvlmException.Code.DEVICE, "The native program '" + name + "' is not there; run ./jvlm bench in a clone of the repository");
        }
        return program;
    }

    /** The program that measures a device's ceilings; a card's is built with its kernels and lies beside them. */
    private static List<String> ceilings(String device) {
        if (device.equals("cpu")) {
            return List.of(program("ceilings").toString());
        }
        String backends = System.getenv("JVLM_BACKENDS");
        Path program = backends == null ? null : Path.of(backends).toAbsolutePath().normalize().resolveSibling("tests/gpu/kernels_bench");
        if (program == null || !Files.isExecutable(program)) {
            throw new JvlmException(
                    JvlmException.Code.DEVICE, "What a card can do at best is measured by the program kernels_bench, which is not there. Build it"
                            + " beside the CUDA library (README, GPU; --target kernels_bench) and name the folder backends in JVLM_BACKENDS");
        }
        return List.of(program.toString(), "--ceilings");
    }

    /** Runs a program that prints a JSON object a line; what it says on stderr goes to ours. */
    private static List<JsonNode> run(List<String> command) throws IOException, InterruptedException {
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        try {
            String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            if (process.waitFor() != 0) {
                throw new JvlmException(
                        JvlmException.Code.DEVICE, "The benchmark's native program failed; most often the memory is too small for the shape");
            }
            ObjectMapper mapper = new ObjectMapper();
            return out.lines().map(mapper::readTree).toList();
        } finally {
            process.destroy();
        }
    }

    /** What a device's stages are measured with. */
    static String limits(Blueprint blueprint, String device, Precision precision) {
        return EngineLoop.limits(blueprint, device, precision.label(), CONTEXT + DECODED, device.equals("cpu") ? SEQUENCES : SEQUENCES_CARD);
    }

    static String manifest(Blueprint blueprint) {
        return Manifest.seeded(blueprint.weights(), 1).toText();
    }

    private Map<String, Object> stages(Blueprint blueprint, String device, Precision precision, JsonNode ceilings)
            throws IOException, InterruptedException {
        Path folder = Files.createTempDirectory("jvlm-bench");
        try {
            if (stages.stream().noneMatch(s -> s.equals("prefill") || s.equals("decode") || s.equals("answer"))) {
                blueprint = blueprint.withoutDecoderLayers();
            }
            List<String> command = new ArrayList<>(List.of(
                    program("model_stages").toString(),
                    device,
                    Files.writeString(folder.resolve("spec"), blueprint.spec().toText()).toString(),
                    Files.writeString(folder.resolve("limits"), limits(blueprint, device, precision)).toString(),
                    Files.writeString(folder.resolve("manifest"), manifest(blueprint)).toString()));
            stages.stream().filter(s -> !s.equals("preprocess")).forEach(command::add);
            Map<String, Object> result = new LinkedHashMap<>();
            result.put("precision", precision.label());
            List<Map<String, Object>> measured = new ArrayList<>();
            result.put("stages", measured);
            for (JsonNode line : run(command)) {
                if (line.has("stage")) {
                    measured.add(stage(line, new Work(blueprint.spec()), precision, ceilings));
                } else {
                    result.put("device", line.path("device").asString());
                    result.put("openSeconds", line.path("open_seconds").asDouble());
                    result.put("planBytes", line.path("plan_bytes").asLong());
                    if (line.has("peak_bytes")) {
                        result.put("peakBytes", line.path("peak_bytes").asLong());
                    }
                }
            }
            return result;
        } finally {
            delete(folder);
        }
    }

    /** A line of model_stages with its work and ceiling. */
    static Map<String, Object> stage(JsonNode line, Work work, Precision precision, JsonNode ceilings) {
        String name = line.path("stage").asString();
        double[] seconds = line.path("seconds").valueStream().mapToDouble(JsonNode::asDouble).toArray();
        // The device's ceiling is its fastest product for the types at hand: bf16 weights may be widened to float32 on the way.
        double products = precision == Precision.FLOAT32
                ? ceilings.path("gemm_f32_gflops").asDouble()
                : Math.max(ceilings.path("gemm_f32_gflops").asDouble(), ceilings.path("gemm_bf16_gflops").asDouble());
        double reading = ceilings.path("read_gbs").asDouble(ceilings.path("copy_gbs").asDouble());
        return switch (name) {
            case "vision" -> row(name, "tiles", line, seconds, work.vision(line.path("tiles").asInt()), "FLOP", products);
            case "connector" -> row(name, "tiles", line, seconds, work.connector(line.path("tiles").asInt()), "FLOP", products);
            case "prefill" -> row(name, "tokens", line, seconds, work.prefill(line.path("tokens").asInt()), "FLOP", products);
            case "decode" -> {
                int batch = line.path("batch").asInt();
                double bytes = DECODED * work.decode(batch, CONTEXT + (DECODED + 1) / 2.0, precision);
                Map<String, Object> row = row(name, "batch", line, seconds, bytes, "bytes", reading);
                if (line.has("read_gbs")) {
                    // Right before and after each run: what the machine gives changes from one second to the next.
                    double[] rates = line.path("read_gbs").valueStream().mapToDouble(JsonNode::asDouble).toArray();
                    row.put("ceilingGigaPerSecond", median(rates));
                    row.put("ratio", median(IntStream.range(0, rates.length).mapToDouble(i -> bytes / seconds[i] * 1e-9 / rates[i]).toArray()));
                }
                row.put("tokensPerSecond", batch * DECODED / median(seconds));
                yield row;
            }
            case "answer" -> answer(work, seconds, line.path("tokens").asInt(), precision, products, reading);
            default -> throw new IllegalStateException(name);
        };
    }

    /** From pictures to the last of so many tokens. {@code ratio}: what tower, prompt and steps would take at the ceilings, over the best run. */
    private static Map<String, Object> answer(Work work, double[] seconds, int tokens, Precision precision, double products, double reading) {
        int prompt = work.promptRows() + TEXT;
        double least = (work.page() + work.prefill(prompt)) / products + (tokens - 1) * work.decode(1, prompt + tokens / 2.0, precision) / reading;
        Map<String, Object> row = timed("answer", "tokens", tokens, seconds);
        row.put("ratio", least * 1e-9 / best(seconds));
        return row;
    }

    private static Map<String, Object> row(String stage, String of, JsonNode line, double[] seconds, double work, String unit, double ceiling) {
        return row(stage, of, line.path(of).asInt(), seconds, work, unit, ceiling);
    }

    /** {@code ratio} is that of the best run, because the ceiling is one of best runs too, but for decoding; {@code seconds} is the median. */
    private static Map<String, Object> row(String stage, String of, int count, double[] seconds, double work, String unit, double ceiling) {
        double rate = work / best(seconds) * 1e-9;
        Map<String, Object> row = timed(stage, of, count, seconds);
        row.put("work", work);
        row.put("unit", unit);
        row.put("gigaPerSecond", rate);
        row.put("ceilingGigaPerSecond", ceiling);
        row.put("ratio", rate / ceiling);
        return row;
    }

    /** What every row begins with. */
    private static Map<String, Object> timed(String stage, String of, int count, double[] seconds) {
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("stage", stage);
        row.put(of, count);
        row.put("seconds", median(seconds));
        row.put("bestSeconds", best(seconds));
        row.put("runs", seconds.length);
        return row;
    }

    private static double best(double[] seconds) {
        return Arrays.stream(seconds).min().orElseThrow();
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return (sorted[(sorted.length - 1) / 2] + sorted[sorted.length / 2]) / 2;
    }

    /** The bytes are those of the decoded picture, written once and read once, and of the tiles: a bound, for decoding JPEG is arithmetic. */
    private static Map<String, Object> preprocess(Blueprint blueprint, JsonNode ceilings) {
        byte[] file = Page.jpeg();
        ModelSpec.Vision vision = blueprint.spec().vision();
        Tiler tiler = blueprint.tiling() instanceof Tiling.Aspect aspect
                ? new AspectTiler(aspect.longest(), aspect.shortest(), vision.patch(), true, true)
                : new GridTiler(vision.image(), vision.patch(), 1, 6, true, false);
        double[] seconds = new double[RUNS];
        double[] decoding = new double[RUNS];
        Tiles tiles = null;
        for (int i = -1; i < RUNS; i++) { // The first is not counted.
            long start = System.nanoTime();
            Image image = Image.decode(file);
            long decoded = System.nanoTime();
            tiles = tiler.cut(image, tiler.plan(List.of(image.size())).get(0), NativeResizer.INSTANCE);
            if (i >= 0) {
                decoding[i] = (decoded - start) * 1e-9;
                seconds[i] = (System.nanoTime() - start) * 1e-9;
            }
        }
        double bytes = 2.0 * 3 * Page.WIDTH * Page.HEIGHT + tiles.rgb().capacity();
        Map<String, Object> row = row("preprocess", "tiles", tiles.count(), seconds, bytes, "bytes", ceilings.path("read_gbs").asDouble());
        row.put("decodeSeconds", median(decoding));
        row.put("fileBytes", file.length);
        return row;
    }

    private static String commit() {
        String home = System.getProperty("jvlm.home");
        if (home == null || !Files.exists(Path.of(home, ".git"))) {
            return null;
        }
        try {
            Process git = new ProcessBuilder("git", "-C", home, "describe", "--always", "--dirty")
                    .redirectError(ProcessBuilder.Redirect.DISCARD)
                    .start();
            String name = new String(git.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
            return name.isEmpty() ? null : name;
        } catch (IOException e) {
            return null; // No git here.
        }
    }

    private void print(Map<String, Object> report, JsonNode ceilings) {
        Console console = main.console();
        boolean card = ceilings.has("card");
        console.answer(String.format(Locale.ROOT, "%s on %s, %d %s, %s%s", shape, ceilings.path(card ? "card" : "cpu").asString(),
                ceilings.path(card ? "multiprocessors" : "threads").asInt(), card ? "multiprocessors" : "threads", report.get("date"),
                report.get("commit") == null ? "" : ", " + report.get("commit")));
        console.answer(String.format(Locale.ROOT, "at best: products %.0f GFLOP/s bf16%s (%s); %s %.1f GB/s", ceilings.path("gemm_bf16_gflops").asDouble(),
                card ? "" : String.format(Locale.ROOT, ", %.0f float32", ceilings.path("gemm_f32_gflops").asDouble()), ceilings.path("gemm_by").asString(),
                card ? "copying, read and written," : "reading", ceilings.path(card ? "copy_gbs" : "read_gbs").asDouble()));
        for (Object run : (List<?>) report.get("runs")) {
            Map<?, ?> result = (Map<?, ?>) run;
            console.answer("");
            console.answer(String.format("%-22s %10s %16s %9s", result.get("precision"), "seconds", "rate", "of best"));
            for (Object stage : (List<?>) result.get("stages")) {
                print((Map<?, ?>) stage);
            }
            String peak = result.get("peakBytes") instanceof Long bytes ? String.format(Locale.ROOT, "%.0f MiB at most, ", bytes / 1048576.0) : "";
            console.answer(String.format(Locale.ROOT, "%-22s %s%.0f MiB planned", "memory", peak, ((Long) result.get("planBytes")) / 1048576.0));
        }
        if (report.get("preprocess") instanceof Map<?, ?> row) {
            console.answer("");
            console.answer(String.format("%-22s %10s %16s %9s", "any precision", "seconds", "rate", "of best"));
            print(row);
        }
    }

    private void print(Map<?, ?> row) {
        String of = Stream.of("tiles", "tokens", "batch").filter(row::containsKey).findFirst().orElseThrow();
        String many = of.equals("batch") ? "sequences" : of;
        String name = row.get("stage") + ", " + row.get(of) + " " + (row.get(of).equals(1) ? many.substring(0, many.length() - 1) : many);
        String tokens = row.get("tokensPerSecond") instanceof Double t ? String.format(Locale.ROOT, "  %.1f tokens/s", t) : "";
        String rate = row.get("unit") instanceof String unit
                ? String.format(Locale.ROOT, "%8.1f %-7s", row.get("gigaPerSecond"), unit.equals("FLOP") ? "GFLOP/s" : "GB/s")
                : "";
        main.console().answer(String.format(Locale.ROOT, "%-22s %10.4f %16s %7.0f %%%s", name, row.get("seconds"), rate, 100 * (Double) row.get("ratio"), tokens));
    }

    // ---- from picture to answer ---------------------------------------------------------------------------------------------------

    private void answers() {
        Console console = main.console();
        byte[] file = Page.jpeg();
        try (Jvlm vlm = model.open(console)) {
            double[] first = new double[RUNS];
            double[] rate = new double[RUNS];
            Answer last = null;
            for (int i = -1; i < RUNS; i++) { // The first is not counted.
                long start = System.nanoTime();
                Request request = Request.builder().image(Image.decode(file)).text(vlm.ocrQuestion()).minTokens(DECODED).maxTokens(DECODED)
                        .loopGuard(false).build();
                double decode = (System.nanoTime() - start) * 1e-6;
                last = vlm.generate(request);
                if (i >= 0) {
                    first[i] = (decode + last.timings().totalMs() - last.timings().decodeMs()) * 1e-3;
                    rate[i] = (last.usage().completionTokens() - 1) / last.timings().decodeMs() * 1e3;
                }
            }
            if (json) {
                Map<String, Object> object = new LinkedHashMap<>();
                object.put("date", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
                object.put("commit", commit());
                object.put("secondsToFirstToken", median(first));
                object.put("tokensPerSecond", median(rate));
                object.put("usage", last.usage());
                object.put("timings", last.timings());
                object.put("device", vlm.device());
                object.put("model", model.json(vlm.checkpoint()));
                console.json(object);
            } else {
                console.answer(String.format(Locale.ROOT, "a page of %d x %d pixels, %d tiles, %d prompt tokens: first token after %.3f s,"
                        + " then %.1f tokens/s", Page.WIDTH, Page.HEIGHT, last.usage().tiles(), last.usage().promptTokens(), median(first),
                        median(rate)));
            }
        }
    }
}
