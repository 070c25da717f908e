package dev.jvlm.model;

/** A language model: its shape and the names of its tensors. One page a class of the {@code architectures} that it serves. */
interface TextDecoder {

    int MOST_POSITIONS = 1 << 24;

    ModelSpec.Decoder spec();

    /** @param prefix what the checkpoint puts in front of the language model's own names */
    void addWeights(WeightMap map, String prefix);

    /** The language model that {@code architectures} names. */
    static TextDecoder of(Config config) {
        return switch (config.architecture()) {
            case "InternLM2ForCausalLM" -> new InternLm2Decoder(config);
            case "LlamaForCausalLM" -> new LlamaDecoder(config);
            case "Phi3ForCausalLM" -> new Phi3Decoder(config);
            default -> throw config.unsupported("architectures", "InternLM2ForCausalLM, LlamaForCausalLM, Phi3ForCausalLM");
        };
    }

    /**
     * The keys that all of them share, without biases and with an output matrix of its own.
     *
     * @param rmsNormEps the class's default
     */
    static ModelSpec.Decoder shape(Config config, double rmsNormEps, ModelSpec.Rope rope, int window, int context) {
        int hidden = config.integer("hidden_size", 1, 65_536);
        int heads = config.integer("num_attention_heads", 1, 1024);
        int kvHeads = config.integer("num_key_value_heads", 1, 1024, heads);
        if (heads % kvHeads != 0) {
            throw config.contradiction("num_attention_heads is " + heads + ", no multiple of num_key_value_heads, " + kvHeads);
        }
        int headSize = headSize(config, hidden, heads);
        config.requireText("hidden_act", "silu", "silu");
        config.requireFlag("tie_word_embeddings", false, false);
        config.requireNumber("partial_rotary_factor", 1, 1);
        config.requireUnset("rope_parameters", "quantization_config");
        return new ModelSpec.Decoder(hidden, heads, kvHeads, headSize, config.integer("intermediate_size", 1, 1_048_576),
                config.integer("num_hidden_layers", 1, 1024), config.integer("vocab_size", 1, 1 << 22),
                config.number("rms_norm_eps", Double.MIN_VALUE, 1, rmsNormEps), config.number("rope_theta", 1, 1e12, 10_000), rope,
                window, context, ModelSpec.Activation.SILU);
    }

    static int headSize(Config config, int hidden, int heads) {
        if (!config.isSet("head_dim") && hidden % heads != 0) {
            throw config.contradiction("hidden_size is " + hidden + ", which " + heads + " heads do not divide");
        }
        int headSize = config.integer("head_dim", 2, 1024, hidden / heads);
        if (headSize % 2 != 0) {
            throw config.contradiction("a head has " + headSize + " numbers; rotary positions need an even number");
        }
        return headSize;
    }
}
