package dev.jvlm.model;

/** A language model of the Llama shape: {@code LlamaForCausalLM}, {@code MistralForCausalLM} (as a section: model type {@code mistral}). */
final class LlamaDecoder implements TextDecoder {

    /** What Mistral's configuration class takes for a {@code sliding_window} that is not there; null means none. */
    private static final int MISTRAL_WINDOW = 4096;

    private final ModelSpec.Decoder spec;

    LlamaDecoder(Config config) {
        String architecture = config.architecture();
        int window;
        switch (architecture.isEmpty() ? config.text("model_type", "") : architecture) {
            case "LlamaForCausalLM" -> {
                config.requireUnset("sliding_window");
                window = 0;
            }
            case "MistralForCausalLM", "mistral" -> window = config.has("sliding_window")
                    ? config.integer("sliding_window", 1, MOST_POSITIONS, 0)
                    : MISTRAL_WINDOW;
            default -> throw config.unsupported("architectures", "LlamaForCausalLM, MistralForCausalLM");
        }
        config.requireFlag("attention_bias", false, false);
        config.requireFlag("mlp_bias", false, false);
        config.requireUnset("rope_scaling");
        spec = TextDecoder.shape(config, 1e-6, new ModelSpec.Rope.Plain(), window,
                config.integer("max_position_embeddings", 1, MOST_POSITIONS));
    }

    @Override
    public ModelSpec.Decoder spec() {
        return spec;
    }

    @Override
    public void addWeights(WeightMap map, String prefix) {
        addWeights(map, prefix + "model.", prefix + "lm_head.weight");
    }

    /**
     * @param prefix what the checkpoint puts in front of the language model's own names
     * @param head the name of the matrix that gives the logits
     */
    void addWeights(WeightMap map, String prefix, String head) {
        long hidden = spec.hidden();
        long q = (long) spec.heads() * spec.headSize();
        long kv = (long) spec.kvHeads() * spec.headSize();
        map.matrix("decoder.embed.weight", prefix + "embed_tokens.weight", spec.vocabulary(), hidden);
        for (int i = 0; i < spec.layers(); i++) {
            String from = prefix + "layers." + i + ".";
            String to = "decoder." + i + ".";
            map.vector(to + "attn_norm.weight", from + "input_layernorm.weight", hidden);
            map.part(to + "attn.qkv.weight", 0, from + "self_attn.q_proj.weight", q, hidden);
            map.part(to + "attn.qkv.weight", q, from + "self_attn.k_proj.weight", kv, hidden);
            map.part(to + "attn.qkv.weight", q + kv, from + "self_attn.v_proj.weight", kv, hidden);
            map.matrix(to + "attn.out.weight", from + "self_attn.o_proj.weight", hidden, q);
            map.vector(to + "mlp_norm.weight", from + "post_attention_layernorm.weight", hidden);
            map.part(to + "mlp.gate_up.weight", 0, from + "mlp.gate_proj.weight", spec.mlp(), hidden);
            map.part(to + "mlp.gate_up.weight", spec.mlp(), from + "mlp.up_proj.weight", spec.mlp(), hidden);
            map.matrix(to + "mlp.down.weight", from + "mlp.down_proj.weight", hidden, spec.mlp());
        }
        map.vector("decoder.norm.weight", prefix + "norm.weight", hidden);
        map.matrix("decoder.head.weight", head, spec.vocabulary(), hidden);
    }
}
