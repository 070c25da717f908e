#include "base/lines.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "base/error.h"

namespace jvlm {

std::map<std::string, std::string> parse_lines(const std::string& text) {
  std::map<std::string, std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    auto space = line.find(' ');
    if (space == std::string::npos) throw model_format("'" + line + "' is no 'key value' line");
    if (!lines.emplace(line.substr(0, space), line.substr(space + 1)).second)
      throw model_format("'" + line.substr(0, space) + "' is given twice");
  }
  return lines;
}

const std::string& word(const std::map<std::string, std::string>& lines, const std::string& key) {
  auto it = lines.find(key);
  if (it == lines.end()) throw model_format("'" + key + "' is missing");
  return it->second;
}

int64_t integer(const std::map<std::string, std::string>& lines, const std::string& key, int64_t least, int64_t most) {
  const std::string& text = word(lines, key);
  char* end = nullptr;
  errno = 0;
  long long value = std::strtoll(text.c_str(), &end, 10);
  if (errno || end == text.c_str() || *end || value < least || value > most)
    throw model_format("'" + key + "' is " + text + "; it must be between " + std::to_string(least) + " and " + std::to_string(most));
  return value;
}

double number(const std::map<std::string, std::string>& lines, const std::string& key) {
  const std::string& text = word(lines, key);
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end || !std::isfinite(value)) throw model_format("'" + key + "' is " + text + ", which is no number");
  return value;
}

}  // namespace jvlm
