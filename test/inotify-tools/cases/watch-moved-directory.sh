# a watched directory that is moved keeps its name
. "$LIB"
mkdir d
start $INOTIFYWATCH d
mv d e
touch e/a
finish
