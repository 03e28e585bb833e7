# what fails behind is not told: a missing path, a directory as out file
. "$LIB"
mkdir d
: >log
run $INOTIFYWAIT -d -o log nofile
run $INOTIFYWAIT -d -o log "$PWD/nofile"
run $INOTIFYWAIT -d -o d "$PWD/d"
run $INOTIFYWAIT -d -o log
until_true 'all have ended' nobody_holds "$PWD/log"
cat log
