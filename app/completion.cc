// plumb completion bash: a static script; the words come from `plumb __complete`.
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "app/commands.h"
#include "app/exit_code.h"

namespace plumb::app {

int PrintCompletion(const std::string& shell) {
  if (shell != "bash") {
    return Finish(absl::InvalidArgumentError(
        absl::StrCat("no completion for ", shell, "; there is one for bash")));
  }
  std::fputs(R"(# plumb: source <(plumb completion bash)
_plumb() {
  local IFS=$'\n'
  COMPREPLY=($("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  if [ ${#COMPREPLY[@]} -eq 0 ]; then COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")); fi
}
complete -o filenames -F _plumb plumb
)",
             stdout);
  return kDone;
}

}  // namespace plumb::app
