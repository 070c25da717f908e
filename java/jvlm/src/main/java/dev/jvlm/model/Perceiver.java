package dev.jvlm.model;

/** Idefics2's connector: a gated projection of the patches, and learned latents that look at them. */
final class Perceiver {

    private final ModelSpec.Perceiver spec;
    private final int out;

    /**
     * Reads {@code perceiver_config}. Releases of the library differ in their defaults, so the shape must be there.
     *
     * @param text the decoder, whose width, eps and inner width the connector takes
     */
    Perceiver(Config config, ModelSpec.Decoder text) {
        int heads = config.integer("resampler_n_heads", 1, 1024);
        int kvHeads = config.integer("num_key_value_heads", 1, 1024);
        if (heads % kvHeads != 0) {
            throw config.contradiction("resampler_n_heads is " + heads + ", no multiple of num_key_value_heads, " + kvHeads);
        }
        out = text.hidden();
        config.requireNumber("hidden_size", out, out);
        config.requireText("hidden_act", "silu", "silu");
        config.requireUnset("quantization_config");
        config.flag("tie_word_embeddings", false); // As in Siglip.
        spec = new ModelSpec.Perceiver(text.eps(), text.mlp(), config.integer("resampler_n_latents", 1, 4096),
                config.integer("resampler_depth", 1, 1024), heads, kvHeads, config.integer("resampler_head_dim", 1, 512), 4 * out,
                ModelSpec.Activation.SILU);
    }

    ModelSpec.Perceiver spec() {
        return spec;
    }

    /**
     * @param prefix what stands before the connector's own names
     * @param in the tower's width
     */
    void addWeights(WeightMap map, String prefix, int in) {
        String projection = prefix + "modality_projection.";
        map.part("connector.projection.gate_up.weight", 0, projection + "gate_proj.weight", spec.projection(), in);
        map.part("connector.projection.gate_up.weight", spec.projection(), projection + "up_proj.weight", spec.projection(), in);
        map.matrix("connector.projection.down.weight", projection + "down_proj.weight", out, spec.projection());
        String resampler = prefix + "perceiver_resampler.";
        map.matrix("connector.latents", resampler + "latents", spec.latents(), out);
        long q = (long) spec.heads() * spec.headSize();
        long kv = (long) spec.kvHeads() * spec.headSize();
        for (int i = 0; i < spec.layers(); i++) {
            String from = resampler + "layers." + i + ".";
            String to = "connector." + i + ".";
            map.vector(to + "latents_norm.weight", from + "input_latents_norm.weight", out);
            map.vector(to + "context_norm.weight", from + "input_context_norm.weight", out);
            map.matrix(to + "attn.q.weight", from + "self_attn.q_proj.weight", q, out);
            map.part(to + "attn.kv.weight", 0, from + "self_attn.k_proj.weight", kv, out);
            map.part(to + "attn.kv.weight", kv, from + "self_attn.v_proj.weight", kv, out);
            map.matrix(to + "attn.out.weight", from + "self_attn.o_proj.weight", out, q);
            map.vector(to + "mlp_norm.weight", from + "post_attention_layernorm.weight", out);
            map.part(to + "mlp.gate_up.weight", 0, from + "mlp.gate_proj.weight", spec.mlp(), out);
            map.part(to + "mlp.gate_up.weight", spec.mlp(), from + "mlp.up_proj.weight", spec.mlp(), out);
            map.matrix(to + "mlp.down.weight", from + "mlp.down_proj.weight", out, spec.mlp());
        }
        map.vector("connector.norm.weight", resampler + "norm.weight", out);
    }
}
