# sed -i on the watched file itself
. "$LIB"
echo a >f
start $INOTIFYWAIT -m -e modify,attrib,delete_self,close_write f
sed -i s/a/b/ f
expect 2
finish
