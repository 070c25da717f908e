package dev.jvlm.sampling;

import dev.jvlm.text.Tokenizer;
import java.util.BitSet;

/**
 * The rule of H2OVL's own {@code ocr()}, against endless blanks: if the last token is blank and the likeliest next one is the same again,
 * the blank ones among the thirty likeliest are put out of reach, in order, up to the first that is not blank. Blank is a token whose
 * piece consists of blanks only; byte pieces, a newline's too, and special tokens are not.
 */
public final class OcrRule {
    private static final int BEST = 30;
    private static final float OUT_OF_REACH = -99999999f;

    private final BitSet blank = new BitSet();

    public OcrRule(Tokenizer tokenizer) {
        for (int id = 0; id < tokenizer.size(); id++) {
            if (isBlank(tokenizer.pieceName(id))) {
                blank.set(id);
            }
        }
    }

    private static boolean isBlank(String name) {
        return !name.isEmpty()
                && name.replace('\u2581', ' ')
                        .chars()
                        .allMatch(c -> Character.isWhitespace(c) || Character.isSpaceChar(c) || c == 0x85);
    }

    boolean isBlank(int id) {
        return blank.get(id);
    }

    /** @param last the token generated last; the rule is used from the third token on */
    void apply(float[] scores, int last) {
        if (!blank.get(last)) {
            return;
        }
        int best = likeliest(scores);
        if (best != last) {
            return;
        }
        for (int i = 0; i < BEST && blank.get(best); i++) {
            scores[best] = OUT_OF_REACH;
            best = likeliest(scores);
        }
    }

    private static int likeliest(float[] scores) {
        int best = 0;
        for (int id = 1; id < scores.length; id++) {
            if (scores[id] > scores[best]) {
                best = id;
            }
        }
        return best;
    }
}
