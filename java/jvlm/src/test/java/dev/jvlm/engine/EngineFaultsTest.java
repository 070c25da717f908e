package dev.jvlm.engine;

import static org.assertj.core.api.Assertions.assertThat;

import dev.jvlm.error.JvlmException;
import dev.jvlm.model.Checkpoint;
import dev.jvlm.request.Request;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletionException;
import java.util.function.Supplier;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/** A card that fails while it works: the emulated one, told to by JVLM_EMU_FAIL. Each fault has a process of its own, as it must where it is real. */
class EngineFaultsTest {
    private static final Path NANO = Path.of(System.getProperty("jvlm.root")).resolve("weights/nano");
    private static final int REQUESTS = 6; // two run, four wait

    /** Answers requests on the card that fails, then opens it again, then the CPU; a line for each. */
    static final class Child {
        public static void main(String[] args) {
            EngineLoop[] opened = new EngineLoop[1];
            say("open", () -> open(opened, "emu"));
            if (opened[0] != null) {
                EngineLoop loop = opened[0];
                int all = loop.freePages();
                List<Generation> waiting = new ArrayList<>();
                for (int i = 0; i < REQUESTS; i++) {
                    Request request = Request.builder().text("Read the text.").maxTokens(8).loopGuard(false).build();
                    waiting.add(loop.prepare(request, piece -> {}));
                    loop.submit(waiting.get(i));
                }
                waiting.forEach(g -> say("request", () -> g.done().join().ids()));
                say("next", () -> answer(loop));
                // An answer is told before its pages are given back.
                for (int i = 0; i < 1000 && loop.freePages() < all; i++) {
                    sleep();
                }
                say("pages", () -> all - loop.freePages());
                loop.close();
            }
            say("live", EngineLoop::live);
            for (String device : new String[] {"emu", "cpu"}) {
                opened[0] = null;
                say(device, () -> open(opened, device));
                if (opened[0] != null) {
                    say(device + " answers", () -> answer(opened[0]));
                    opened[0].close();
                }
            }
            say("live", EngineLoop::live);
        }

        private static String open(EngineLoop[] opened, String device) {
            opened[0] = EngineLoop.open(Checkpoint.open(NANO), device, "bf16", false, 256, 2, 8, 0, (done, all) -> {});
            return "opened";
        }

        private static List<Integer> answer(EngineLoop loop) {
            Generation g = loop.prepare(Request.builder().text("Read the text.").maxTokens(8).loopGuard(false).build(), piece -> {});
            loop.submit(g);
            return g.done().join().ids();
        }

        private static void sleep() {
            try {
                Thread.sleep(1);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }

        private static void say(String what, Supplier<Object> f) {
            String line;
            try {
                line = String.valueOf(f.get());
            } catch (RuntimeException e) {
                Throwable cause = e instanceof CompletionException ? e.getCause() : e;
                line = (cause instanceof JvlmException known ? known.code() + ": " : cause.getClass() + ": ") + cause.getMessage();
            }
            System.out.println(what + " = " + line);
        }
    }

    /** What the child said of each thing, in order. */
    private record Said(List<String> lines) {
        List<String> of(String what) {
            return lines.stream().filter(l -> l.startsWith(what + " = ")).map(l -> l.substring(what.length() + 3)).toList();
        }

        String one(String what) {
            assertThat(of(what)).as(String.join("\n", lines)).hasSize(1);
            return of(what).get(0);
        }
    }

    private static Said child(String fault) throws IOException, InterruptedException {
        ProcessBuilder java = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Djvlm.root=" + System.getProperty("jvlm.root"), "-cp", System.getProperty("java.class.path"), Child.class.getName());
        java.environment().put("JVLM_EMU_FAIL", fault);
        java.environment().put("JVLM_DEVICE_TIMEOUT", "3");
        java.redirectErrorStream(true);
        Process process = java.start();
        String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertThat(process.waitFor()).as(out).isZero();
        return new Said(out.lines().toList());
    }

    /** All that wait end with one error, a later request too; nothing is left open; the card does not serve this process again, the CPU does. */
    private static void assertGivenUp(Said said, String sentence) {
        String all = String.join("\n", said.lines);
        assertThat(said.one("open")).isEqualTo("opened");
        assertThat(said.of("request")).as(all).hasSize(REQUESTS);
        assertThat(said.of("request").stream().distinct().toList()).as(all).containsExactly(said.one("next"));
        assertThat(said.one("next")).startsWith("DEVICE: ").contains(sentence, "Start the process again");
        assertThat(said.one("emu")).startsWith("DEVICE: ").contains("Start the process again");
        assertThat(said.one("cpu")).isEqualTo("opened");
        assertThat(said.one("cpu answers")).startsWith("[");
        assertThat(said.of("live")).containsExactly("0", "0");
    }

    @Tag("full")
    @Test
    void f65_afterAnErrorThatACardDoesNotRecoverFromAllThatWaitAreTold() throws Exception {
        assertGivenUp(child("cudaEventQuery:700:2"), "cudaErrorIllegalAddress");
    }

    @Tag("full")
    @Test
    void f66_aKernelThatHangsIsToldAfterTheTimeout() throws Exception {
        assertGivenUp(child("cudaLaunchKernelExC:600:3"), "within 3 seconds");
    }

    @Tag("full")
    @Test
    void f64_withoutMemoryForAGraphTheStepsRequestsEndAndTheOthersGoOn() throws Exception {
        Said said = child("cudaGraphInstantiate:2:0");
        String all = String.join("\n", said.lines);
        List<String> answers = said.of("request").stream().filter(l -> l.startsWith("[")).toList();
        List<String> victims = said.of("request").stream().filter(l -> l.startsWith("CAPACITY: ")).toList();
        assertThat(victims).as(all).hasSizeBetween(1, 2);
        assertThat(answers).as(all).hasSize(REQUESTS - victims.size()).containsOnly(said.one("next"));
        assertThat(said.one("pages")).as(all).isEqualTo("0");
        assertThat(said.one("emu answers")).as(all).isEqualTo(said.one("next"));
        assertThat(said.of("live")).containsExactly("0", "0");
    }

    @Test
    void f64_withoutMemoryToOpenNothingIsKeptAndTheNextTryServes() throws Exception {
        Said said = child("cudaMalloc:2:3");
        assertThat(said.one("open")).startsWith("CAPACITY: The card has ");
        assertThat(said.one("emu answers")).startsWith("[");
        assertThat(said.of("live")).containsExactly("0", "0");
    }
}
