#include "engine/backend.h"

#include "base/error.h"
#include "base/os.h"

namespace jvlm {
namespace {

using MakeOps = Ops* (*)(int device, int act, int deterministic);      // jvlm_make_ops of a backend's library

MakeOps backend(const std::string& library) {
  return reinterpret_cast<MakeOps>(os::library_symbol(library, "jvlm_make_ops", "JVLM_BACKENDS"));
}

std::unique_ptr<Ops> make_cuda(int card, Dtype act, bool deterministic) {
  const MakeOps make = backend("libjvlm_cuda.so");
  if (!make && !os::nvidia_driver()) throw device_error("This machine has no NVIDIA driver, hence no device 'cuda:" + std::to_string(card) + "'; choose auto or cpu");
  if (!make)
    throw device_error(
        "There is an NVIDIA driver, but not jvlm's CUDA library. Build it with nvcc (README, GPU) and name its folder in JVLM_BACKENDS, or choose "
        "the device cpu");
  return std::unique_ptr<Ops>(make(card, static_cast<int>(act), deterministic));
}

}  // namespace

std::unique_ptr<Ops> make_ops(const std::string& device, Precision precision, bool deterministic) {
  const Dtype act = act_of(precision);
  if (device == "cpu" && deterministic)
    throw device_error(
        "The device cpu has no deterministic mode: its products are chosen by how many rows are computed at once. Choose a CUDA device, or leave "
        "deterministic out");
  if (device == "cpu") return make_cpu_ops(act);
  if (device == "reference") return make_reference_ops(act);
  if (device == "emu") {
    const MakeOps make = backend("libjvlm_emu.so");
    if (!make) throw device_error("The emulation of the CUDA kernels is for tests and is not part of this build; choose auto or cpu");
    return std::unique_ptr<Ops>(make(0, static_cast<int>(act), deterministic));
  }
  if (device.rfind("cuda:", 0) == 0 && device.size() > 5 && device.size() <= 8 && device.find_first_not_of("0123456789", 5) == std::string::npos)
    return make_cuda(std::stoi(device.substr(5)), act, deterministic);
  throw device_error("There is no device '" + device + "'; a device is cpu, or cuda:0, cuda:1 and so on");
}

std::string list_devices() {
  std::string text, why;
  auto describe = [](const std::string& name) { return make_ops(name, Precision::bf16)->description(); };
  try {
    for (int card = 0; card < 16; ++card) {
      const std::string name = "cuda:" + std::to_string(card);
      text += name + "\t" + describe(name) + "\n";
    }
  } catch (const Error& e) {                               // after the last card, or before the first
    if (text.empty() && os::nvidia_driver()) why = "; not cuda:0: " + std::string(e.what()).substr(std::string(e.what()).find(": ") + 2);
  }
  text += "cpu\t" + describe("cpu") + why + "\n";
  if (backend("libjvlm_emu.so")) text += "emu\t" + describe("emu") + "\n";
  return text;
}

}  // namespace jvlm
