package dev.jvlm.sampling;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PhiloxTest {

    /** The three vectors of philox4x32 with ten rounds in Random123's own tests (DEShawResearch/random123, tests/kat_vectors). */
    @ParameterizedTest
    @CsvSource({
        "00000000 00000000 00000000 00000000, 00000000 00000000, 6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        "ffffffff ffffffff ffffffff ffffffff, ffffffff ffffffff, 408f276d 41c83b0e a20bc7c6 6d5451fd",
        "243f6a88 85a308d3 13198a2e 03707344, a4093822 299f31d0, d16cfe09 94fdcceb 5001e420 24126ea1"
    })
    void equalsRandom123(String counter, String key, String expected) {
        int[] words = words(counter);
        int[] keys = words(key);
        Philox.apply(words, keys[0], keys[1]);
        assertThat(words).isEqualTo(words(expected));
    }

    @Test
    void theFirstWordIsUnsignedAndTheSeedsHalvesAreTheKey() {
        assertThat(Philox.first(0, 0)).isEqualTo(0x6627e8d5L);
        int[] words = {7, 0, 0, 0};
        Philox.apply(words, 0x89abcdef, 0x01234567);
        assertThat(Philox.first(0x0123456789abcdefL, 7)).isEqualTo(Integer.toUnsignedLong(words[0]));
    }

    private static int[] words(String hex) {
        return Stream.of(hex.split(" ")).mapToInt(w -> Integer.parseUnsignedInt(w, 16)).toArray();
    }
}
