package dev.jvlm.image;

/** A stretch of a file, in bytes. */
record Span(int start, int length) {}
