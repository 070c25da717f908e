package dev.jvlm.suite;

import dev.jvlm.Options.Precision;
import dev.jvlm.error.JvlmException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;

/**
 * The suites over any folder, called by {@code ./test}: a line for each case that differs, saying where and by how much, and one that sums
 * up. Exit status 0 if nothing differs, 1 if something does, 64 if the command is wrong.
 */
public final class Suites {
    private static final String USAGE = "usage: ./test goldens DIR [--device cpu|cuda:N|emu|reference] [--precision float32|bf16|int8]\n"
            + "       ./test images DIR\n       ./test tokenizers DIR";

    private Suites() {}

    public static void main(String[] args) {
        System.exit(run(args, System.out, System.err));
    }

    static int run(String[] args, PrintStream out, PrintStream err) {
        if (args.length < 2 || !Set.of("goldens", "images", "tokenizers").contains(args[0])) {
            err.println(USAGE);
            return 64;
        }
        String device = "cpu";
        Precision precision = null;
        for (int i = 2; i < args.length; i += 2) {
            String value = i + 1 < args.length ? args[i + 1] : "";
            if (args[0].equals("goldens") && args[i].equals("--device") && value.matches("cpu|cuda:\\d{1,2}|emu|reference")) {
                device = value;
            } else if (args[0].equals("goldens") && args[i].equals("--precision") && Set.of("float32", "bf16", "int8").contains(value)) {
                precision = Precision.of(value);
            } else {
                err.println(USAGE);
                return 64;
            }
        }
        if (precision == null) { // float32, the parity path, is the CPU's
            precision = device.matches("cpu|reference") ? Precision.FLOAT32 : Precision.BF16;
        }
        Path dir = Path.of(args[1]);
        if (!Files.isDirectory(dir)) {
            err.println(args[1] + " is no folder");
            return 64;
        }
        try {
            int differ = switch (args[0]) {
                case "goldens" -> GoldensSuite.run(dir, device, precision, out);
                case "images" -> ImagesSuite.run(dir, out);
                default -> TokenizersSuite.run(dir, out);
            };
            return differ == 0 ? 0 : 1;
        } catch (JvlmException e) {
            out.println("differs: " + args[0] + ": " + e.code() + ": " + e.getMessage());
            return 1;
        }
    }
}
