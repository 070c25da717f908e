package dev.jvlm.text;

import java.util.List;

/**
 * What transformers calls {@code clean_up_tokenization}: decoded text loses the blanks before punctuation and English short forms. The
 * published InternLM2Tokenizer does so always, whatever its configuration says; other tokenizers where
 * {@code clean_up_tokenization_spaces} is true. An instance cleans a text that comes in pieces and holds back only the end that may still
 * change.
 */
final class CleanUp {
    /** In this order, each over the whole text, as transformers replaces them: a blank taken away by one can make a match of a later one. */
    private static final List<String> FROM = List.of(" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're");

    /** The most characters that follow the blank in any of them. */
    private static final int LONGEST = 3;

    private final StringBuilder held = new StringBuilder();

    static String of(String text) {
        for (String from : FROM) {
            text = text.replace(from, from.strip());
        }
        return text;
    }

    /** Takes the next piece of the raw text; returns the cleaned text that is certain now. */
    String add(String piece) {
        held.append(piece);
        int end = held.length();
        while (end > 0 && !isBorder(end)) {
            end--;
        }
        String certain = of(held.substring(0, end));
        held.delete(0, end);
        return certain;
    }

    /** The rest, when no more comes. */
    String finish() {
        String rest = of(held.toString());
        held.setLength(0);
        return rest;
    }

    /**
     * Whether no match, of any pass, can lie on both sides of this place, whatever follows. Either three characters that are no blanks lie
     * before it: only blanks are ever taken away, so a match that starts at a blank before them ends with them. Or a blank follows a
     * character after which none continues: not an apostrophe, and not the n of n't, whose apostrophe can lose the blank before it.
     */
    private boolean isBorder(int at) {
        if (at >= LONGEST && held.charAt(at - 1) != ' ' && held.charAt(at - 2) != ' ' && held.charAt(at - 3) != ' ') {
            return true;
        }
        char last = held.charAt(at - 1);
        return at < held.length() && held.charAt(at) == ' ' && last != ' ' && last != '\'' && last != 'n';
    }
}
