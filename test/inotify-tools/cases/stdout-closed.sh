# the reader goes away: the next event ends it
. "$LIB"
mkdir d
mkfifo pipe
: >"$err"
sh -c 'echo $$ >pid; exec "$@"' sh $INOTIFYWAIT -m -e create d >pipe 2>"$err" &
head -n 1 <pipe >first &
reader=$!
until_true 'it watches' grep -q established "$err"
touch d/a
wait $reader
touch d/b
read -r watcher <pid
until_true 'it ends' gone
watcher=
cat first "$err"
