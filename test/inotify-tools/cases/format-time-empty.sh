# a time that formats to nothing keeps the event from being printed
. "$LIB"
mkdir d
start $INOTIFYWAIT --timefmt '' --format '[%T]' d
touch d/a
ends
