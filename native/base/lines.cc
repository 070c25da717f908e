#include "base/lines.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "base/error.h"

namespace jvlm {

Lines parse_lines(const std::string& text) {
  Lines lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    auto space = line.find(' ');
    if (space == std::string::npos) throw model_format("'" + line + "' is no 'key value' line");
    if (!lines.values.emplace(line.substr(0, space), line.substr(space + 1)).second)
      throw model_format("'" + line.substr(0, space) + "' is given twice");
  }
  return lines;
}

const std::string& word(const Lines& lines, const std::string& key) {
  auto it = lines.values.find(key);
  if (it == lines.values.end()) throw model_format("'" + key + "' is missing");
  lines.read.insert(key);
  return it->second;
}

int64_t integer(const Lines& lines, const std::string& key, int64_t least, int64_t most) {
  const std::string& text = word(lines, key);
  char* end = nullptr;
  errno = 0;
  long long value = std::strtoll(text.c_str(), &end, 10);
  if (errno || end == text.c_str() || *end || value < least || value > most)
    throw model_format("'" + key + "' is " + text + "; it must be between " + std::to_string(least) + " and " + std::to_string(most));
  return value;
}

double number(const Lines& lines, const std::string& key) {
  const std::string& text = word(lines, key);
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end || !std::isfinite(value)) throw model_format("'" + key + "' is " + text + ", which is no number");
  return value;
}

void refuse_unread(const Lines& lines) {
  for (const auto& line : lines.values)
    if (!lines.read.count(line.first)) throw model_format("'" + line.first + "' is no key of such a model");
}

}  // namespace jvlm
