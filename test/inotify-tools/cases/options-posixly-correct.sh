# POSIXLY_CORRECT: options end at the first path
. "$LIB"
mkdir d
export POSIXLY_CORRECT=1
run $INOTIFYWAIT d -t 1
