# SPDX-License-Identifier: Apache-2.0
# Bash completion of imprimctl. The running server is asked for its commands, so that those of loaded
# modules are offered and no others. What needs no server is offered behind --config.

_imprimctl_usages()
{
    "$@" help 2> /dev/null | tail -n +2
    [[ " $* " == *' --config '* ]] && printf 'imprimctl backup %s FILE\n' restore verify
}

_imprimctl()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local -a own=() words=()
    local i=1 usage

    # Our own options stand in front of the command.
    while ((i < COMP_CWORD)); do
        case ${COMP_WORDS[i]} in
            --socket | --config) own+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]}"); ((i += 2)) ;;
            --json) ((i += 1)) ;;
            *) break ;;
        esac
    done
    case $previous in
        --socket | --config)
            if ((i > COMP_CWORD - 1)); then
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
                return
            fi ;;
    esac
    if ((i == COMP_CWORD)) && [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '--socket --config --json --help --version' -- "$current")
        return
    fi
    words=("${COMP_WORDS[@]:i:COMP_CWORD-i}")

    # Lines of "imprimctl help" begin with a usage line: imprimctl job release JOB [--device DEVICE] ...
    local -a candidates=() parts=()
    local j is_match
    while IFS= read -r usage; do
        read -r -a parts <<< "${usage%%  *}"
        is_match=true
        for ((j = 0; j < ${#words[@]}; j++)); do
            [[ ${words[j]} == -* ]] && continue
            # What is in capitals is an argument and takes anything.
            [[ ${parts[j + 1]} == [A-Z\[]* || -z ${parts[j + 1]} ]] && break
            [[ ${parts[j + 1]} == "${words[j]}" ]] || { is_match=false; break; }
        done
        $is_match || continue
        if [[ $current == -* ]]; then
            for j in "${parts[@]}"; do
                [[ $j == \[--* ]] && j=${j#[} && candidates+=("${j%]}")
            done
        elif [[ ${parts[${#words[@]} + 1]} == [a-z]* ]]; then
            candidates+=("${parts[${#words[@]} + 1]}")
        fi
    done < <(_imprimctl_usages "${COMP_WORDS[0]}" "${own[@]}")
    if ((${#candidates[@]} > 0)); then
        mapfile -t COMPREPLY < <(compgen -W "${candidates[*]}" -- "$current" | sort -u)
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
}
complete -F _imprimctl imprimctl
