# sed -i replaces a file; the new one has a random name first
. "$LIB"
mkdir d
echo a >d/f
start $INOTIFYWAIT -m --format '%e' d
hold
sed -i s/a/b/ d/f
release
finish
