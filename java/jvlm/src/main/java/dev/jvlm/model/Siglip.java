package dev.jvlm.model;

/** SigLIP's vision transformer: no class token, a norm after the last block, pictures of any size up to {@code image_size}. */
final class Siglip {

    /** The library's, where there is no preprocessor_config.json. */
    private static final double HALF = 0.5;

    private final ModelSpec.Vision spec;

    /**
     * Reads {@code vision_config} and how pixels are normalised. The library's defaults belong to another model, so the shape must be there.
     *
     * @param preprocessor empty where there is no such file
     */
    Siglip(Config config, Config preprocessor) {
        int hidden = config.integer("hidden_size", 1, 65_536);
        int heads = config.integer("num_attention_heads", 1, 1024);
        int image = config.integer("image_size", 1, 8192);
        int patch = config.integer("patch_size", 1, 256);
        if (hidden % heads != 0) {
            throw config.contradiction("hidden_size is " + hidden + ", which " + heads + " heads do not divide");
        }
        if (image % patch != 0) {
            throw config.contradiction("image_size is " + image + ", which is no whole number of patches of " + patch + " pixels");
        }
        config.requireNumber("num_channels", 3, 3);
        config.requireText("hidden_act", "gelu_pytorch_tanh", "gelu_pytorch_tanh");
        config.requireUnset("quantization_config");
        config.flag("tie_word_embeddings", false); // A default that the library writes into every section; here are no words.
        preprocessor.requireFlag("do_rescale", true, true);
        // 1/255 as a double prints with more or fewer digits.
        if (Math.abs(preprocessor.number("rescale_factor", 0, 1, 1 / 255.0) * 255 - 1) > 1e-12) {
            throw preprocessor.unsupported("rescale_factor", "1/255");
        }
        preprocessor.requireFlag("do_normalize", true, true);
        spec = new ModelSpec.Vision(hidden, heads, hidden / heads, config.integer("intermediate_size", 1, 262_144),
                config.integer("num_hidden_layers", 1, 1024), patch, image, false, ModelSpec.Norm.LAYER_NORM,
                config.number("layer_norm_eps", Double.MIN_VALUE, 1, 1e-6), ModelSpec.Activation.GELU_TANH,
                preprocessor.numbers("image_mean", 3, 0, 1, HALF), preprocessor.numbers("image_std", 3, 1e-3, 1e3, HALF));
    }

    ModelSpec.Vision spec() {
        return spec;
    }

    /** @param prefix what stands before the tower's own names */
    void addWeights(WeightMap map, String prefix) {
        long hidden = spec.hidden();
        long patch = spec.patch();
        map.reshaped("vision.patch.weight", prefix + "embeddings.patch_embedding.weight", hidden, 3 * patch * patch, hidden, 3L, patch, patch);
        map.vector("vision.patch.bias", prefix + "embeddings.patch_embedding.bias", hidden);
        map.matrix("vision.positions", prefix + "embeddings.position_embedding.weight", (long) spec.grid() * spec.grid(), hidden);
        for (int i = 0; i < spec.layers(); i++) {
            String from = prefix + "encoder.layers." + i + ".";
            String to = "vision." + i + ".";
            map.layerNorm(to + "norm1", from + "layer_norm1", hidden);
            long row = 0;
            for (String which : new String[] {"q", "k", "v"}) {
                map.part(to + "attn.qkv.weight", row, from + "self_attn." + which + "_proj.weight", hidden, hidden);
                map.vectorPart(to + "attn.qkv.bias", row, from + "self_attn." + which + "_proj.bias", hidden);
                row += hidden;
            }
            map.linear(to + "attn.out", from + "self_attn.out_proj", hidden, hidden);
            map.layerNorm(to + "norm2", from + "layer_norm2", hidden);
            map.linear(to + "mlp.up", from + "mlp.fc1", spec.mlp(), hidden);
            map.linear(to + "mlp.down", from + "mlp.fc2", hidden, spec.mlp());
        }
        map.layerNorm("vision.norm", prefix + "post_layernorm", hidden);
    }
}
