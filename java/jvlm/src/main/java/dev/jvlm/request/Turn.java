package dev.jvlm.request;

import java.util.List;

/** A finished exchange of the conversation: what the user said and what was answered. */
public record Turn(List<Part> question, String answer) {}
