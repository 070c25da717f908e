package dev.jvlm.model;

/** InternLM2 ({@code InternLM2ForCausalLM}): the Llama shape with queries, keys and values in one tensor, dynamic NTK rope and names of its own. */
final class InternLm2Decoder implements TextDecoder {

    private final ModelSpec.Decoder spec;

    InternLm2Decoder(Config config) {
        // The class's default is true, so a missing key means biases.
        config.requireFlag("bias", false, true);
        config.requireUnset("head_dim", "sliding_window");
        int positions = config.integer("max_position_embeddings", 1, MOST_POSITIONS);
        ModelSpec.Rope rope = rope(config, positions);
        // Scaling is there to go beyond max_position_embeddings, without an end of its own.
        int context = rope instanceof ModelSpec.Rope.DynamicNtk ? MOST_POSITIONS : positions;
        spec = TextDecoder.shape(config, 1e-6, rope, 0, context);
        if (rope instanceof ModelSpec.Rope.DynamicNtk && spec.headSize() < 4) {
            throw config.contradiction("a head has " + spec.headSize() + " numbers; dynamic rope_scaling needs four");
        }
    }

    private static ModelSpec.Rope rope(Config config, int positions) {
        if (!config.isSet("rope_scaling")) {
            return new ModelSpec.Rope.Plain();
        }
        Config scaling = config.section("rope_scaling");
        scaling.requireText("type", "", "dynamic");
        return new ModelSpec.Rope.DynamicNtk(scaling.number("factor", 1, 1e6), positions);
    }

    @Override
    public ModelSpec.Decoder spec() {
        return spec;
    }

    @Override
    public void addWeights(WeightMap map, String prefix) {
        long hidden = spec.hidden();
        map.matrix("decoder.embed.weight", prefix + "model.tok_embeddings.weight", spec.vocabulary(), hidden);
        for (int i = 0; i < spec.layers(); i++) {
            String from = prefix + "model.layers." + i + ".";
            String to = "decoder." + i + ".";
            map.vector(to + "attn_norm.weight", from + "attention_norm.weight", hidden);
            addQkv(map, to + "attn.qkv.weight", from + "attention.wqkv.weight");
            map.matrix(to + "attn.out.weight", from + "attention.wo.weight", hidden, (long) spec.heads() * spec.headSize());
            map.vector(to + "mlp_norm.weight", from + "ffn_norm.weight", hidden);
            map.part(to + "mlp.gate_up.weight", 0, from + "feed_forward.w1.weight", spec.mlp(), hidden);
            map.part(to + "mlp.gate_up.weight", spec.mlp(), from + "feed_forward.w3.weight", spec.mlp(), hidden);
            map.matrix(to + "mlp.down.weight", from + "feed_forward.w2.weight", hidden, spec.mlp());
        }
        map.vector("decoder.norm.weight", prefix + "model.norm.weight", hidden);
        map.matrix("decoder.head.weight", prefix + "output.weight", spec.vocabulary(), hidden);
    }

    /** The tensor goes by key/value head: its query heads, its key, its value. The engine's has all queries, then all keys, then all values. */
    private void addQkv(WeightMap map, String target, String name) {
        long size = spec.headSize();
        long kvHeads = spec.kvHeads();
        long group = spec.heads() / kvHeads;
        long all = (spec.heads() + 2 * kvHeads) * size;
        for (long k = 0; k < kvHeads; k++) {
            long from = k * (group + 2) * size;
            map.rowsOf(name, all, from, target, k * group * size, group * size, spec.hidden());
            map.rowsOf(name, all, from + group * size, target, (spec.heads() + k) * size, size, spec.hidden());
            map.rowsOf(name, all, from + (group + 1) * size, target, (spec.heads() + kvHeads + k) * size, size, spec.hidden());
        }
    }
}
