package dev.jvlm.request;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;

/** One part of a turn: text or a picture. A turn is a list of parts, rendered in order. */
public sealed interface Part {
    record Text(String text) implements Part {
        public Text {
            if (text == null) {
                throw new JvlmException(JvlmException.Code.REQUEST, "A text part has no text");
            }
        }
    }

    record Picture(Image image) implements Part {
        public Picture {
            if (image == null) {
                throw new JvlmException(JvlmException.Code.REQUEST, "A picture part has no picture");
            }
        }
    }

    static Part text(String text) {
        return new Text(text);
    }

    static Part image(Image image) {
        return new Picture(image);
    }
}
