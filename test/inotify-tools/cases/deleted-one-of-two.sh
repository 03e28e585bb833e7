# one of two watched paths goes: that is enough to exit 1
. "$LIB"
mkdir d
touch f
start $INOTIFYWAIT -e delete d f
rm f
ends
