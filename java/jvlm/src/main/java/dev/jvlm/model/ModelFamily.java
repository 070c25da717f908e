package dev.jvlm.model;

/** A family of models that share their config's keys, tensor names, tiling and chat template. One page each. */
interface ModelFamily {

    /** Its name for people, with the model type by which it is recognised. */
    String name();

    /** Whether a configuration is of this family. */
    boolean accepts(Config config);

    /**
     * Everything that the configuration says.
     *
     * @throws dev.jvlm.error.JvlmException MODEL_FORMAT, MODEL_UNSUPPORTED, naming the key
     */
    Blueprint read(Config config);
}
