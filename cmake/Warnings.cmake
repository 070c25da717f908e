add_compile_options(-Wall -Wextra -Wno-unused-parameter -Wno-unknown-pragmas -fvisibility=hidden)
if(JVLM_WERROR)
  add_compile_options(-Werror)
endif()
