# libjvlm_cuda: machine code for what is listed, and PTX for newer cards, which start through the driver's compiler.
# nvcc comes from PATH, CUDACXX or CMAKE_CUDA_COMPILER.
set(JVLM_CUDA_ARCHITECTURES "80-real;86-real;89-real;90-real;90-virtual;120-real" CACHE STRING "as CMAKE_CUDA_ARCHITECTURES")
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)               # CMake 3.25 does not know that nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
# Kernels once: the library, and the programs of tests/gpu that call them directly, are linked from the same objects.
set(CMAKE_CUDA_ARCHITECTURES ${JVLM_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
add_library(cuda_kernels OBJECT ${JVLM_CUDA_SOURCES})
target_include_directories(cuda_kernels PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_options(cuda_kernels PRIVATE -lineinfo)
add_library(jvlm_cuda SHARED $<TARGET_OBJECTS:cuda_kernels>)
set_target_properties(jvlm_cuda PROPERTIES LINKER_LANGUAGE CUDA INSTALL_RPATH "$ORIGIN" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/backends)
target_link_libraries(jvlm_cuda PRIVATE ${CMAKE_DL_LIBS})
