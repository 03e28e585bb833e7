# -d with -t ends by itself
. "$LIB"
mkdir d
: >log
run $INOTIFYWAIT -d -t 6 -o log -e create "$PWD/d"
find_daemon "$PWD/log" 1
touch d/a
expect 1 log
until_true 'it has ended' nobody_holds "$PWD/log"
cat log
