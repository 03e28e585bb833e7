# options that make no sense alone or together
. "$LIB"
touch f
run $INOTIFYWAIT -d f
run $INOTIFYWAIT -d -m f
run $INOTIFYWAIT -c --format %w f
run $INOTIFYWAIT --format %w --csv f
run $INOTIFYWAIT --timefmt %s f
run $INOTIFYWAIT --timefmt %s -c f
run $INOTIFYWAIT --format %T f
run $INOTIFYWAIT --format %%T f
run $INOTIFYWAIT --no-newline f
run $INOTIFYWAIT --no-newline -c f
