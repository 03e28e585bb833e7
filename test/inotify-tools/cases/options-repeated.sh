# options given twice
. "$LIB"
mkdir d
run $INOTIFYWAIT -o a -o b d
run $INOTIFYWAIT -mmrrqq -t 1 d
run $INOTIFYWAIT --format %w --format %f --timefmt %s --timefmt %Y -t 1 d
ls
