# --daemon with an absolute out file, -r, -c and -q
. "$LIB"
mkdir d
: >log
run $INOTIFYWAIT --daemon --outfile "$PWD/log" -r -c -q -e create "$PWD/d"
find_daemon "$PWD/log" 1
mkdir d/s
daemonized_twice() { daemonized "$PWD/log" 2; }
until_true 'it watches the new directory' daemonized_twice
touch d/s/a
expect 2 log
kill "$daemon"
cat log
