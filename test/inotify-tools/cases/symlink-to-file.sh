# a link to a file is followed
. "$LIB"
touch f
ln -s f link
start $INOTIFYWAIT -m link
touch f
expect 3
finish
