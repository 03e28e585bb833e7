# a watched file is moved: its name stays what it was
. "$LIB"
touch f
start $INOTIFYWAIT -m f
mv f g
touch g
expect 4
finish
