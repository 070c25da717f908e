package dev.jvlm.model;

import java.util.List;

/** InternVL-Chat-V1-5 and Mini-InternVL-Chat-2B/4B-V1-5: InternViT, a pixel-shuffle MLP and InternLM2, Phi-3 or Llama. */
final class InternVl implements ModelFamily {

    /**
     * The system prompt where the configuration has no {@code system_message}: that of InternVL's code since 2024-07-19. The published
     * results of V1.5 (April to July 2024) were made with "You are an AI assistant whose name is InternLM (书生·浦语)." and, with Phi-3,
     * "You are an AI assistant whose name is Phi-3."; a request that wants those brings them.
     */
    private static final String SYSTEM = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。";

    private static final String OCR_QUESTION = "Read all the text in the image. Output only the text.";

    @Override
    public String name() {
        return "InternVL 1.5 (internvl_chat)";
    }

    @Override
    public boolean accepts(Config config) {
        return config.text("model_type", "").equals("internvl_chat");
    }

    @Override
    public Blueprint read(Config config) {
        ChatTemplate template = template(config);
        InternVit vision = new InternVit(config);
        TextDecoder decoder = TextDecoder.of(config.section("llm_config"));
        Tiling tiling = vision.tiling(config, false);

        WeightMap weights = new WeightMap();
        vision.addWeights(weights, decoder.spec().hidden());
        decoder.addWeights(weights, "language_model.");
        return new Blueprint(name(), new ModelSpec(vision.spec(), vision.connector(), decoder.spec()), weights.weights(), tiling,
                template, OCR_QUESTION, config.notes(), Blueprint.UNNAMED);
    }

    private static ChatTemplate template(Config config) {
        String system = config.text("system_message", SYSTEM);
        ChatTemplate.Picture picture = new ChatTemplate.Picture("<img>", "<IMG_CONTEXT>", "</img>", "\n");
        return switch (config.text("template", "")) {
            // No line break between an end and the next start.
            case "internlm2-chat" -> new ChatTemplate(
                    new ChatTemplate.System("<|im_start|>system\n", "<|im_end|>", system),
                    new ChatTemplate.Role("<|im_start|>user\n", "<|im_end|>"),
                    new ChatTemplate.Role("<|im_start|>assistant\n", "<|im_end|>"),
                    picture,
                    List.of("<|im_end|>"));
            case "phi3-chat" -> new ChatTemplate(
                    new ChatTemplate.System("<|system|>\n", "<|end|>", system),
                    new ChatTemplate.Role("<|user|>\n", "<|end|>"),
                    new ChatTemplate.Role("<|assistant|>\n", "<|end|>"),
                    picture,
                    List.of("<|end|>"));
            default -> throw config.unsupported("template", "internlm2-chat, phi3-chat");
        };
    }
}
