#!/bin/sh
# lastgood pre-receive 2: refuses pushes to held branches. lastgood writes this file anew; put a hook of your own
# beside it as pre-receive.before-lastgood: it is called with the same input.
branches='@BRANCHES@'
unreadable='@UNREADABLE@'
holds="${GIT_DIR:-.}/lastgood/holds"

input=$(cat)
now=$(date +%s)
stops=
broken=
if [ -d "$holds" ] && [ -r "$holds" ] && [ -x "$holds" ]; then
    for file in "$holds"/hold-*; do
        [ -e "$file" ] || continue
        until=$(sed -n 's/^until=//p' "$file" 2>/dev/null)
        case $until in
            '' | *[!0-9]*) broken=$file ;;
            *) if [ "$until" -eq 0 ] || [ "$now" -lt "$until" ]; then stops="$stops ${file##*/}"; fi ;;
        esac
    done
else
    broken=$holds
fi

# From here on a * is one of the configuration, not one for the shell to expand.
set -f
is_held() {
    for pattern in $branches; do
        case $1 in
            $pattern) return 0 ;;
        esac
    done
    return 1
}
# A second person agreed that a branch may be moved to this very commit, for a time.
lets_pass() {
    until=$(sed -n "s/^pass=$2 //p" "$holds/$1" 2>/dev/null | tail -n 1)
    case $until in
        '' | *[!0-9]*) return 1 ;;
    esac
    [ "$now" -lt "$until" ]
}
refused=
while IFS=' ' read -r _ new ref; do
    is_held "$ref" || continue
    for hold in $stops; do
        if lets_pass "$hold" "$new"; then continue; fi
        refused=yes
        owner=$(sed -n 's/^owner=//p' "$holds/$hold")
        reason=$(sed -n 's/^reason=//p' "$holds/$hold")
        printf 'lastgood: %s is held by %s, set by %s: %s\n' "$ref" "$hold" "$owner" "$reason" >&2
    done
    if [ -n "$broken" ] && [ "$unreadable" = refuse ]; then
        refused=yes
        printf 'lastgood: %s is refused: %s can not be read, and holds may stand\n' "$ref" "$broken" >&2
    fi
done <<INPUT
$input
INPUT
[ -z "$refused" ] || exit 1

# git calls this without arguments; lastgood reads back with one.
[ $# -eq 0 ] || exit 0
before="$0.before-lastgood"
[ -x "$before" ] || exit 0
printf '%s\n' "$input" | "$before"
