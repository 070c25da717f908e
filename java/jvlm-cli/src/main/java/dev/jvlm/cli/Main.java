package dev.jvlm.cli;

import dev.jvlm.error.JvlmException;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.Spec;
import picocli.CommandLine.UnmatchedArgumentException;

/** The command line. Answers go to stdout, everything else to stderr. */
@Command(
        name = "jvlm",
        description = "Vision-language models on this machine: reads pictures, answers questions about them.",
        subcommands = {Ask.class, Ocr.class, Describe.class, Doctor.class, Bench.class},
        mixinStandardHelpOptions = true,
        versionProvider = Main.Version.class,
        scope = ScopeType.INHERIT,
        sortOptions = false,
        usageHelpAutoWidth = true,
        exitCodeListHeading = "%nExit codes:%n",
        exitCodeList = {
            "0:everything was answered",
            "1:a picture or a request failed; the others were answered",
            "64:the command line is wrong",
            "69:something is missing: the model, the device, memory, native code",
            "70:a fault of jvlm itself",
            "130:interrupted"
        })
public final class Main implements Runnable {
    static final int OK = 0;
    static final int FAILED = 1;
    static final int USAGE = 64;
    static final int UNAVAILABLE = 69;
    static final int INTERNAL = 70;
    static final int INTERRUPTED = 130;

    private static final long CLEANING_UP_SECONDS = 5;

    @Spec
    private CommandSpec spec;

    private final Console console;

    private Main(Console console) {
        this.console = console;
    }

    public static void main(String[] args) {
        // An interrupt (Ctrl-C) ends what is being generated; then the model is closed, then the process goes.
        Thread main = Thread.currentThread();
        CountDownLatch cleanedUp = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            if (cleanedUp.getCount() > 0) {
                main.interrupt();
                try {
                    cleanedUp.await(CLEANING_UP_SECONDS, TimeUnit.SECONDS);
                } catch (InterruptedException e) {
                    // The process ends anyway.
                }
            }
        }));
        int code = run(new FileOutputStream(FileDescriptor.out), new FileOutputStream(FileDescriptor.err), args);
        cleanedUp.countDown();
        System.exit(code);
    }

    /** Runs a command line and returns its exit code. */
    static int run(OutputStream out, OutputStream err, String... args) {
        Console console = new Console(out, err);
        CommandLine line = new CommandLine(new Main(console))
                .setOut(console.out())
                .setErr(console.err())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .setParameterExceptionHandler((e, a) -> wrongUsage(e, console))
                .setExecutionExceptionHandler((e, command, parsed) -> failed(e, console));
        try {
            return line.execute(args);
        } catch (Error e) { // Java's memory is full, or a jar is missing.
            console.failure(e);
            return e instanceof LinkageError || e instanceof OutOfMemoryError ? UNAVAILABLE : INTERNAL;
        } finally {
            console.flush();
        }
    }

    /** Without a command. */
    @Override
    public void run() {
        throw new ParameterException(spec.commandLine(), "Say what to do, for example: jvlm ocr PICTURE");
    }

    Console console() {
        return console;
    }

    @Option(names = {"-v", "--verbose"}, scope = ScopeType.INHERIT, description = "With errors, show where they arose.")
    void setVerbose(boolean verbose) {
        console.setVerbose(verbose);
    }

    private static int wrongUsage(ParameterException e, Console console) {
        CommandLine command = e.getCommandLine();
        boolean noCommand = command.getParent() == null;
        if (noCommand && e instanceof UnmatchedArgumentException unmatched && !unmatched.isUnknownOption()) {
            String word = unmatched.getUnmatched().get(0);
            console.error("There is no command '" + word + "'"
                    + (Files.exists(Path.of(word)) ? "; to read a picture: jvlm ocr " + word : ""));
        } else {
            console.error(e.getMessage());
        }
        if (noCommand) {
            command.usage(console.err());
        } else {
            console.error("'" + command.getCommandSpec().qualifiedName() + " --help' lists what there is");
        }
        return USAGE;
    }

    private static int failed(Exception e, Console console) {
        console.failure(e);
        if (!(e instanceof JvlmException known)) {
            return INTERNAL;
        }
        return switch (known.code()) {
            case REQUEST -> USAGE;
            case IMAGE -> FAILED;
            case MODEL_FORMAT, MODEL_UNSUPPORTED, CAPACITY, DEVICE -> UNAVAILABLE;
        };
    }

    static final class Version implements IVersionProvider {
        @Override
        public String[] getVersion() {
            String version = Main.class.getPackage().getImplementationVersion();
            return new String[] {"jvlm " + (version == null ? "(development build)" : version)};
        }
    }
}
