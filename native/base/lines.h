#pragma once
#include <cstdint>
#include <map>
#include <string>

namespace jvlm {

// The texts that Java sends are "key value" lines. Both readers throw MODEL_FORMAT, naming the line.
std::map<std::string, std::string> parse_lines(const std::string& text);
int64_t integer(const std::map<std::string, std::string>& lines, const std::string& key, int64_t least, int64_t most);
double number(const std::map<std::string, std::string>& lines, const std::string& key);
const std::string& word(const std::map<std::string, std::string>& lines, const std::string& key);

}  // namespace jvlm
