package dev.jvlm.text;

/**
 * A token beside the subword vocabulary.
 *
 * @param lstrip whether blanks before it belong to it
 * @param rstrip whether blanks after it belong to it
 * @param special whether decoding leaves it out
 */
public record AddedToken(int id, String content, boolean lstrip, boolean rstrip, boolean special) {
    /** More than any vocabulary has. */
    private static final int MOST_IDS = 1 << 24;

    public AddedToken {
        if (id < 0 || id >= MOST_IDS || content.isEmpty()) {
            throw new IllegalArgumentException("An added token has the id " + id + " and " + content.length() + " characters");
        }
    }
}
