# open, of a file and of the directory itself
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e open d
echo x >d/a
expect 1
hold
ls d >/dev/null
release
expect 2
finish
