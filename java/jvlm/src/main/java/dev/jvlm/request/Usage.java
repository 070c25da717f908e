package dev.jvlm.request;

/**
 * What an answer took.
 *
 * @param promptTokens tokens of the prompt, those of pictures included
 * @param imageTokens vision rows among them
 * @param tiles tiles that the pictures were cut into
 * @param completionTokens generated tokens
 */
public record Usage(int promptTokens, int imageTokens, int tiles, int completionTokens) {}
