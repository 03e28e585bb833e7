# %s is the time of printing
. "$LIB"
mkdir d
start $INOTIFYWAIT --timefmt %s --format %T -e create d
touch d/a
expect 1
before=$(stat -c %Y d/a)
[ "$(cat "$out")" -ge "$before" ] && [ "$(cat "$out")" -le "$(date +%s)" ] && echo now >"$out"
ends
