package dev.jvlm.model;

/** What H2OVL and the InternVL family share around their language models: the vision tower, the pixel shuffle and the MLP behind it, tiles. */
final class InternVit {

    /** Normalisation by ImageNet's statistics is code, not configuration, in the reference. */
    private static final double[] MEAN = {0.485, 0.456, 0.406};

    private static final double[] STD = {0.229, 0.224, 0.225};

    /** The connector's LayerNorm is built with PyTorch's default, whatever the tower's is. */
    private static final double CONNECTOR_EPS = 1e-5;

    private final ModelSpec.Vision spec;
    private final boolean qkvBias;
    private final boolean qkNorms;

    /**
     * Reads {@code vision_config} and the wrapper's keys, but for those of the prompt and of tiling. Keys that are missing have the defaults of the published
     * configuration class.
     */
    InternVit(Config wrapper) {
        wrapper.requireFlag("dynamic_image_size", true, false);
        wrapper.requireFlag("pad2square", false, false);
        wrapper.requireNumber("use_backbone_lora", 0, 0);
        wrapper.requireNumber("use_llm_lora", 0, 0);
        wrapper.requireUnset("quantization_config");
        // The wrapper's flag says nothing about the language model, whose section has its own.
        wrapper.flag("tie_word_embeddings", false);
        Config config = wrapper.section("vision_config");
        int hidden = config.integer("hidden_size", 1, 65_536);
        int heads = config.integer("num_attention_heads", 1, 1024);
        int image = config.integer("image_size", 1, 8192);
        int patch = config.integer("patch_size", 1, 512);
        int layers = config.integer("num_hidden_layers", 1, 1024);
        if (hidden % heads != 0) {
            throw config.contradiction("hidden_size is " + hidden + ", which " + heads + " heads do not divide");
        }
        // Pixel shuffle joins patches two by two.
        if (image % (2 * patch) != 0) {
            throw config.contradiction("image_size is " + image + ", which is no even number of patches of " + patch + " pixels");
        }
        config.requireNumber("num_channels", 3, 3);
        config.requireText("norm_type", "rms_norm", "layer_norm", "rms_norm");
        config.requireText("hidden_act", "gelu", "gelu");
        config.requireUnset("quantization_config");
        qkvBias = config.flag("qkv_bias", false);
        qkNorms = config.flag("qk_normalization", true);

        int tile = wrapper.integer("force_image_size", 1, 8192, image);
        if (tile != image) {
            throw wrapper.unsupported("force_image_size", "vision_config.image_size, " + image);
        }
        wrapper.requireNumber("downsample_ratio", 0.5, 0.5);
        wrapper.requireText("ps_version", "v1", "v2");
        // -1 is the last block's output, -2 the one before it, and so on: the blocks behind do not run.
        int select = wrapper.integer("select_layer", -layers, -1, -1);
        spec = new ModelSpec.Vision(hidden, heads, hidden / heads, config.integer("intermediate_size", 1, 1_048_576),
                layers + select + 1, patch, image, true,
                config.text("norm_type", "rms_norm").equals("rms_norm") ? ModelSpec.Norm.RMS_NORM : ModelSpec.Norm.LAYER_NORM,
                config.number("layer_norm_eps", Double.MIN_VALUE, 1, 1e-6), ModelSpec.Activation.GELU, MEAN, STD);
    }

    ModelSpec.Vision spec() {
        return spec;
    }

    ModelSpec.Connector connector() {
        return new ModelSpec.PixelShuffle(CONNECTOR_EPS);
    }

    /** @param msac see {@link Tiling.Grid#msac} */
    Tiling tiling(Config wrapper, boolean msac) {
        int maxTiles = wrapper.integer("max_dynamic_patch", 1, 128, 6);
        return new Tiling.Grid(spec.image(), wrapper.integer("min_dynamic_patch", 1, maxTiles, 1), maxTiles,
                wrapper.flag("use_thumbnail", false), msac);
    }

    /** @param out the decoder's width */
    void addWeights(WeightMap map, int out) {
        long hidden = spec.hidden();
        long patch = spec.patch();
        long tokens = 1 + (long) spec.grid() * spec.grid();
        String embeddings = "vision_model.embeddings.";
        map.reshaped("vision.patch.weight", embeddings + "patch_embedding.weight", hidden, 3 * patch * patch, hidden, 3L, patch, patch);
        map.vector("vision.patch.bias", embeddings + "patch_embedding.bias", hidden);
        map.reshaped("vision.class", embeddings + "class_embedding", hidden, 1, 1L, 1L, hidden);
        map.reshaped("vision.positions", embeddings + "position_embedding", tokens, hidden, 1L, tokens, hidden);
        for (int i = 0; i < spec.layers(); i++) {
            String from = "vision_model.encoder.layers." + i + ".";
            String to = "vision." + i + ".";
            norm(map, to + "norm1", from + "norm1");
            map.matrix(to + "attn.qkv.weight", from + "attn.qkv.weight", 3 * hidden, hidden);
            if (qkvBias) {
                map.vector(to + "attn.qkv.bias", from + "attn.qkv.bias", 3 * hidden);
            }
            if (qkNorms) {
                map.vector(to + "attn.q_norm.weight", from + "attn.q_norm.weight", hidden);
                map.vector(to + "attn.k_norm.weight", from + "attn.k_norm.weight", hidden);
            }
            map.linear(to + "attn.out", from + "attn.proj", hidden, hidden);
            map.vector(to + "scale1", from + "ls1", hidden);
            norm(map, to + "norm2", from + "norm2");
            map.linear(to + "mlp.up", from + "mlp.fc1", spec.mlp(), hidden);
            map.linear(to + "mlp.down", from + "mlp.fc2", hidden, spec.mlp());
            map.vector(to + "scale2", from + "ls2", hidden);
        }
        map.layerNorm("connector.norm", "mlp1.0", 4 * hidden);
        map.linear("connector.up", "mlp1.1", out, 4 * hidden);
        map.linear("connector.down", "mlp1.3", out, out);
    }

    private void norm(WeightMap map, String target, String name) {
        if (spec.norm() == ModelSpec.Norm.RMS_NORM) {
            map.vector(target + ".weight", name + ".weight", spec.hidden());
        } else {
            map.layerNorm(target, name, spec.hidden());
        }
    }
}
