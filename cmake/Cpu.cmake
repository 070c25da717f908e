# One source, four instruction sets, one binary: each file given is compiled with JVLM_ISA naming the namespace that its functions
# live in (ops/cpu/isa.h chooses at run time).
#   portable  what the compiler assumes by default; on x86-64 that is SSE2
#   avx2      Haswell and later: AVX2, FMA, F16C
#   avx512    Zen 4, Sapphire Rapids and later: AVX-512 F, BW, DQ, VL, VNNI, VBMI, BF16
#   amx       Sapphire Rapids and later where the system lets it: avx512 and tiles of bf16
set(JVLM_ISAS portable)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND JVLM_ISAS avx2 avx512 amx)
endif()
set(JVLM_FLAGS_portable "")
set(JVLM_FLAGS_avx2 -mavx2 -mfma -mf16c)
# gcc 12 warns of uninitialised values inside its own AVX-512 headers.
set(JVLM_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512vbmi -mavx512bf16 -mfma -mf16c -mprefer-vector-width=512
    -Wno-uninitialized -Wno-maybe-uninitialized)
set(JVLM_FLAGS_amx ${JVLM_FLAGS_avx512} -mamx-tile -mamx-bf16)

function(add_isa_objects name isa flags)
  add_library(${name} OBJECT ${ARGN})
  target_compile_definitions(${name} PRIVATE JVLM_ISA=${isa} JVLM_ISA_${isa}=1)
  target_compile_options(${name} PRIVATE ${flags} -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wno-psabi)
  target_link_libraries(${name} PRIVATE jvlm_options)
endfunction()

function(add_isa_library name)
  add_library(${name} INTERFACE)
  foreach(isa ${JVLM_ISAS})
    add_isa_objects(${name}_${isa} ${isa} "${JVLM_FLAGS_${isa}}" ${ARGN})
    target_sources(${name} INTERFACE $<TARGET_OBJECTS:${name}_${isa}>)
  endforeach()
endfunction()

# oneDNN: DNNL_ROOT is a folder with include/ and libdnnl.so.3 (Maven unpacks it out of org.bytedeco:dnnl). Without it our own product serves.
set(DNNL_ROOT "" CACHE PATH "folder with include/ and libdnnl.so.3; empty: build without oneDNN")
if(DNNL_ROOT)
  add_library(dnnl SHARED IMPORTED)
  set_target_properties(dnnl PROPERTIES IMPORTED_LOCATION ${DNNL_ROOT}/libdnnl.so.3
                                        INTERFACE_INCLUDE_DIRECTORIES ${DNNL_ROOT}/include
                                        INTERFACE_COMPILE_DEFINITIONS JVLM_ONEDNN=1)
endif()
