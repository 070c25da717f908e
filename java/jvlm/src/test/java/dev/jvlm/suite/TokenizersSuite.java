package dev.jvlm.suite;

import dev.jvlm.text.TokenizerVectors;
import java.io.PrintStream;
import java.nio.file.Path;

/** Ids and texts of recorded vectors, for a folder of vocabularies (the layout of tests/tokenizers). */
final class TokenizersSuite {
    private TokenizersSuite() {}

    /** Prints a line for each case that differs and one that sums up; returns the number of cases that differ. */
    static int run(Path folder, PrintStream out) {
        int[] differ = {0};
        int cases = TokenizerVectors.check(folder, line -> {
            out.println("differs: " + line);
            differ[0]++;
        });
        out.println("tokenizers: " + cases + " cases, " + differ[0] + " differ");
        return cases == 0 ? 1 : differ[0];
    }
}
