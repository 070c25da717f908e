# libjvlm_cuda: machine code for what is listed, and PTX for newer cards, which start through the driver's compiler.
# nvcc comes from PATH, CUDACXX or CMAKE_CUDA_COMPILER.
set(JVLM_CUDA_ARCHITECTURES "80-real;86-real;89-real;90-real;90-virtual;120-real" CACHE STRING "as CMAKE_CUDA_ARCHITECTURES")
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
add_library(jvlm_cuda SHARED ${JVLM_CUDA_SOURCES})
target_include_directories(jvlm_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
set_target_properties(jvlm_cuda PROPERTIES CUDA_ARCHITECTURES "${JVLM_CUDA_ARCHITECTURES}" CUDA_RUNTIME_LIBRARY Static INSTALL_RPATH "$ORIGIN")
target_link_libraries(jvlm_cuda PRIVATE ${CMAKE_DL_LIBS})
