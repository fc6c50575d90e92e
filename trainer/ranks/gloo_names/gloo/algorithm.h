// LibTorch's ProcessGroupGloo.hpp includes five headers of Gloo, which its packages do not hold,
// and needs of them the names of classes that it has pointers to. The files of this folder declare
// those names and no more (docs/decisions/0002-ranks.md); objects come from LibTorch's library.
#pragma once
