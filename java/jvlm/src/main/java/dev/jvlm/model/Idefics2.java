package dev.jvlm.model;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Idefics2: SigLIP at the picture's own aspect ratio, a perceiver and a Mistral decoder; as instruct, chatty and base model. */
final class Idefics2 implements ModelFamily {

    private static final String END = "<end_of_utterance>";

    /** The same token stands before a picture and behind it. A text that comes first is set off from the role by a blank. */
    private static final ChatTemplate TEMPLATE = new ChatTemplate(
            null,
            new ChatTemplate.Role("User:", " ", END + "\n"),
            new ChatTemplate.Role("Assistant:", " ", END + "\n"),
            new ChatTemplate.Picture("<fake_token_around_image>", "<image>", "<fake_token_around_image>", ""),
            List.of("</s>", END),
            END);

    private static final String OCR_QUESTION = "Read all the text in the image. Output only the text.";

    /** What the library's configuration class for Mistral takes where {@code text_config} says nothing. */
    private static final Map<String, Integer> MISTRAL = Map.of("hidden_size", 4096, "intermediate_size", 14_336, "num_hidden_layers", 32,
            "num_attention_heads", 32, "num_key_value_heads", 8, "max_position_embeddings", 131_072, "vocab_size", 32_000);

    @Override
    public String name() {
        return "Idefics2 (idefics2)";
    }

    @Override
    public boolean accepts(Config config) {
        return config.text("model_type", "").equals("idefics2");
    }

    @Override
    public Blueprint read(Config config) {
        config.requireFlag("tie_word_embeddings", false, false);
        config.requireUnset("quantization_config");
        Config preprocessor = config.preprocessor();
        Siglip vision = new Siglip(config.section("vision_config"), preprocessor);
        LlamaDecoder decoder = new LlamaDecoder(config.section("text_config", MISTRAL));
        Perceiver connector = new Perceiver(config.section("perceiver_config"), decoder.spec());

        WeightMap weights = new WeightMap();
        vision.addWeights(weights, "model.vision_model.");
        connector.addWeights(weights, "model.connector.", vision.spec().hidden());
        decoder.addWeights(weights, "model.text_model.", "lm_head.weight");
        ModelSpec spec = new ModelSpec(vision.spec(), connector.spec(), decoder.spec());
        Tiling tiling = tiling(preprocessor, vision.spec());
        int imageToken = config.integer("image_token_id", 0, decoder.spec().vocabulary() - 1, 32_001);

        List<String> notes = new ArrayList<>(config.notes());
        notes.addAll(preprocessor.notes());
        if (preprocessor.isEmpty()) {
            notes.add("There is no preprocessor_config.json: pictures are not split, unless a request asks for it");
        }
        return new Blueprint(name(), spec, weights.weights(), tiling, TEMPLATE, OCR_QUESTION, notes, imageToken);
    }

    /** The library's defaults where the file or a key is not there. */
    private static Tiling tiling(Config preprocessor, ModelSpec.Vision vision) {
        preprocessor.requireFlag("do_convert_rgb", true, true);
        preprocessor.requireFlag("do_resize", true, true);
        preprocessor.requireFlag("do_pad", true, true);
        preprocessor.requireNumber("resample", 2, 2); // Pillow's BILINEAR
        Config size = preprocessor.sectionIfThere("size");
        int longest = size.integer("longest_edge", vision.patch(), vision.image(), 980);
        int shortest = size.integer("shortest_edge", vision.patch(), longest, 378);
        return new Tiling.Aspect(longest, shortest, preprocessor.flag("do_image_splitting", false));
    }
}
