package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import dev.jvlm.request.Part;
import dev.jvlm.request.Turn;
import dev.jvlm.text.Tokenizer;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.Stream;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.MissingNode;

/**
 * A model folder, checked as far as that is possible without reading its weights.
 *
 * @param manifest where each weight lies
 * @param stopIds the ids that end an answer
 * @param bannedIds the ids that are never generated ({@code bad_words_ids} of {@code generation_config.json})
 * @param ocrQuestion what to ask for the text of a picture: the folder's own ({@code jvlm.json}), or else the family's
 * @param notes what a user should know: keys and tensors not used, code not run, an adapter merged
 * @param fingerprint 64 hexadecimal digits that differ between checkpoints: from the configuration, the tokenizer, the headers of the
 *     weight files and samples of their data, and the adapter's files
 */
public record Checkpoint(Blueprint blueprint, Tokenizer tokenizer, Manifest manifest, List<Integer> stopIds,
        List<Integer> bannedIds, String ocrQuestion, List<String> notes, String fingerprint) {

    private static final String CONFIG = "config.json";
    private static final String GENERATION = "generation_config.json";
    private static final String OURS = "jvlm.json";
    private static final List<String> TOKENIZER =
            List.of("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "added_tokens.json");

    public Checkpoint {
        stopIds = List.copyOf(stopIds);
        bannedIds = List.copyOf(bannedIds);
        notes = List.copyOf(notes);
    }

    /**
     * Opens a model folder: {@code config.json}, the tokenizer's files and safetensors, as published; {@code generation_config.json},
     * {@code preprocessor_config.json} and {@code jvlm.json} where there are such.
     *
     * @throws JvlmException MODEL_FORMAT if a file is missing, damaged or contradicts another; MODEL_UNSUPPORTED if the model uses
     *     something that is not implemented
     */
    public static Checkpoint open(Path path) {
        return open(path, null);
    }

    /**
     * Opens a model folder with an adapter that is merged into its weights as they are loaded: a folder as PEFT writes it,
     * {@code adapter_config.json} and {@code adapter_model.safetensors}, for LoRA, rsLoRA and DoRA of linear layers.
     *
     * @param adapterPath the adapter's folder, or null for none
     * @throws JvlmException as {@link #open(Path)}; MODEL_FORMAT if the adapter is damaged, incomplete or made for another model;
     *     MODEL_UNSUPPORTED if it is of another kind
     */
    public static Checkpoint open(Path path, Path adapterPath) {
        ModelFolder folder = ModelFolder.open(path);
        Blueprint blueprint = Blueprint.read(folder, CONFIG);
        Tokenizer tokenizer = tokenizer(folder);
        JsonNode generation = folder.has(GENERATION) ? folder.json(GENERATION) : MissingNode.getInstance();
        List<Integer> stopIds = checkTokenizer(generation, blueprint, tokenizer);
        List<Integer> bannedIds = bannedIds(generation, blueprint.spec().decoder().vocabulary());
        SafeTensors tensors = SafeTensors.read(folder);
        List<String> notes = new ArrayList<>(blueprint.notes());
        String chatToken = blueprint.template().chatToken();
        if (chatToken != null && tokenizer.addedId(chatToken) < 0) {
            blueprint = blueprint.completing();
            notes.add("The tokenizer lacks " + chatToken + ": a base model, which goes on from a text and does not chat");
        }
        Adapter adapter = adapterPath == null ? null : Adapter.open(adapterPath, blueprint.weights());
        Manifest manifest = Manifest.of(blueprint.weights(), tensors, adapter, notes);
        if (adapter != null) {
            notes.addAll(adapter.notes());
        }
        String question = folder.has(OURS) ? ocrQuestion(folder.json(OURS)) : blueprint.ocrQuestion();
        return new Checkpoint(blueprint, tokenizer, manifest, stopIds, bannedIds, question, notes, fingerprint(folder, tensors, adapter));
    }

    /**
     * The prompt of a conversation.
     *
     * @param system the system prompt, or null for the family's own
     * @param pictureRows vision rows of each picture, in the order in which the conversation holds them
     * @param context the most positions there is room for
     * @throws JvlmException REQUEST if pictures and rows do not match, the prompt is longer than the context, or the family takes no
     *     system prompt
     */
    public Prompt prompt(String system, List<Turn> history, List<Part> question, int[] pictureRows, int context) {
        return Prompt.encode(
                tokenizer, blueprint.template(), system, history, question, pictureRows, blueprint.spec().rowsPerTile(), context);
    }

    /**
     * The prompt that holds the parts and nothing around them, for the model to go on from. Parameters as for {@link #prompt}.
     *
     * @throws JvlmException REQUEST if pictures and rows do not match or the prompt is longer than the context
     */
    public Prompt completion(List<Part> parts, int[] pictureRows, int context) {
        return Prompt.encode(tokenizer, blueprint.template().completing(), null, List.of(), parts, pictureRows,
                blueprint.spec().rowsPerTile(), context);
    }

    private static Tokenizer tokenizer(ModelFolder folder) {
        // The tokenizer opens them by itself: links that lead out of the folder and sizes beyond reason are refused here.
        TOKENIZER.stream().filter(folder::has).forEach(folder::smallFile);
        try {
            return Tokenizer.load(folder.path());
        } catch (JacksonException | IllegalArgumentException e) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT,
                    "The tokenizer's files are damaged; copy them again from where the model was published",
                    e);
        }
    }

    private static List<Integer> checkTokenizer(JsonNode generation, Blueprint blueprint, Tokenizer tokenizer) {
        int vocabulary = blueprint.spec().decoder().vocabulary();
        if (tokenizer.size() > vocabulary) {
            throw foreign("it has ids up to " + (tokenizer.size() - 1) + ", the model a vocabulary of " + vocabulary);
        }
        for (String token : blueprint.template().requiredTokens()) {
            if (tokenizer.addedId(token) < 0) {
                throw foreign("it lacks the token " + token);
            }
        }
        String row = blueprint.template().picture().row();
        if (blueprint.imageToken() != Blueprint.UNNAMED && tokenizer.addedId(row) != blueprint.imageToken()) {
            throw foreign(row + " has the id " + tokenizer.addedId(row) + ", " + CONFIG + " says " + blueprint.imageToken());
        }
        List<Integer> stopIds =
                blueprint.template().stopTokens().stream().map(tokenizer::addedId).filter(id -> id >= 0).toList();
        JsonNode end = generation.path("eos_token_id");
        List<Integer> listed = (end.isArray() ? end.valueStream() : Stream.of(end))
                .filter(JsonNode::canConvertToInt)
                .map(JsonNode::asInt)
                .toList();
        if (!listed.isEmpty() && stopIds.stream().noneMatch(listed::contains)) {
            throw foreign(GENERATION + " ends answers with the ids " + listed + ", the tokenizer with " + stopIds);
        }
        return stopIds;
    }

    private static List<Integer> bannedIds(JsonNode generation, int vocabulary) {
        JsonNode words = generation.path("bad_words_ids");
        List<Integer> ids = new ArrayList<>();
        if (words.isMissingNode() || words.isNull()) {
            return ids;
        }
        for (JsonNode word : words.isArray() ? words : List.of(words)) {
            JsonNode id = word.path(0);
            if (word.size() != 1 || !id.isIntegralNumber() || !id.canConvertToInt() || id.asInt() < 0 || id.asInt() >= vocabulary) {
                throw new JvlmException(
                        JvlmException.Code.MODEL_UNSUPPORTED,
                        GENERATION + ": bad_words_ids holds " + Quote.of(word.toString()) + ". Supported: lists of one id, 0 to "
                                + (vocabulary - 1));
            }
            ids.add(id.asInt());
        }
        return ids;
    }

    private static JvlmException foreign(String why) {
        return new JvlmException(
                JvlmException.Code.MODEL_FORMAT,
                "The tokenizer belongs to another model: " + why + ". Take all files from the same model");
    }

    private static String ocrQuestion(JsonNode ours) {
        JsonNode question = ours.path("ocr_question");
        if (!question.isString() || ours.size() != 1) {
            throw new JvlmException(JvlmException.Code.MODEL_FORMAT, OURS + " holds something else than the text ocr_question");
        }
        return question.asString();
    }

    private static String fingerprint(ModelFolder folder, SafeTensors tensors, Adapter adapter) {
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("Every Java platform has SHA-256", e);
        }
        List<String> small = new ArrayList<>(List.of(CONFIG, GENERATION, "preprocessor_config.json"));
        small.addAll(TOKENIZER);
        small.stream().filter(folder::has).forEach(name -> {
            add(digest, name.getBytes(StandardCharsets.UTF_8));
            add(digest, folder.bytes(name));
        });
        tensors.identity().forEach(bytes -> add(digest, bytes));
        if (adapter != null) {
            adapter.identity().forEach(bytes -> add(digest, bytes));
        }
        return HexFormat.of().formatHex(digest.digest());
    }

    private static void add(MessageDigest digest, byte[] bytes) {
        digest.update(ByteBuffer.allocate(8).putLong(bytes.length).flip());
        digest.update(bytes);
    }
}
