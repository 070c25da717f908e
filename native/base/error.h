#pragma once
#include <stdexcept>
#include <string>

namespace jvlm {

// The one exception that leaves native code. what() is "CODE: sentence"; Java splits it at the first colon (dev.jvlm.error.JvlmException).
class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& sentence) : std::runtime_error(std::string(code) + ": " + sentence) {}
};

inline Error model_format(const std::string& s) { return Error("MODEL_FORMAT", s); }
inline Error model_unsupported(const std::string& s) { return Error("MODEL_UNSUPPORTED", s); }
inline Error image_error(const std::string& s) { return Error("IMAGE", s); }
inline Error request_error(const std::string& s) { return Error("REQUEST", s); }
inline Error capacity(const std::string& s) { return Error("CAPACITY", s); }
inline Error device_error(const std::string& s) { return Error("DEVICE", s); }

}  // namespace jvlm
