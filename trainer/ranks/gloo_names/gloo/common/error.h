// See gloo/algorithm.h beside this folder.
#pragma once
