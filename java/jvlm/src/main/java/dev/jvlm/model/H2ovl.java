package dev.jvlm.model;

import java.util.List;

/** H2OVL-Mississippi: InternViT, a pixel-shuffle MLP and a Llama (0.8B) or Mistral (2B) decoder. */
final class H2ovl implements ModelFamily {

    private static final String END = "<|end|>";

    /** Template h2ogpt2: no system prompt, no blanks. The role words are ordinary text unless the tokenizer knows them. */
    private static final ChatTemplate TEMPLATE = new ChatTemplate(
            null,
            new ChatTemplate.Role("<|prompt|>", END),
            new ChatTemplate.Role("<|answer|>", END),
            new ChatTemplate.Picture("<img>", "<IMG_CONTEXT>", "</img>", "\n"),
            List.of(END));

    private static final String OCR_QUESTION = "Read the text and provide word by word ocr for the document.";

    @Override
    public String name() {
        return "H2OVL-Mississippi (h2ovl_chat)";
    }

    @Override
    public boolean accepts(Config config) {
        return config.text("model_type", "").equals("h2ovl_chat");
    }

    @Override
    public Blueprint read(Config config) {
        config.requireText("template", "", "h2ogpt2");
        InternVit vision = new InternVit(config);
        LlamaDecoder decoder = new LlamaDecoder(config.section("llm_config"));
        Tiling tiling = vision.tiling(config, config.flag("use_msac", false));

        WeightMap weights = new WeightMap();
        vision.addWeights(weights, decoder.spec().hidden());
        decoder.addWeights(weights, "language_model.");
        return new Blueprint(name(), new ModelSpec(vision.spec(), vision.connector(), decoder.spec()), weights.weights(), tiling,
                TEMPLATE, OCR_QUESTION, config.notes(), Blueprint.UNNAMED);
    }
}
