# Completion of exazk for fish. The program itself knows how a command line goes on.
function __exazk_words
    set -l before (commandline --tokenize --cut-at-cursor --current-process)
    set -l last (commandline --cut-at-cursor --current-token)
    set -l found (exazk complete $before[2..-1] "$last" 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path "$last"
        return
    end
    printf '%s\n' $found
end
complete --command exazk --no-files --arguments '(__exazk_words)'
