# empty items in a list of events are no mistake
. "$LIB"
touch f
for event in '' modify, ,modify modify,,open; do run $INOTIFYWAIT -e "$event" -t 1 f; done
