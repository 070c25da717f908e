# libjvlm_cuda: machine code for what is listed, and PTX for newer cards, which start through the driver's compiler.
# nvcc comes from PATH, CUDACXX or CMAKE_CUDA_COMPILER.
set(JVLM_CUDA_ARCHITECTURES "80-real;86-real;89-real;90-real;90-virtual;120-real" CACHE STRING "as CMAKE_CUDA_ARCHITECTURES")
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)               # CMake 3.25 does not know that nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
add_library(jvlm_cuda SHARED ${JVLM_CUDA_SOURCES})
target_include_directories(jvlm_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
set_target_properties(jvlm_cuda PROPERTIES CUDA_ARCHITECTURES "${JVLM_CUDA_ARCHITECTURES}" CUDA_RUNTIME_LIBRARY Static INSTALL_RPATH "$ORIGIN")
