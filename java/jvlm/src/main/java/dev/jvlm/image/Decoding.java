package dev.jvlm.image;

/**
 * How a file becomes a picture.
 *
 * @param reference whether pixels are taken as the published results of the models took them: EXIF orientation is left alone and alpha is
 *     dropped. Otherwise the picture is turned as EXIF says and transparent pixels are composed on white.
 * @param frame which frame of an animation or page of a TIFF, from 0
 * @param maxPixels refuse pictures of more pixels, from the header alone
 */
public record Decoding(boolean reference, int frame, long maxPixels) {

    /** Frames and pages beyond this one are refused, as are files that would have to be walked further. */
    public static final int MAX_FRAMES = 10_000;

    /** As people expect: upright, transparency on white; first frame; at most 2^27 pixels, twice as many as an A1 page at 300 dpi. */
    public static final Decoding DEFAULT = new Decoding(false, 0, 1L << 27);

    /** As the models' published results were made. */
    public static final Decoding REFERENCE = new Decoding(true, 0, 1L << 27);

    public Decoding {
        if (frame < 0 || frame >= MAX_FRAMES) {
            throw new IllegalArgumentException("frame must be between 0 and " + (MAX_FRAMES - 1) + ", not " + frame);
        }
        if (maxPixels < 1) {
            throw new IllegalArgumentException("maxPixels must be positive, not " + maxPixels);
        }
    }

    public Decoding withFrame(int frame) {
        return new Decoding(reference, frame, maxPixels);
    }

    public Decoding withMaxPixels(long maxPixels) {
        return new Decoding(reference, frame, maxPixels);
    }
}
