package dev.jvlm.model;

/** Text from a file, as it may stand in a message: in quotes, short, without control characters. */
final class Quote {

    private static final int LONGEST = 100;

    private Quote() {}

    static String of(String text) {
        String cut = text.length() > LONGEST ? text.substring(0, LONGEST) + "…" : text;
        return "'" + cut.replaceAll("\\p{C}", "?") + "'";
    }
}
