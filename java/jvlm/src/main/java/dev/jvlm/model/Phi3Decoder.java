package dev.jvlm.model;

/** Phi-3 ({@code Phi3ForCausalLM}): the Llama shape with fused tensors, in the engine's own order, and long rope. */
final class Phi3Decoder implements TextDecoder {

    private final ModelSpec.Decoder spec;

    Phi3Decoder(Config config) {
        config.requireFlag("attention_bias", false, false);
        config.requireUnset("head_dim");
        int positions = config.integer("max_position_embeddings", 1, MOST_POSITIONS);
        // What its implementations make of a window differs by one position; a window as long as the context is none.
        if (config.integer("sliding_window", 1, MOST_POSITIONS, MOST_POSITIONS) < positions) {
            throw config.unsupported("sliding_window", "nothing, or at least max_position_embeddings, " + positions);
        }
        int headSize = TextDecoder.headSize(config, config.integer("hidden_size", 1, 65_536), config.integer("num_attention_heads", 1, 1024));
        spec = TextDecoder.shape(config, 1e-5, rope(config, positions, headSize), 0, positions);
    }

    private static ModelSpec.Rope rope(Config config, int positions, int headSize) {
        int original = config.integer("original_max_position_embeddings", 2, MOST_POSITIONS, 4096);
        if (!config.isSet("rope_scaling")) {
            return new ModelSpec.Rope.Plain();
        }
        Config scaling = config.section("rope_scaling");
        scaling.requireText("type", "", "su", "longrope");
        double ratio = (double) positions / original;
        double magnitude = ratio <= 1 ? 1 : Math.sqrt(1 + Math.log(ratio) / Math.log(original));
        return new ModelSpec.Rope.LongRope(original, magnitude, scaling.numbers("short_factor", headSize / 2, 1e-6, 1e6),
                scaling.numbers("long_factor", headSize / 2, 1e-6, 1e6));
    }

    @Override
    public ModelSpec.Decoder spec() {
        return spec;
    }

    @Override
    public void addWeights(WeightMap map, String prefix) {
        long hidden = spec.hidden();
        long q = (long) spec.heads() * spec.headSize();
        long kv = (long) spec.kvHeads() * spec.headSize();
        map.matrix("decoder.embed.weight", prefix + "model.embed_tokens.weight", spec.vocabulary(), hidden);
        for (int i = 0; i < spec.layers(); i++) {
            String from = prefix + "model.layers." + i + ".";
            String to = "decoder." + i + ".";
            map.vector(to + "attn_norm.weight", from + "input_layernorm.weight", hidden);
            map.matrix(to + "attn.qkv.weight", from + "self_attn.qkv_proj.weight", q + 2 * kv, hidden);
            map.matrix(to + "attn.out.weight", from + "self_attn.o_proj.weight", hidden, q);
            map.vector(to + "mlp_norm.weight", from + "post_attention_layernorm.weight", hidden);
            map.matrix(to + "mlp.gate_up.weight", from + "mlp.gate_up_proj.weight", 2L * spec.mlp(), hidden);
            map.matrix(to + "mlp.down.weight", from + "mlp.down_proj.weight", hidden, spec.mlp());
        }
        map.vector("decoder.norm.weight", prefix + "model.norm.weight", hidden);
        map.matrix("decoder.head.weight", prefix + "lm_head.weight", spec.vocabulary(), hidden);
    }
}
