# which of two mistakes is told
. "$LIB"
run $INOTIFYWAIT --exclude a --include b -c --format x -d
run $INOTIFYWAIT -d -c --format %T f
run $INOTIFYWAIT --timefmt x --no-newline -d f
run $INOTIFYWAIT --no-newline --format %T f
run $INOTIFYWAIT --exclude '(' --fromfile nofile
run $INOTIFYWAIT --exclude '(' --exclude a --include b f
run $INOTIFYWAIT --exclude '(' -c --format x f
run $INOTIFYWAIT --exclude '(' -d f
run $INOTIFYWAIT --exclude '('
run $INOTIFYWAIT -d --fromfile nofile
run $INOTIFYWAIT --fromfile nofile -t x
run $INOTIFYWAIT -o nodir/x -e bad f
run $INOTIFYWAIT -o nodir/x
run $INOTIFYWAIT -o nodir/x nofile
run $INOTIFYWAIT -c --format x --no-newline --timefmt x -d f
