# -e with what is not an event: the whole argument is quoted
. "$LIB"
for event in bogus modify,bogus,create 'modify open' ' modify' IN_MODIFY dont_follow; do
  run $INOTIFYWAIT -e "$event" f
done
run $INOTIFYWATCH -e bogus f
