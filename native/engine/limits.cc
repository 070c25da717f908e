#include "engine/limits.h"

#include "base/error.h"
#include "base/lines.h"

namespace jvlm {

Limits parse_limits(const std::string& text) {
  auto lines = parse_lines(text);
  auto i32 = [&](const char* key) { return static_cast<int32_t>(integer(lines, key, 1, 1 << 30)); };
  Limits l;
  const std::string& precision = word(lines, "precision");
  if (precision == "float32")
    l.precision = Precision::f32;
  else if (precision == "bf16")
    l.precision = Precision::bf16;
  else if (precision == "int8")
    l.precision = Precision::i8;
  else
    throw request_error("The precision '" + precision + "' is unknown; choose float32, bf16 or int8");
  l.pages = i32("pages");
  l.page_tokens = i32("page_tokens");
  l.sequences = i32("sequences");
  l.step_tokens = i32("step_tokens");
  l.vision_rows = i32("vision_rows");
  l.encode_tiles = i32("encode_tiles");
  l.context = i32("context");
  l.deterministic = integer(lines, "deterministic", 0, 1) == 1;
  if (l.step_tokens < l.sequences) throw request_error("step_tokens is smaller than sequences");
  return l;
}

}  // namespace jvlm
