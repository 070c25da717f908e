package dev.jvlm.cli;

import dev.jvlm.Jvlm;
import dev.jvlm.error.JvlmException;
import dev.jvlm.request.Answer;
import dev.jvlm.request.FinishReason;
import dev.jvlm.request.Request;
import dev.jvlm.request.Sampling;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/** One question about one picture, several, or none. */
@Command(
        name = "ask",
        description = {
            "Asks one question about pictures.",
            "The small model that comes with jvlm only reads a line of print: for other questions, give another one with --model."
        })
final class Ask implements Callable<Integer> {
    private static final int LONGEST = 512;

    @ParentCommand
    private Main main;

    @Mixin
    private ModelOptions model;

    @Mixin
    private PictureOptions picture;

    @Option(names = "--max-tokens", paramLabel = "N", description = "The longest answer. Default: 512, or the context if that is shorter.")
    private Integer maxTokens;

    @Option(names = "--min-tokens", paramLabel = "N", defaultValue = "0", description = "The shortest answer. Default: ${DEFAULT-VALUE}.")
    private int minTokens;

    @Option(names = "--stop", paramLabel = "TEXT", description = "A text that ends the answer; may be given several times.")
    private List<String> stop = List.of();

    @Option(names = "--system", paramLabel = "TEXT", description = "The system prompt, if the model takes one.")
    private String system;

    @Option(
            names = "--temperature",
            paramLabel = "T",
            defaultValue = "0",
            description = "0 takes the likeliest token each time; the higher, the more varied. Default: ${DEFAULT-VALUE}.")
    private float temperature;

    @Option(names = "--top-k", paramLabel = "K", defaultValue = "0", description = "Only the K likeliest tokens; 0 is off.")
    private int topK;

    @Option(names = "--top-p", paramLabel = "P", defaultValue = "1", description = "Only the likeliest whose probabilities reach P; 1 is off.")
    private float topP;

    @Option(
            names = "--min-p",
            paramLabel = "P",
            defaultValue = "0",
            description = "Only tokens at least P times as likely as the likeliest; 0 is off.")
    private float minP;

    @Option(names = "--repetition-penalty", paramLabel = "X", defaultValue = "1", description = "Above 1, repeats get less likely; 1 is off.")
    private float repetitionPenalty;

    @Option(names = "--presence-penalty", paramLabel = "X", defaultValue = "0", description = "Taken from tokens that occurred; 0 is off.")
    private float presencePenalty;

    @Option(
            names = "--frequency-penalty",
            paramLabel = "X",
            defaultValue = "0",
            description = "Taken from tokens for each time they occurred; 0 is off.")
    private float frequencyPenalty;

    @Option(names = "--no-repeat-ngram", paramLabel = "N", defaultValue = "0", description = "No N tokens in a row twice; 0 is off.")
    private int noRepeatNgram;

    @Option(names = "--seed", paramLabel = "N", description = "The same seed gives the same answer.")
    private Long seed;

    @Option(names = "--no-loop-guard", description = "Do not end an answer that only repeats itself.")
    private boolean noLoopGuard;

    @Option(names = "--stream", description = "Print the answer while it is being made.")
    private boolean stream;

    @Mixin
    private OutputOptions output;

    @Parameters(index = "0", paramLabel = "QUESTION", description = "The question, in quotes.")
    private String question;

    @Parameters(index = "1..*", paramLabel = "PICTURE", description = "Picture files.")
    private List<Path> pictures = new ArrayList<>();

    @Override
    public Integer call() {
        if (stream && output.json()) {
            throw new JvlmException(JvlmException.Code.REQUEST, "--stream and --json exclude each other; give one of them");
        }
        Console console = main.console();
        request(maxTokens).text(question).build(); // What is out of range is known before the model is loaded.
        try (Jvlm vlm = model.open(console)) {
            int longest = OutputOptions.longest(maxTokens, LONGEST, vlm.context());
            Map<String, Object> object = new LinkedHashMap<>();
            object.put("question", question);
            object.put("pictures", pictures.stream().map(Path::toString).toList());
            Path current = null;
            try {
                Request.Builder request = request(longest);
                for (Path file : pictures) {
                    current = file;
                    request.image(picture.read(file));
                }
                current = null;
                Answer answer = answer(vlm, request.text(question).build());
                if (output.json()) {
                    output.put(object, answer, vlm.device(), model.json(vlm.checkpoint()));
                    console.json(object);
                }
                output.remark(console, "note", answer);
                return answer.finishReason() == FinishReason.CANCELLED ? Main.INTERRUPTED : Main.OK;
            } catch (JvlmException e) {
                if (e.code() == JvlmException.Code.DEVICE) {
                    throw e;
                }
                console.error((current == null ? "" : current + ": ") + e.getMessage());
                console.stack(e);
                if (output.json()) {
                    console.json(OutputOptions.error(object, e));
                }
                return Main.FAILED;
            }
        }
    }

    private Answer answer(Jvlm vlm, Request request) {
        Console console = main.console();
        if (stream) {
            Answer answer = vlm.stream(request, piece -> {
                console.out().print(piece);
                console.out().flush();
            });
            console.answer("");
            return answer;
        }
        Answer answer = vlm.generate(request);
        if (!output.json()) {
            console.answer(answer.text());
        }
        return answer;
    }

    /** Without its pictures and question, which come last. */
    private Request.Builder request(Integer maxTokens) {
        Sampling.Builder sampling = Sampling.builder()
                .temperature(temperature)
                .topK(topK)
                .topP(topP)
                .minP(minP)
                .repetitionPenalty(repetitionPenalty)
                .presencePenalty(presencePenalty)
                .frequencyPenalty(frequencyPenalty)
                .noRepeatNgram(noRepeatNgram);
        if (seed != null) {
            sampling.seed(seed);
        }
        return output.request(picture.request(), maxTokens)
                .minTokens(minTokens)
                .stop(stop)
                .system(system)
                .loopGuard(!noLoopGuard)
                .sampling(sampling.build());
    }
}
