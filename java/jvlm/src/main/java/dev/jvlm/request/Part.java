package dev.jvlm.request;

import dev.jvlm.error.JvlmException;
import dev.jvlm.image.Image;
import java.util.List;
import java.util.Objects;

/** One part of a turn: text, a picture, or several pictures in one block. A turn is a list of parts, rendered in order. */
public sealed interface Part {
    /** The pictures of this part, none for text. */
    List<Image> images();

    record Text(String text) implements Part {
        public Text {
            if (text == null) {
                throw new JvlmException(JvlmException.Code.REQUEST, "A text part has no text");
            }
        }

        @Override
        public List<Image> images() {
            return List.of();
        }
    }

    record Picture(Image image) implements Part {
        public Picture {
            if (image == null) {
                throw new JvlmException(JvlmException.Code.REQUEST, "A picture part has no picture");
            }
        }

        @Override
        public List<Image> images() {
            return List.of(image);
        }
    }

    record Pictures(List<Image> images) implements Part {
        public Pictures {
            if (images == null || images.isEmpty() || images.stream().anyMatch(Objects::isNull)) {
                throw new JvlmException(JvlmException.Code.REQUEST, "A part of several pictures has none, or one of them is missing");
            }
            images = List.copyOf(images);
        }
    }

    static Part text(String text) {
        return new Text(text);
    }

    static Part image(Image image) {
        return new Picture(image);
    }

    /**
     * Several pictures in one block, as if they were one: {@code <img>}, the tiles of all, {@code </img>}. So InternVL's code wrote all
     * pictures of a question before July 2024; since then, and elsewhere, each has a block of its own.
     */
    static Part pictures(List<Image> images) {
        return new Pictures(images);
    }
}
