# USR1 prints it and goes on; counts are kept
. "$LIB"
mkdir d e
start $INOTIFYWATCH -e create d e
touch d/a
tell USR1
idle
touch e/a e/b
tell USR1
idle
touch d/c
finish
