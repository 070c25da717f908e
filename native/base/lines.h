#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>

namespace jvlm {

// The texts that Java sends are "key value" lines. All readers throw MODEL_FORMAT, naming the line.
struct Lines {
  std::map<std::string, std::string> values;
  mutable std::set<std::string> read;       // the keys that someone asked for
};

Lines parse_lines(const std::string& text);
int64_t integer(const Lines& lines, const std::string& key, int64_t least, int64_t most);
double number(const Lines& lines, const std::string& key);
const std::string& word(const Lines& lines, const std::string& key);
void refuse_unread(const Lines& lines);     // which keys there may be depends on others: what nobody asked for is unknown

}  // namespace jvlm
