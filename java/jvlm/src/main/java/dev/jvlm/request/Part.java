package dev.jvlm.request;

import dev.jvlm.image.Image;

/** One part of a turn: text or a picture. A turn is a list of parts, rendered in order. */
public sealed interface Part {
    record Text(String text) implements Part {}

    record Picture(Image image) implements Part {}

    static Part text(String text) {
        return new Text(text);
    }

    static Part image(Image image) {
        return new Picture(image);
    }
}
