package dev.jvlm.cli;

import dev.jvlm.Jvlm;
import dev.jvlm.error.JvlmException;
import dev.jvlm.request.Answer;
import dev.jvlm.request.Request;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/** All text of each picture. Several are read at the same time; answers come in the order of the pictures. */
@Command(name = "ocr", description = "Reads the text of pictures (JPEG, PNG, WebP, TIFF, GIF, BMP).")
final class Ocr implements Callable<Integer> {
    /** Requests in flight: enough to keep all places of the engine busy while the oldest is awaited, few enough not to hold many pictures. */
    private static final int AHEAD = 8;

    /** A dense page. */
    private static final int LONGEST = 2048;

    @ParentCommand
    private Main main;

    @Mixin
    private ModelOptions model;

    @Mixin
    private PictureOptions picture;

    @Option(names = "--max-tokens", paramLabel = "N", description = "The longest answer. Default: 2048, or the context if that is shorter.")
    private Integer maxTokens;

    @Mixin
    private OutputOptions output;

    @Parameters(arity = "1..*", paramLabel = "PICTURE", description = "Picture files.")
    private List<Path> pictures = new ArrayList<>();

    private boolean failed;

    private record Pending(Path file, CompletableFuture<Answer> answer) {}

    @Override
    public Integer call() throws InterruptedException {
        Console console = main.console();
        output.request(picture.request().text("?"), maxTokens).build(); // What is out of range is known before the model is loaded.
        try (Jvlm vlm = model.open(console)) {
            int longest = OutputOptions.longest(maxTokens, LONGEST, vlm.context());
            Deque<Pending> pending = new ArrayDeque<>();
            try {
                for (Path file : pictures) {
                    if (pending.size() == AHEAD) {
                        report(pending.remove(), vlm);
                    }
                    pending.add(new Pending(file, submit(vlm, file, longest)));
                }
                while (!pending.isEmpty()) {
                    report(pending.remove(), vlm);
                }
            } catch (InterruptedException e) {
                pending.forEach(p -> p.answer.cancel(true));
                return Main.INTERRUPTED;
            }
        }
        return failed ? Main.FAILED : Main.OK;
    }

    private CompletableFuture<Answer> submit(Jvlm vlm, Path file, int longest) {
        try {
            Request.Builder request = picture.request().image(picture.read(file)).text(vlm.ocrQuestion()).mode(Request.Mode.OCR);
            return vlm.submit(output.request(request, longest).build());
        } catch (JvlmException e) {
            return CompletableFuture.failedFuture(e);
        }
    }

    private void report(Pending p, Jvlm vlm) throws InterruptedException {
        Console console = main.console();
        Map<String, Object> object = new LinkedHashMap<>();
        object.put("picture", p.file.toString());
        try {
            Answer answer = p.answer.get();
            if (output.json()) {
                output.put(object, answer, vlm.device(), model.json(vlm.checkpoint()));
                console.json(object);
            } else {
                if (pictures.size() > 1) {
                    console.answer("==> " + p.file + " <==");
                }
                console.answer(answer.text());
            }
            output.remark(console, p.file.toString(), answer);
        } catch (ExecutionException e) {
            failed = true;
            if (!(e.getCause() instanceof JvlmException known) || known.code() == JvlmException.Code.DEVICE) {
                throw e.getCause() instanceof RuntimeException cause ? cause : new IllegalStateException(e.getCause());
            }
            console.error(p.file + ": " + known.getMessage());
            console.stack(known);
            if (output.json()) {
                console.json(OutputOptions.error(object, known));
            }
        }
    }
}
