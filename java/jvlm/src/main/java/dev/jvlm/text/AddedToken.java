package dev.jvlm.text;

/**
 * A token beside the subword vocabulary.
 *
 * @param lstrip whether blanks before it belong to it
 * @param rstrip whether blanks after it belong to it
 * @param special whether decoding leaves it out
 */
public record AddedToken(int id, String content, boolean lstrip, boolean rstrip, boolean special) {}
