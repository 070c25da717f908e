package dev.jvlm.cli;

import dev.jvlm.error.JvlmException;
import java.io.IOException;
import java.io.OutputStream;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import tools.jackson.databind.ObjectMapper;
import tools.jackson.databind.json.JsonMapper;

/** Where answers (stdout) and words about them (stderr) go, both in UTF-8 whatever the locale says. */
final class Console {
    private static final ObjectMapper JSON = JsonMapper.builder().build();

    private final PrintWriter out;
    private final PrintWriter err;
    private boolean verbose;

    Console(OutputStream out, OutputStream err) {
        this.out = new PrintWriter(new OutputStreamWriter(out, StandardCharsets.UTF_8));
        this.err = new PrintWriter(new OutputStreamWriter(err, StandardCharsets.UTF_8), true);
    }

    PrintWriter out() {
        return out;
    }

    PrintWriter err() {
        return err;
    }

    void setVerbose(boolean verbose) {
        this.verbose = verbose;
    }

    void flush() {
        out.flush();
        err.flush();
    }

    /** A line of the answer. */
    void answer(String line) {
        out.println(line);
        out.flush();
    }

    /** One JSON object on one line. */
    void json(Object value) {
        answer(JSON.writeValueAsString(value));
    }

    /** A line for the person in front of it. */
    void say(String line) {
        err.println("jvlm: " + line);
    }

    void error(String message) {
        flush();
        say(message);
    }

    /** What went wrong, in one line; with --verbose also where. */
    void failure(Throwable e) {
        if (e instanceof JvlmException) {
            error(e.getMessage());
        } else if (e instanceof OutOfMemoryError) {
            error("Java's memory is full; give it more with JAVA_TOOL_OPTIONS=-Xmx4g, or fewer pictures at a time");
        } else if (e instanceof LinkageError) {
            error("A part of jvlm is missing or does not fit: " + e + ". Build it again");
        } else {
            error("internal error, please report it (-v shows more): " + e);
        }
        stack(e);
    }

    void stack(Throwable e) {
        if (verbose) {
            e.printStackTrace(err);
        }
    }

    /** Whether someone watches stderr. Java has no isatty; Linux says what the descriptor is. */
    static boolean watched() {
        try {
            String target = Files.readSymbolicLink(Path.of("/proc/self/fd/2")).toString();
            return target.startsWith("/dev/pts/") || target.startsWith("/dev/tty") || target.equals("/dev/console");
        } catch (IOException | UnsupportedOperationException e) {
            return false;
        }
    }
}
