# by total, falling; equal ones in their order on the command line
. "$LIB"
mkdir a b c d
start $INOTIFYWATCH d c b a
touch a/1
touch b/1 b/2
touch c/1 c/2
touch d/1
finish
