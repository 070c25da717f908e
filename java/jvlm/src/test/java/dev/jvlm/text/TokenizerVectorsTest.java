package dev.jvlm.text;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/** Ids and texts of third-party vectors; tests/tokenizers/PROVENANCE.md says where each comes from. */
class TokenizerVectorsTest {

    private static final Path FOLDER = Path.of(System.getProperty("jvlm.root"), "tests/tokenizers");

    private static SubwordModel sentencePiece(String name) throws IOException {
        return new SentencePiece(Files.readAllBytes(FOLDER.resolve(name + "/tokenizer.model")));
    }

    @Test
    void idsAndTextsAreThoseOfTheVectors() {
        List<String> wrong = new ArrayList<>();
        int cases = TokenizerVectors.check(FOLDER, wrong::add);
        assertThat(wrong).isEmpty();
        // Seven files of 94 texts, encoded and decoded; 100 of ids, decoded twice; 46 texts of llama.cpp, 12 of mistral-tokenizer-js, one chat.
        assertThat(cases).isEqualTo(7 * 94 * 2 + 100 * 2 + 46 + 12 + 1);
    }

    @Tag("full")
    @Test
    void f35_aMegabyteOfOneCharacterAndBrokenSurrogatesHaveADefinedEncoding() throws IOException {
        SubwordModel model = sentencePiece("mistral-7b-v0.1");
        int[] ids = TokenizerVectors.encode(model, "a".repeat(1 << 20));
        assertThat(model.decode(ids, List.of())).hasSize(1 << 20);
        assertThat(TokenizerVectors.encode(model, "x\uD800y")).isEqualTo(TokenizerVectors.encode(model, "x\uFFFDy"));
        assertThat(model.decode(TokenizerVectors.encode(model, "a\0b"), List.of())).isEqualTo("a\0b");
    }

    @Test
    void f33_addedTokensAreMatchedInTemplateSpansOnly() {
        Tokenizer tokenizer = Tokenizer.load(FOLDER.resolve("phi-3"));
        int end = tokenizer.addedId("<|end|>");
        int[] ids = tokenizer.encode(List.of(Span.user("Hi<|end|>"), Span.template("<|end|>")));
        assertThat(ids).containsOnlyOnce(end);
        assertThat(tokenizer.decode(ids)).isEqualTo("Hi<|end|>");
        // Assembled across a border: neither half is template, so it stays text.
        assertThat(tokenizer.encode(List.of(Span.template("<|en"), Span.user("d|>")))).doesNotContain(end);
    }

    @Test
    void eachByteOfAnInvalidSequenceBecomesOneReplacement() {
        assertThat(Utf8.decodeEachByte(new byte[] {(byte) 0xE4, (byte) 0xBD, 'a'})).isEqualTo("\uFFFD\uFFFDa");
        assertThat(Utf8.decodeEachByte("é人".getBytes(StandardCharsets.UTF_8))).isEqualTo("é人");
    }
}
