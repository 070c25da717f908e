package dev.jvlm.image;

/** A resampling filter, as Pillow's of that name: widened when a picture shrinks. */
public enum Filter {
    BILINEAR,
    /** With a = -0.5. */
    BICUBIC
}
