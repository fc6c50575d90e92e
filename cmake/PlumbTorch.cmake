# LibTorch as an imported target of our own (Torch::Torch), visible to the trainer alone: the package's own
# find_package() would leave gRPC without libprotobuf, and its include folder shadows google/protobuf.
if(NOT PLUMB_TORCH_DIR)
  file(GLOB _torch_dirs ${CMAKE_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch)
  list(GET _torch_dirs 0 PLUMB_TORCH_DIR)
endif()
if(NOT EXISTS ${PLUMB_TORCH_DIR}/include/ATen/ATen.h)
  message(FATAL_ERROR "LibTorch not found. Run script/setup, or give -DPLUMB_TORCH_DIR=<folder with include/ and lib/>, "
                      "or build without the trainer: -DPLUMB_TRAINER=OFF")
endif()
message(STATUS "LibTorch: ${PLUMB_TORCH_DIR}")
add_library(plumb_torch INTERFACE)
add_library(Torch::Torch ALIAS plumb_torch)
target_include_directories(plumb_torch SYSTEM INTERFACE
  ${PLUMB_TORCH_DIR}/include ${PLUMB_TORCH_DIR}/include/torch/csrc/api/include)
target_link_directories(plumb_torch INTERFACE ${PLUMB_TORCH_DIR}/lib)
set(_torch_libs torch torch_cpu c10)
if(EXISTS ${PLUMB_TORCH_DIR}/lib/libtorch_cuda.so)
  # Without this the linker drops the CUDA library, whose kernels register themselves on load.
  set(_torch_libs -Wl,--no-as-needed torch torch_cpu torch_cuda c10 c10_cuda -Wl,--as-needed)
  target_compile_definitions(plumb_torch INTERFACE PLUMB_CUDA=1 C10_CUDA_NO_CMAKE_CONFIGURE_FILE=1)
endif()
target_link_libraries(plumb_torch INTERFACE ${_torch_libs})
target_link_options(plumb_torch INTERFACE -Wl,-rpath,${PLUMB_TORCH_DIR}/lib)
